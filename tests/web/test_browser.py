"""The page as people use it, in a real browser: Debian's chromium, driven by Playwright.

Slow, and skipped where either is missing. With SEMIBODY_SCREENSHOTS=folder the states of the page are also
written as pictures, which is where those of the documentation come from.
"""

from __future__ import annotations

import io
import os
import shutil
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from web.served import PATIENCE, Served, serve, write_long_speech

pytestmark = pytest.mark.slow
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
if CHROMIUM is None:
    pytest.skip("no chromium on this machine; on Debian: apt-get install chromium", allow_module_level=True)
pytest.importorskip("gradio", reason="the extra web is not installed")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
MILLISECONDS = 1000 * PATIENCE
LONG = {"Steps": "400"}
"""Settings with which a clip takes minutes."""


@pytest.fixture(scope="module")
def page(folder: Path) -> Iterator[Served]:
    with serve(folder / "weights", folder / "tmp") as served:
        yield served


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


class User:
    """Somebody in front of the page."""

    def __init__(self, browser: Any, page: Served, *, width: int = 1280, height: int = 900) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": height})
        self.tab = self.context.new_page()
        self.tab.set_default_timeout(MILLISECONDS)
        self.tab.set_default_navigation_timeout(MILLISECONDS)
        self.outside: list[str] = []
        self._own = (page.url, "data:", "blob:")
        self.tab.on("request", self._note)
        self.tab.goto(page.url)
        self.tab.wait_for_selector("#generate")

    def _note(self, request: Any) -> None:
        """Keep requests to other hosts."""
        if not request.url.startswith(self._own):
            self.outside.append(request.url)

    def give(self, what: str, path: Path) -> None:
        """Upload a portrait, a recording or an own gesture, in place of what is there."""
        with self.tab.expect_file_chooser() as choosing:
            self.tab.click(f"#{what} button[aria-label='Upload file']")
        choosing.value.set_files(str(path))

    def settle(self, forecast: str = "1.0 s of video") -> None:
        """Wait until the inputs were looked at: the time stands beside the button."""
        self.reads_soon("#forecast", forecast)

    def reads_soon(self, selector: str, *said: str) -> None:
        """Wait until all of this stands there."""
        self.tab.wait_for_function(
            "([where, said]) => { const one = document.querySelector(where); "
            "return one && said.every(text => one.innerText.includes(text)); }",
            arg=[selector, list(said)],
        )

    def set(self, settings: dict[str, str]) -> None:
        for name in ("More settings", "All settings"):
            self.tab.click(f"button:has-text('{name}')")
        for label, value in settings.items():
            self.tab.fill(f"label:has-text('{label}') :is(input, textarea)", value)

    def generate(self) -> None:
        self.tab.click("#generate")

    def see(self, selector: str) -> Any:
        return self.tab.wait_for_selector(selector)

    def reads(self, selector: str) -> str:
        return str(self.tab.inner_text(selector))

    def picture(self, name: str) -> None:
        if where := os.environ.get("SEMIBODY_SCREENSHOTS"):
            seen = Image.open(io.BytesIO(self.tab.screenshot()))
            seen.save(Path(where) / f"{name}.webp", quality=82, method=6)


@pytest.fixture
def user(browser: Any, page: Served) -> Iterator[User]:
    made_user = User(browser, page)
    yield made_user
    made_user.context.close()


def test_upload_check_generate_play(user: User, folder: Path) -> None:
    user.give("portrait", folder / "me.png")
    user.give("speech", folder / "hello.wav")
    user.see(".crop img")
    user.settle()
    user.picture("checked")
    user.generate()
    user.see(".stage img, .stage video")
    user.picture("running")
    user.see(".status.done")
    video = user.see(".stage video")
    user.tab.wait_for_function("document.querySelector('.stage video').readyState >= 1")
    assert 0.8 < video.evaluate("one => one.duration") < 1.2
    video.evaluate("one => { one.muted = true; return one.play(); }")
    user.tab.wait_for_function("document.querySelector('.stage video').webkitAudioDecodedByteCount > 0")
    user.picture("done")
    assert "Made in" in user.reads(".status")
    assert "semibody animate me.png hello.wav" in (user.tab.text_content(".repeat") or "")
    assert user.tab.locator(".history button").count() == 1
    assert user.outside == [], "no other host was asked"


