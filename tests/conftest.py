"""What every test may ask for: the recorded numbers, the shared inputs, a quiet environment."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Generator, Iterator, Sequence
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from loopback import StandIn

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"
GOLDEN = ROOT / "tests" / "golden"

# Commands started by tests must run this checkout, whatever is installed.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# A shell that runs the tests in the background has Ctrl-C ignored; the commands that tests stop with it
# would inherit that, and never end.
signal.signal(signal.SIGINT, signal.default_int_handler)


def shared_folder(name: str) -> Path:
    """A folder beside the checkout, or a skip that says what is missing."""
    folder = Path(os.environ.get("SEMIBODY_SHARED", SHARED)) / name
    if not folder.is_dir():
        pytest.skip(f"{name} is not here (set SEMIBODY_SHARED to the folder that holds it)")
    return folder


def require_renderer() -> None:
    """Skip, saying what is missing, where people can be neither drawn nor spoken for."""
    import shutil

    from semibody.data.synthetic import render
    from semibody.types import SemibodyError
    from semibody.voices import espeak

    try:
        render.require_renderer()
    except SemibodyError as error:
        pytest.skip(str(error))
    if espeak.find_library() is None and shutil.which("flite") is None:
        pytest.skip("neither espeak-ng nor flite is installed")


@pytest.fixture
def shared_inputs() -> Path:
    """Portraits, speech, gestures and clips; tests only."""
    return shared_folder("inputs")


@pytest.fixture
def shared_golden() -> Path:
    """Numbers recorded from the published code; without the whole set, the few that lie beside the tests."""
    given = os.environ.get("SEMIBODY_GOLDEN")
    if given and Path(given).is_dir():
        return Path(given)
    whole = Path(os.environ.get("SEMIBODY_SHARED", SHARED)) / "golden"
    return whole if whole.is_dir() else GOLDEN


REMEDIES = (
    ("espeak", "apt-get install espeak-ng"),
    ("EGL", "apt-get install libegl1 libgl1-mesa-dri"),
    (
        "could not import|the extra|is the reference|mediapipe is not|anny package",
        "pip install -e '.[all,dev]'",
    ),
    ("SEMIBODY_SHARED|MakeHuman|the shared", "SEMIBODY_SHARED=<folder with inputs and assets>"),
    ("holds no |recorded", "SEMIBODY_GOLDEN=<folder of recorded numbers>"),
)
"""What a skip's reason says, and what lets the test run."""


def how_to_run(reasons: Sequence[str]) -> str:
    """One line: how many tests were skipped, and what it takes to run them."""
    needed = [remedy for pattern, remedy in REMEDIES if any(re.search(pattern, why) for why in reasons)]
    return f"{len(reasons)} tests skipped; to run them: {'; '.join(needed) or 'see the reasons above'}"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Generator[None]:
    yield
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = [str(report.longrepr[2] if isinstance(report.longrepr, tuple) else "") for report in skipped]
    if reasons:
        terminalreporter.write_line(how_to_run(reasons))


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[type[StandIn]]:
    """The Hub that fetching asks, on this machine; what is fetched goes to ``tmp_path / "home"``."""
    import huggingface_hub.constants as constants

    server = ThreadingHTTPServer(("127.0.0.1", 0), StandIn)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("SEMIBODY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_ENDPOINT", address)
    StandIn.requests.clear()
    StandIn.broken.clear()
    StandIn.files.clear()
    yield StandIn
    server.shutdown()
    server.server_close()
    thread.join()
