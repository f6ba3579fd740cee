"""Published lists of videos."""

from __future__ import annotations

from pathlib import Path

import pytest

from semibody.clips.listing import read_listing
from semibody.types import SemibodyError


def test_published_lists_name_files_and_times(tmp_path: Path) -> None:
    emtd = tmp_path / "emtd.txt"
    emtd.write_text(
        "URL,start_timecode,end_timecode\n"
        "https://www.youtube.com/watch?v=ab-C_1,0:00:01.5,0:00:03\n"
        "https://www.youtube.com/watch?v=ab-C_1,2,4\n"
    )
    assert read_listing(emtd) == {"ab-C_1": [(1.5, 3.0), (2.0, 4.0)]}
    humanvid = tmp_path / "pexels.txt"
    humanvid.write_text("https://videos.pexels.com/video-files/49/49-hd_1920_1080_24fps.mp4\n")
    assert read_listing(humanvid) == {"49-hd_1920_1080_24fps": []}


@pytest.mark.parametrize("text", ["", "https://youtu.be/abc,5,2\n", "https://youtu.be/abc,soon,later\n"])
def test_a_list_that_makes_no_sense_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(SemibodyError, match=r"list\.txt"):
        read_listing(tmp_path / "list.txt")
