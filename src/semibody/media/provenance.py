"""Content credentials (C2PA): a signed statement in a video that a trained model made it, and from what.

Made offline with a key of this machine, so the signature shows that nothing was changed since, not who made
it: no list of trusted signers knows the key, and readers say so. Needs the extra ``provenance``; videos carry
the credentials wherever it is installed, unless ``SEMIBODY_PROVENANCE=off``.

The statement names portrait and speech by the SHA-256 of their files, not by their names or content.
"""

from __future__ import annotations

import datetime
import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semibody.files import LARGEST_TEXT, atomic_write, digest, first_line, read_bytes
from semibody.types import MissingPartError, SemibodyError

TYPES = {".mp4": "video/mp4", ".mov": "video/quicktime"}
"""What can carry credentials; .mkv cannot."""
_SETTINGS = {
    "builder": {"thumbnail": {"enabled": False}},
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
}
"""Nothing is fetched; no picture of the video is stored in it."""
_UNTRUSTED = "signingCredential.untrusted"
_HASH = "sha256:"
_YEARS = 10


def is_on() -> bool:
    """Whether videos get credentials: the extra is installed, and the user has not switched them off."""
    switched_off = os.environ.get("SEMIBODY_PROVENANCE", "").lower() in ("off", "0", "no")
    return not switched_off and importlib.util.find_spec("c2pa") is not None


# -- the key -------------------------------------------------------------------------------


def key_path() -> Path:
    """The file of private key and certificates: ``SEMIBODY_SIGNING_KEY``, or one made at first use."""
    given = os.environ.get("SEMIBODY_SIGNING_KEY")
    if given:
        return Path(given)
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "semibody" / "signing-key.pem"


def signer() -> Any:
    """Sign with the key of ``key_path``. Raises SemibodyError naming a file that holds no usable key."""
    import c2pa

    path = key_path()
    if not path.exists():
        if os.environ.get("SEMIBODY_SIGNING_KEY"):
            raise SemibodyError(f"{path}: no such file; name a PEM file in SEMIBODY_SIGNING_KEY, or unset it")
        _make_key(path)
    content = read_bytes(path, "remove it, and a new key is made", LARGEST_TEXT)
    key, begin, chain = content.partition(b"-----BEGIN CERTIFICATE-----")
    if b"PRIVATE KEY-----" not in key or not begin:
        raise SemibodyError(f"{path}: {_NO_KEY}")
    try:
        info = c2pa.C2paSignerInfo(_algorithm(key), begin + chain, key, None)
        return c2pa.Signer.from_info(info)
    except (c2pa.C2paError, ValueError, TypeError) as error:
        raise SemibodyError(f"{path}: {_NO_KEY} ({first_line(error)})") from None


_NO_KEY = (
    "holds no private key with its certificates in PEM; remove it and a new one is made, "
    "or name another in SEMIBODY_SIGNING_KEY"
)


def _algorithm(pem: bytes) -> str:
    """C2PA's name of the key's signature. Raises ValueError for other keys."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(pem, None)
    except (TypeError, UnsupportedAlgorithm) as error:  # TypeError: it wants a password
        raise ValueError(first_line(error)) from None
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.key_size in _CURVES:
        return _CURVES[key.key_size]
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "ed25519"
    if isinstance(key, rsa.RSAPrivateKey):
        return "ps256"
    raise ValueError("its kind is not one that C2PA signs with")


_CURVES = {256: "es256", 384: "es384", 521: "es512"}


def _make_key(path: Path) -> None:
    """Write a new private key with its certificates, readable by its owner alone."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, authority = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    # C2PA wants a certificate that another one signs. That other's key signs nothing else, and is not kept.
    chain = _certificate(key.public_key(), authority, is_authority=False)
    chain += _certificate(authority.public_key(), authority, is_authority=True)
    with atomic_write(path) as unfinished:
        unfinished.chmod(0o600)  # before anything is in it; atomic_write keeps its first permissions
        unfinished.write_bytes(private + chain)
    path.chmod(0o600)


