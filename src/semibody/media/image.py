"""Pictures: png, jpeg, webp and a few other formats, as uint8 (h, w, 3) sRGB, with their opacity if asked."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from semibody.files import atomic_write, first_line, require_file
from semibody.types import SemibodyError

WHITE = (255, 255, 255)
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "PPM")
"""Pillow's names of the formats that are read: cameras', browsers' and scanners'.

Left out are those that start another program (EPS), documents, and rare ones, which are less tested.
"""


Colour = tuple[int, int, int]
Opacity = NDArray[np.float32]
"""(h, w), 0 transparent to 1 opaque."""
_NOT_PICTURES = (
    (b"ftyphei", "a HEIC photograph; export it as JPEG (iPhone: Settings, Camera, Formats, Most Compatible)"),
    (b"ftypmif1", "a HEIC photograph; export it as JPEG"),
    (b"ftyp", "a video; save one of its frames as png and give that"),
    (b"\x1aE\xdf\xa3", "a video; save one of its frames as png and give that"),
    (b"WAVE", "sound; the picture comes first, then the recording"),
    (b"ID3", "sound; the picture comes first, then the recording"),
    (b"OggS", "sound; the picture comes first, then the recording"),
    (b"fLaC", "sound; the picture comes first, then the recording"),
)
"""What else is given as a picture: letters among the first 16 bytes, and the words for it."""


def read_image(path: Path | str, background: Colour = WHITE) -> NDArray[np.uint8]:
    """Read a picture upright (EXIF rotation applied), transparent parts over ``background``.

    Colours are those of sRGB: a picture with another profile (Display P3 of phones, Adobe RGB, CMYK) is
    converted. Of an animated picture the first frame is taken. Raises SemibodyError, naming the file.
    """
    return read_cutout(path, background)[0]


def read_cutout(path: Path | str, background: Colour = WHITE) -> tuple[NDArray[np.uint8], Opacity | None]:
    """As ``read_image``, and the picture's opacity; None where it is opaque everywhere."""
    path = Path(path)
    require_file(path, "a png, jpeg or webp picture")
    try:
        with warnings.catch_warnings():
            # Pillow warns at 90 and refuses at 180 megapixels; both are too many here.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            warnings.filterwarnings("ignore", category=UserWarning)
            with Image.open(path, formats=FORMATS) as opened:
                picture = ImageOps.exif_transpose(opened)
                return _flatten(_in_srgb(picture), background)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise SemibodyError(f"{path}: has too many pixels; scale it below 80 megapixels") from None
    except UnidentifiedImageError:
        raise SemibodyError(f"{path}: is {_what_else(path)}") from None
    except Exception as error:  # picture decoders raise errors of any kind
        raise SemibodyError(
            f"{path}: the picture is damaged ({first_line(error)}); export it again"
        ) from None


def _what_else(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(16)
    found = (words for letters, words in _NOT_PICTURES if letters in start)
    return next(found, "not a picture that is read here; give a png, jpeg or webp file")


def _in_srgb(picture: Image.Image) -> Image.Image:
    """The picture in sRGB; as it is where it has no profile, that of sRGB, or one that cannot be used."""
    from PIL import ImageCms

    profile = picture.info.get("icc_profile")
    if not profile:
        return picture
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(own).lower():
            return picture
        mode = "RGBA" if picture.mode == "RGBA" else "RGB"
        made = ImageCms.profileToProfile(picture, own, ImageCms.createProfile("sRGB"), outputMode=mode)
    except (ImageCms.PyCMSError, OSError, ValueError):
        return picture
    return picture if made is None else made


def _flatten(picture: Image.Image, background: Colour) -> tuple[NDArray[np.uint8], Opacity | None]:
    if picture.mode.startswith("I;16") or picture.mode in ("I", "F"):
        # More than 8 bits of grey: Pillow would clip them to white.
        levels = np.asarray(picture, dtype=np.float64)
        white = 65535.0 if picture.mode.startswith("I;16") else max(levels.max(), 1.0)
        grey = Image.fromarray(np.rint(levels / white * 255).astype(np.uint8))
        return np.asarray(grey.convert("RGB")), None
    if not picture.has_transparency_data:
        return np.asarray(picture.convert("RGB")), None
    picture = picture.convert("RGBA")
    below = Image.new("RGBA", picture.size, (*background, 255))
    alpha = np.asarray(picture.getchannel("A"), np.float32) / np.float32(255)
    shown = np.asarray(Image.alpha_composite(below, picture).convert("RGB"))
    return shown, alpha if (alpha < 1).any() else None


def resize_image(rgb: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Scale a picture to ``width`` x ``height`` with Lanczos, whatever its aspect."""
    if rgb.shape[:2] == (height, width):
        return rgb
    return np.asarray(Image.fromarray(rgb).resize((width, height), Image.Resampling.LANCZOS))


def write_gif(path: Path | str, frames: NDArray[np.uint8], fps: float, *, colours: int = 256) -> None:
    """Write uint8 (f, h, w, 3) RGB as an endless GIF, all or nothing; the same frames give the same bytes.

    One palette for all frames and no dithering: pixels that do not change then take no space. GIF has time in
    hundredths of a second, so ``fps`` is rounded to 100 / n.
    """
    path = Path(path)
    if path.suffix.lower() != ".gif":
        raise SemibodyError(f"{path}: an animated picture is written as .gif")
    # A sample of all frames, side by side, so that the palette fits all of them.
    palette = Image.fromarray(np.concatenate(list(frames[:: max(1, len(frames) // 8)]), axis=1)).quantize(
        colours
    )
    pictures = [Image.fromarray(f).quantize(palette=palette, dither=Image.Dither.NONE) for f in frames]
    with atomic_write(path) as unfinished:
        pictures[0].save(
            unfinished, save_all=True, append_images=pictures[1:], duration=10 * max(2, round(100 / fps)),
            loop=0, optimize=False,
        )  # fmt: skip


def write_image(path: Path | str, rgb: NDArray[np.uint8]) -> None:
    """Write uint8 (h, w, 3) RGB in the format of the file's ending, all or nothing."""
    path = Path(path)
    with atomic_write(path) as unfinished:
        try:
            Image.fromarray(rgb).save(unfinished)
        except ValueError:
            raise SemibodyError(f"{path}: unknown picture format; use .png, .jpg or .webp") from None
