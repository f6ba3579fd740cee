"""What the test suite says of tests that were skipped."""

from __future__ import annotations

from conftest import how_to_run


def test_skips_are_answered_by_what_lets_them_run() -> None:
    reasons = [
        "Skipped: no OpenGL through EGL (no libEGL); install it (Debian: apt install libegl1)",
        "Skipped: espeak-ng is not installed",
        "Skipped: espeak-ng is not installed",
        "Skipped: inputs is not here (set SEMIBODY_SHARED to the folder that holds it)",
    ]
    assert how_to_run(reasons) == (
        "4 tests skipped; to run them: apt-get install espeak-ng; apt-get install libegl1 libgl1-mesa-dri; "
        "SEMIBODY_SHARED=<folder with inputs and assets>"
    )


def test_each_reason_leads_to_its_own_remedy() -> None:
    golden = how_to_run(["tests/golden holds no e2e_*.npz with image_u8"])
    assert golden.endswith("to run them: SEMIBODY_GOLDEN=<folder of recorded numbers>")
    assert how_to_run(["could not import 'dlib': no module"]).endswith(
        "to run them: pip install -e '.[all,dev]'"
    )
    assert how_to_run(["needs the shared clips"]).endswith("=<folder with inputs and assets>")
    assert how_to_run(["limits of POSIX"]) == "1 tests skipped; to run them: see the reasons above"