def _certificate(subject: Any, authority: Any, *, is_authority: bool) -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    def name(common: str) -> x509.Name:
        return x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Semibody (a local key, nobody's identity)"),
                x509.NameAttribute(NameOID.COMMON_NAME, common),
            ]
        )

    start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    usage = x509.KeyUsage(
        digital_signature=not is_authority, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, key_cert_sign=is_authority, crl_sign=is_authority,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip
    public = authority.public_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(name("local authority" if is_authority else "local signer"))
        .issuer_name(name("local authority"))
        .public_key(subject)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=365 * _YEARS))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(subject), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .add_extension(usage, critical=True)
    )
    if not is_authority:
        purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        builder = builder.add_extension(purpose, critical=False)
    return builder.sign(authority, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


# -- writing and reading -------------------------------------------------------------------


def notes_of(sources: Mapping[str, Path]) -> dict[str, Any]:
    """What goes into a video's metadata for its credentials: SHA-256 of files by what they are (portrait,
    speech). Nothing where credentials are off. Raises SemibodyError for a file that cannot be read."""
    return {"sources": {what: digest(path) for what, path in sources.items()}} if is_on() else {}


def wanted(video: Path, metadata: Mapping[str, Any]) -> dict[str, str] | None:
    """The sources that a new video's credentials will name; None: it gets none.

    It gets them if its metadata say that it was made here, and its container can carry them. Raises
    SemibodyError for a key that cannot sign, before the work.
    """
    if "semibody" not in metadata or video.suffix.lower() not in TYPES or not is_on():
        return None
    signer().close()
    return dict(metadata.get("sources", {}))


def sign(video: Path, sources: Mapping[str, str]) -> None:
    """Give an unfinished video its credentials, and read them back; ``sources`` as from ``wanted``.

    Raises SemibodyError if they cannot be made or do not validate.
    """
    import c2pa

    import semibody

    statement = {
        "claim_generator_info": [{"name": "Semibody", "version": semibody.__version__}],
        "title": "A clip made by a trained model",
        "format": TYPES[video.suffix.lower()],
        "ingredients": [
            {
                "title": what,
                "relationship": "inputTo",
                "instance_id": _HASH + hashed,
                "description": f"SHA-256 of the {what}'s file",
            }
            for what, hashed in sources.items()
        ],
    }
    signed = video.with_name(f"{video.stem}.signed{video.suffix}")
    try:
        with c2pa.Context.from_dict(_SETTINGS) as context, c2pa.Builder(statement, context) as builder:
            builder.set_intent(
                c2pa.C2paBuilderIntent.CREATE, c2pa.C2paDigitalSourceType.TRAINED_ALGORITHMIC_MEDIA
            )
            with video.open("rb") as source, signed.open("w+b") as target:
                builder.sign(signer(), TYPES[video.suffix.lower()], source, target)
        found = read(signed)
        if found is None or not found.intact or found.sources != dict(sources):
            raise SemibodyError(f"{key_path()}: the credentials made with it do not validate; {_NO_KEY}")
        signed.replace(video)
    except c2pa.C2paError as error:
        raise SemibodyError(f"{key_path()}: cannot sign a video ({first_line(error)}); {_NO_KEY}") from None
    finally:
        signed.unlink(missing_ok=True)


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """What a video says of itself."""

    maker: str
    """program and version"""
    made_by_model: bool
    """it states that a trained model made it"""
    signer: str
    intact: bool
    """statement and video are as they were signed"""
    known: bool
    """the signer is one of those that C2PA's readers trust"""
    sources: dict[str, str]
    """SHA-256 of the files it was made from"""
    failures: tuple[str, ...] = ()
    """C2PA's codes of what does not validate"""


def read(video: Path) -> Credentials | None:
    """The credentials of a video; None: it has none. Nothing is fetched.

    Raises MissingPartError without the extra, SemibodyError for credentials that cannot be read.
    """
    try:
        import c2pa
    except ImportError:
        raise MissingPartError(
            "content credentials need c2pa-python; run: pip install 'semibody[provenance]'"
        ) from None
    if video.suffix.lower() not in TYPES:
        return None
    try:
        with c2pa.Context.from_dict(_SETTINGS) as context, c2pa.Reader(video, context=context) as reader:
            manifest = reader.get_active_manifest() or {}
            results = reader.get_validation_results() or {}
    except c2pa.C2paError.ManifestNotFound:
        return None
    except c2pa.C2paError as error:
        raise SemibodyError(
            f"{video}: its content credentials cannot be read ({first_line(error)}); get the file again"
        ) from None
    failures = {one["code"] for one in results.get("activeManifest", {}).get("failure", [])}
    kinds = {
        str(action.get("digitalSourceType", "")).rpartition("/")[2]
        for one in manifest.get("assertions", [])
        if one["label"].startswith("c2pa.actions")
        for action in one["data"]["actions"]
    }
    made_by = (manifest.get("claim_generator_info") or [{}])[0]
    return Credentials(
        maker=f"{made_by.get('name', '')} {made_by.get('version', '')}".strip(),
        made_by_model="trainedAlgorithmicMedia" in kinds,
        signer=manifest.get("signature_info", {}).get("issuer", ""),
        intact=not failures - {_UNTRUSTED},
        known=_UNTRUSTED not in failures,
        sources={
            one["title"]: one["instance_id"].removeprefix(_HASH)
            for one in manifest.get("ingredients", [])
            if str(one.get("instance_id", "")).startswith(_HASH)
        },
        failures=tuple(sorted(failures)),
    )
