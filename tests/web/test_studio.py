"""What the page does, with a small model and without a page."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import made
from semibody import media
from semibody.settings import Source, Words
from semibody.types import SemibodyError
from semibody.web.actions import BEST, CONTROLS, FAST, FROM_VIDEO, NOTHING, OWN, RECORDED, SPOKEN, Actions
from semibody.web.jobs import Jobs, StoppedError
from semibody.web.studio import Made, Order, Studio, is_video
from semibody.web.uploads import Store
from web.served import write_inputs


@pytest.fixture(scope="module")
def studio() -> Iterator[Studio]:
    with Store() as store:
        made_studio = Studio(Source(weights="somewhere/small"), store)
        made_studio.use(made.animator())
        yield made_studio


@pytest.fixture
def order(tmp_path: Path) -> Order:
    portrait, speech = write_inputs(tmp_path)
    return Order(portrait=portrait, speech=speech, gesture="wave", settings={"fps": 8.0, "seed": 7})


def told() -> tuple[list[tuple[float, str]], list[bytes], Any]:
    shares: list[tuple[float, str]] = []
    pictures: list[bytes] = []

    def report(
        share: float, stage: str, *, preview: bytes | None = None, expected: float | None = None
    ) -> None:
        shares.append((share, stage))
        if preview is not None:
            pictures.append(preview)

    return shares, pictures, report


def test_a_check_says_what_will_be_used_how_long_it_is_and_how_long_it_takes(
    studio: Studio, order: Order
) -> None:
    checked = studio.check(order)
    assert checked.ok
    assert (checked.frames, checked.clip_seconds) == (8, 1.0)
    assert checked.seconds is not None and checked.seconds > 0
    assert checked.portrait is not None and checked.portrait.startswith(b"\xff\xd8"), "a JPEG"
    assert checked.hands is not None


def test_a_check_takes_whatever_there_is(studio: Studio, order: Order, tmp_path: Path) -> None:
    assert studio.check(Order()).findings == ()
    assert studio.check(Order(portrait=order.portrait)).frames == 0
    broken = tmp_path / "broken.png"
    broken.write_text("no picture")
    found = studio.check(Order(portrait=broken))
    assert not found.ok
    assert "is not a picture" in found.findings[0].text
    text = (
        studio.check(Order(portrait=order.portrait, settings={"background": "/etc/passwd"})).findings[0].text
    )
    assert "write a colour" in text, "a text of the page never becomes a path"


def test_an_order_is_made_and_its_inputs_may_go_meanwhile(studio: Studio, order: Order) -> None:
    accepted = studio.accept(order)
    assert order.portrait is not None and order.speech is not None
    order.portrait.unlink()
    order.speech.unlink()
    shares, pictures, report = told()
    result = studio.make(accepted, report)
    assert len(media.read_clip(result.video).frames) == result.frames == 8
    assert media.read_metadata(result.video)["settings"]["seed"] == 7
    assert all(a[0] <= b[0] + 1e-9 for a, b in itertools.pairwise(shares)), "one bar, never back"
    assert shares[-1][0] == pytest.approx(1.0)
    assert shares[-1][1] == "decode"
    assert len(pictures) >= 2, "the portrait, and frames"
    assert (
        studio.command(accepted)
        == "semibody animate me.png hello.wav -g wave --weights small --fps 8 --seed 7"
    )
    studio.discard(accepted)
    assert not result.video.exists()


def test_stopping_leaves_no_video(studio: Studio, order: Order) -> None:
    accepted = studio.accept(order)
    assert accepted.folder is not None

    def report(share: float, stage: str, **more: Any) -> None:
        if stage == "decode":
            raise StoppedError

    with pytest.raises(StoppedError):
        studio.make(accepted, report)
    assert sorted(path.name for path in accepted.folder.iterdir()) == ["portrait.png", "speech.wav"]
    studio.discard(accepted)


def test_estimates_follow_what_clips_took(studio: Studio) -> None:
    settings = studio.settings({})
    before = studio.estimate(settings, 24)
    assert studio.estimate(settings, 48)["decode"] == pytest.approx(2 * before["decode"])
    studio._learn({"denoise": 3 * before["denoise"]}, 24, settings)
    assert studio.estimate(settings, 24)["denoise"] == pytest.approx(3 * before["denoise"])
    studio._pace.clear()


def test_fast_takes_fewer_steps_or_a_smaller_picture(studio: Studio) -> None:
    assert studio.fast() == {"width": 32, "height": 32}, "of two steps none can be spared"
    with Store() as store:
        other = Studio(Source(), store)
        other.use(made.animator(steps=30))
        assert other.fast() == {"steps": 10, "solver": "dpm++"}


def test_missing_inputs_are_named(studio: Studio, order: Order) -> None:
    with pytest.raises(SemibodyError, match="add a portrait first"):
        studio.accept(Order(speech=order.speech))
    with pytest.raises(SemibodyError, match="add the speech first"):
        studio.accept(Order(portrait=order.portrait))


def test_videos_are_known_by_their_ending() -> None:
    assert is_video(Path("talk.MP4"))
    assert not is_video(Path("talk.npz"))
    assert not is_video("wave")


# -- what the controls say -----------------------------------------------------------------


@pytest.fixture
def actions(studio: Studio) -> Actions:
    jobs: Jobs[Order, Made] = Jobs(studio.make, discard=studio.discard)
    return Actions(studio, jobs, settings=("seed", "fps"))


def values(order: Order, **changed: Any) -> list[Any]:
    """The controls' values, as a browser sends them, with an own gesture that is not chosen."""
    sent = {
        "portrait": {"path": str(order.portrait), "orig_name": "Ada.png"},
        "sound": {"path": str(order.speech)},
        "kind": RECORDED, "video": None, "text": "", "voice": "", "gesture": "wave",
        "own": [{"path": "/uploads/own.npz", "orig_name": "own.npz"}], "quality": BEST, "seconds": None,
        "seed": None, "fps": None,
    }  # fmt: skip
    return list({**sent, **changed}.values())