def test_stop_and_reload_during_a_clip(user: User, folder: Path) -> None:
    user.give("portrait", folder / "me.png")
    user.give("speech", folder / "hello.wav")
    user.set(LONG)
    user.settle()
    user.generate()
    user.see(".bar")
    user.see("#stop")
    user.tab.reload()
    user.see(".bar")
    user.see("#stop")
    user.tab.click("#stop")
    start = time.monotonic()
    user.see(".status.stopped")
    took = time.monotonic() - start
    user.see("#generate")
    user.picture("stopped")
    assert took < 5.0, f"stopped after {took:.1f} s"


def test_reload_after_a_clip(user: User, folder: Path) -> None:
    user.give("portrait", folder / "me.png")
    user.give("speech", folder / "hello.wav")
    user.settle()
    user.generate()
    user.see(".status.done")
    address = user.see(".stage video").get_attribute("src")
    user.tab.reload()
    assert user.see(".stage video").get_attribute("src") == address
    assert user.tab.request.get(user.tab.url.rstrip("/") + address).ok


def test_a_second_user_waits_in_the_queue_but_not_for_the_check(
    browser: Any, page: Served, user: User, folder: Path
) -> None:
    for one in (user,):
        one.give("portrait", folder / "me.png")
        one.give("speech", folder / "hello.wav")
        one.set(LONG)
        one.settle()
        one.generate()
        one.see(".bar")
    second = User(browser, page)
    start = time.monotonic()
    second.give("portrait", folder / "me.png")
    second.give("speech", folder / "hello.wav")
    second.see(".crop img")
    second.settle()
    took = time.monotonic() - start
    assert took < PATIENCE / 4, f"a check beside a clip took {took:.1f} s"
    second.generate()
    second.reads_soon(".status", "1 clip ahead")
    assert second.tab.locator(".history button").count() == 0, "one user's clips are not another's"
    second.tab.click("#stop")
    second.see(".status.stopped")
    second.context.close()
    user.tab.click("#stop")
    user.see(".status.stopped")