def test_the_order_is_what_the_controls_show(actions: Actions, order: Order) -> None:
    read = actions.order(*values(order))
    assert (read.portrait, read.speech, read.gesture) == (order.portrait, order.speech, "wave")
    assert read.settings == {}, "empty controls change nothing"
    assert read.called(read.portrait) == "Ada.png"
    own = actions.order(*values(order, gesture=OWN))
    assert own.gesture == Path("/uploads/own.npz")
    fast = actions.order(*values(order, quality=FAST, seconds=0.5, fps=10))
    assert fast.settings == {"width": 32, "height": 32, "fps": 10, "length": 5}
    assert actions.order(*values(order, kind=FROM_VIDEO)).speech is None
    with pytest.raises(SemibodyError, match="add the file of your own gesture"):
        actions.order(*values(order, gesture=OWN, own=None))
    with pytest.raises(SemibodyError, match="is no gesture"):
        actions.order(*values(order, gesture="../../etc/passwd"))


def test_numbers_are_written_and_may_be_0(actions: Actions, order: Order) -> None:
    read = actions.order(*values(order, seconds="1,5", seed="0", fps="8.0"))
    assert read.settings == {"seed": 0, "fps": 8.0, "length": 12}
    for wrong, said in (
        ({"seed": "1.5"}, "1.5 is no whole number"),
        ({"fps": "fast"}, "“Fps”: fast is no number"),
        ({"seconds": "nan"}, "“Length in seconds”: nan is no number"),
    ):
        with pytest.raises(SemibodyError, match=said):
            actions.order(*values(order, **wrong))


def test_a_reload_shows_the_controls_again(
    actions: Actions, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = actions.submit(None, *values(order, seconds="0.5", seed="7"))[0]
    shown = dict(zip((*CONTROLS, "seed", "fps"), actions.attach(mine)[10:], strict=True))
    assert {
        "kind": RECORDED,
        "gesture": "wave",
        "seconds": "0.5",
        "seed": "7",
        "fps": None,
    }.items() <= shown.items()
    assert Path(shown["portrait"]).read_bytes() == order.portrait.read_bytes() if order.portrait else False
    assert shown["portrait"] != str(order.portrait), "the upload may be swept; the job's own copy is shown"
    monkeypatch.setattr(actions.studio, "speak", lambda said: order.speech)
    mine = actions.submit(None, *values(order, kind=SPOKEN, text="Good morning"))[0]
    shown = dict(zip((*CONTROLS, "seed", "fps"), actions.attach(mine)[10:], strict=True))
    assert (shown["kind"], shown["text"]) == (SPOKEN, "Good morning")


def test_the_first_estimate_is_measured(tmp_path: Path) -> None:
    with Store() as store:
        tried = Studio(Source(), store)
        tried.use(made.animator(), try_out=True)
        assert tried._pace["decode"] != 1.0
        assert [path.name for path in store.path.iterdir()] == ["uploads"], "the trial leaves nothing"


def test_a_text_is_spoken_once(actions: Actions, order: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    from semibody.voices import speaking

    asked: list[tuple[str, str | None]] = []

    def say(text: str, voice: str | None = None) -> speaking.Spoken:
        asked.append((text, voice))
        return speaking.Spoken(made.spoken([0.4], 1.0), (), "en", text)

    monkeypatch.setattr(speaking, "say", say)
    for _ in range(2):
        read = actions.order(*values(order, kind=SPOKEN, text="Good morning", voice="de"))
    assert asked == [("Good morning", "de")]
    assert read.words == Words(say="Good morning", voice="de")
    assert read.speech is not None and media.read_speech(read.speech).seconds == 1.0
    assert "--say 'Good morning' --voice de" in actions.studio.command(read)
    assert actions.order(*values(order, kind=SPOKEN, text=" ")).speech is None


def test_a_refused_order_leaves_no_folder(actions: Actions, order: Order) -> None:
    before = set(actions.studio.store.path.iterdir())
    actions.jobs.close(0)
    outputs = actions.submit(NOTHING, *values(order))
    assert "Too many clips are waiting" in outputs[3]
    assert set(actions.studio.store.path.iterdir()) == before


def test_the_history_is_the_browsers_own(actions: Actions, order: Order) -> None:
    first = actions.submit(None, *values(order))[0]
    second = actions.submit(first, *values(order))[0]
    assert second["history"] == [second["job"], first["job"]]
    assert actions.attach(None)[0] == {"job": None, "history": []}
    assert actions.attach({"job": "gone", "history": ["gone"]})[0] == {"job": None, "history": []}
    assert "1 clip ahead" in actions.show(second, "?/")[3]
    stopped = actions.stop(second, "?/")
    assert "Stopped." in stopped[3]