def test_bad_files_get_a_sentence(user: User, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("this is text")
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(400)
    (tmp_path / "photo.png").write_bytes(heic)
    (tmp_path / "huge.png").write_bytes(_blank_png(20000, 15000))
    for name, said in (
        ("text.png", "is not a picture that is read here"),
        ("photo.png", "is a HEIC photograph; export it as JPEG"),
        ("huge.png", "has too many pixels"),
    ):
        user.give("portrait", tmp_path / name)
        user.reads_soon("#findings", f"{name}: ", said)
        text = user.reads("#findings")
        assert "/tmp" not in text and "--" not in text
        user.generate()
        # The last file's message stands there until this one is refused.
        user.reads_soon(".status.failed", said)
        user.picture("error")


def test_a_reload_brings_text_and_settings_back(user: User, folder: Path) -> None:
    user.give("portrait", folder / "me.png")
    user.give("speech", folder / "hello.wav")
    user.set({"Seed": "0", "Length in seconds": "0.5"})
    user.settle("0.5 s of video")
    user.generate()
    user.see(".status.done")
    assert "--seed 0" in (user.tab.text_content(".repeat") or "")
    user.tab.reload()
    user.see(".stage video")
    user.set({})
    user.tab.wait_for_function(
        "[...document.querySelectorAll('label')].find(one => one.innerText.startsWith('Length in seconds'))"
        ".querySelector('input, textarea').value === '0.5'"
    )


def test_the_portrait_stays_until_another_was_chosen(user: User, folder: Path) -> None:
    shown = user.see("#portrait img").get_attribute("src")
    with user.tab.expect_file_chooser():
        user.tab.click("#portrait button[aria-label='Upload file']")  # and nothing is chosen
    assert user.see("#portrait img").get_attribute("src") == shown
    user.give("portrait", folder / "me.png")
    user.tab.wait_for_function(
        "before => document.querySelector('#portrait img')?.getAttribute('src') !== before", arg=shown
    )


def test_an_emptied_seed_is_no_mistake(user: User, folder: Path) -> None:
    user.give("portrait", folder / "me.png")
    user.give("speech", folder / "hello.wav")
    user.set({"Seed": "5"})
    user.tab.fill("label:has-text('Seed') :is(input, textarea)", "")
    user.settle()
    user.generate()
    user.see(".status.done")


def test_speech_that_is_too_long_is_said_before_the_start(user: User, tmp_path: Path) -> None:
    user.give("speech", write_long_speech(tmp_path / "talk.wav", 330.0))
    user.reads_soon("#findings", "is longer than")


def test_an_own_gesture_counts_only_when_its_tile_is_chosen(user: User, folder: Path) -> None:
    assert not user.tab.is_visible("#own")
    user.tab.check("#tiles input[value=own]", force=True)
    user.see("#own")
    user.reads_soon("#findings", "your own gesture")
    user.tab.check("#tiles input[value=wave]", force=True)
    user.tab.wait_for_function("!document.querySelector('#findings').innerText.includes('your own gesture')")
    user.tab.wait_for_selector("#own", state="hidden")


def test_phone(browser: Any, page: Served, folder: Path) -> None:
    user = User(browser, page, width=375, height=780)
    user.settle("of video")
    assert user.tab.evaluate("document.documentElement.scrollWidth") <= 375, "nothing is cut off"
    button = user.tab.locator("#generate").bounding_box()
    assert button["y"] + button["height"] <= 780, "the button is in view without scrolling"
    assert button["x"] >= 0 and button["x"] + button["width"] <= 375
    user.picture("phone")
    user.context.close()


def test_the_bundled_model_on_a_desktop_and_a_phone(browser: Any, tmp_path: Path) -> None:
    """A rendered person, and the pictures of docs/page.md."""
    with serve(Path("starter"), tmp_path / "tmp") as served:
        for name, width, height in (("desktop", 1280, 860), ("phone", 375, 780)):
            one = User(browser, served, width=width, height=height)
            one.settle("ready in about")
            one.set({"Length in seconds": "2"})
            one.tab.click("button:has-text('More settings')")
            one.settle("2.0 s of video")
            one.generate()
            one.see(".stage:not(.early) > img")
            one.tab.evaluate("scrollTo(0, innerWidth < 900 ? 9999 : 0)")
            one.picture(f"page-{name}")
            one.see(".status.done")
            one.tab.wait_for_function("document.querySelector('.stage video').readyState >= 2")
            one.picture(f"page-{name}-done")
            assert one.outside == []
            one.context.close()


def test_at_900_pixels_no_button_is_cut_off(browser: Any, page: Served) -> None:
    user = User(browser, page, width=900, height=700)
    boxes = user.tab.evaluate(
        "[...document.querySelectorAll('button')].filter(b => b.offsetParent && !b.closest('.history'))"
        ".map(b => b.getBoundingClientRect().right)"
    )
    assert max(boxes) <= 900
    user.context.close()


def test_only_our_own_links_and_buttons(user: User) -> None:
    text = user.tab.inner_text("body")
    for foreign in ("Runs", "Connect", "Share", "Use via API", "Built with", "Settings\n"):
        assert foreign not in text


def test_axe_finds_nothing_serious(user: User, folder: Path, tmp_path: Path) -> None:
    source = pytest.importorskip("axe_playwright_python", reason="axe-core is not installed")
    script = (Path(source.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
    found = {}

    def look(state: str) -> None:
        found[state] = _serious(user, script)

    user.tab.click("#portrait button[aria-label='Remove Image']")
    user.reads_soon("#forecast", "Add a portrait")
    look("empty")
    user.give("portrait", folder / "me.png")
    user.give("speech", folder / "hello.wav")
    user.set(LONG)
    user.settle()
    look("settings")
    user.generate()
    user.see(".bar")
    look("running")
    user.tab.click("#stop")
    user.see(".status.stopped")
    look("stopped")
    user.tab.fill("label:has-text('Steps') :is(input, textarea)", "2")
    user.settle()
    user.generate()
    user.see(".status.done")
    look("done")
    user.tab.check("#tiles input[value=own]", force=True)
    user.tab.check(".segments input[value=spoken]", force=True)
    user.reads_soon("#findings", "your own gesture")
    look("text and an own gesture")
    (tmp_path / "text.png").write_text("this is text")
    user.tab.check("#tiles input[value=still]", force=True)
    user.tab.check(".segments input[value=recorded]", force=True)
    user.give("portrait", tmp_path / "text.png")
    user.reads_soon("#findings", "text.png: ")
    user.generate()
    user.see(".status.failed")
    look("failed")
    user.tab.emulate_media(color_scheme="dark")
    user.tab.reload()
    user.see(".dark #generate")
    user.reads_soon("#findings", "is not a picture")  # the last clip's inputs are back
    look("dark")
    assert found == {key: [] for key in found}


def _serious(user: User, script: str) -> list[str]:
    user.tab.evaluate(script)
    found = user.tab.evaluate("axe.run()")["violations"]
    return [
        f"{one['id']}: {node['html'][:160]}"
        for one in found if one["impact"] in ("critical", "serious")
        for node in one["nodes"]
    ]  # fmt: skip


def _blank_png(width: int, height: int) -> bytes:
    """A grey picture of many pixels in few bytes."""
    rows = zlib.compressobj(9)
    row = bytes(1 + width)
    data = b"".join(rows.compress(row) for _ in range(height)) + rows.flush()

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
