"""The page over HTTP, as programs and strangers ask it: ``/animate``, and everything that is refused."""

from __future__ import annotations

import http.client
import http.server
import json
import pickle
import re
import signal
import stat
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semibody import media
from semibody.web.uploads import LARGEST_UPLOAD
from web.served import PATIENCE, Served, free_port, serve, wait_for, write_long_speech

pytest.importorskip("gradio", reason="the extra web is not installed")


@pytest.fixture(scope="module")
def page(folder: Path) -> Iterator[Served]:
    with serve(folder / "weights", folder / "tmp", "--longest", "60", proxy=True) as served:
        yield served


@pytest.fixture(scope="module")
def client(page: Served) -> Any:
    from gradio_client import Client

    return Client(page.url, verbose=False, httpx_kwargs={"timeout": PATIENCE})


def file(path: Path) -> Any:
    from gradio_client import handle_file

    return handle_file(str(path))


def refusal(client: Any, folder: Path, **changed: Any) -> str:
    """What ``/animate`` says of a mistake."""
    from gradio_client.exceptions import AppError

    given = {"portrait": file(folder / "me.png"), "speech": file(folder / "hello.wav"), **changed}
    with pytest.raises(AppError) as caught:
        client.predict(**given, api_name="/animate")
    text = str(caught.value)
    assert "/tmp" not in text and "--" not in text, "no paths of the server, no options of the command line"
    return text


def test_animate_returns_when_the_clip_is_made(client: Any, folder: Path) -> None:
    answer = client.predict(
        portrait=file(folder / "me.png"), speech=file(folder / "hello.wav"), gesture="wave", fps=5.0, seed=7,
        api_name="/animate",
    )  # fmt: skip
    path = answer if isinstance(answer, str) else answer["path"]
    clip = media.read_clip(path)
    assert len(clip.frames) == 5, "1 s of speech at 5 frames a second"
    assert clip.speech is not None
    assert media.read_metadata(path)["settings"]["seed"] == 7


def test_animate_over_plain_http(page: Served, folder: Path, tmp_path: Path) -> None:
    """The three steps of docs/page.md."""
    import httpx

    api = f"{page.url}/gradio_api"
    with httpx.Client(timeout=PATIENCE) as asked:
        files = [("files", (name, (folder / name).read_bytes())) for name in ("me.png", "hello.wav")]
        paths = asked.post(f"{api}/upload", files=files).json()
        portrait, speech = ({"path": path, "meta": {"_type": "gradio.FileData"}} for path in paths)
        body = {"portrait": portrait, "speech": speech, "gesture": "wave", "length": 2}
        event = asked.post(f"{api}/call/v2/animate", json=body).json()["event_id"]
        lines = asked.get(f"{api}/call/v2/animate/{event}").text.splitlines()
        data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
        clip = json.loads(data[-1])[0]["path"]
        (tmp_path / "clip.mp4").write_bytes(asked.get(f"{api}/file={clip}").content)
    assert len(media.read_clip(tmp_path / "clip.mp4").frames) == 2


def test_every_setting_is_a_named_and_optional_parameter_and_nothing_else_is_public(client: Any) -> None:
    api = client.view_api(return_format="dict", print_info=False)
    assert set(api["named_endpoints"]) == {"/animate"}
    assert not api["unnamed_endpoints"]
    parameters = {one["parameter_name"]: one for one in api["named_endpoints"]["/animate"]["parameters"]}
    required = [name for name, one in parameters.items() if not one["parameter_has_default"]]
    assert required == ["portrait"]
    assert {
        "speech",
        "say",
        "gesture",
        "gesture_file",
        "quality",
        "seed",
        "steps",
        "width",
        "liveliness",
    } <= parameters.keys()


def test_mistakes_are_one_sentence(client: Any, folder: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.png"
    text.write_text("this is no picture")
    assert "text.png: is not a picture that is read here" in refusal(client, folder, portrait=file(text))
    assert "no gesture" in refusal(client, folder, gesture="/etc/passwd")
    assert "quality x is unknown" in refusal(client, folder, quality="x")
    assert "too large" in refusal(client, folder, width=9000)


def test_speech_that_is_too_long_is_refused(client: Any, folder: Path, tmp_path: Path) -> None:
    long = write_long_speech(tmp_path / "talk.wav", 90.0)
    assert "talk.wav: is longer than the 1 minutes" in refusal(client, folder, speech=file(long))


def test_a_gesture_that_unpacks_to_gigabytes_is_refused(client: Any, folder: Path, tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.npz"
    packed = zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED)
    with packed as archive, archive.open("joints.npy", "w") as inner:
        zeros = np.zeros(2**20, np.uint8).tobytes()
        for _ in range(300):
            inner.write(zeros)
    assert bomb.stat().st_size < 2**20
    said = refusal(client, folder, gesture_file=file(bomb))
    assert "bomb.npz: holds more than 64 MB of poses" in said


def test_hostile_files_are_refused_with_a_sentence(client: Any, folder: Path, tmp_path: Path) -> None:
    packed = tmp_path / "gesture.npz"
    packed.write_bytes(pickle.dumps({"joints": [1, 2, 3]}))
    empty = tmp_path / "empty.wav"
    empty.touch()
    renamed = tmp_path / "voice.wav"
    renamed.write_bytes((folder / "me.png").read_bytes())
    assert "gesture.npz" in refusal(client, folder, gesture_file=file(packed))
    assert "empty.wav" in refusal(client, folder, speech=file(empty))
    assert "voice.wav" in refusal(client, folder, speech=file(renamed))


def test_a_name_that_leads_outside_stays_inside(page: Served, folder: Path) -> None:
    import httpx

    sent = [("files", ("../../../escaped.png", (folder / "me.png").read_bytes()))]
    answer = httpx.post(f"{page.url}/gradio_api/upload", files=sent, timeout=PATIENCE)
    (own,) = page.folders()
    if answer.status_code == 200:
        assert all(own in Path(path).resolve().parents for path in answer.json())
    assert not [path for path in page.temporary.rglob("escaped.png") if own not in path.parents]


def test_an_address_instead_of_a_file_is_never_asked(client: Any, page: Served, folder: Path) -> None:
    import httpx

    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(404)
            self.end_headers()

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/me.png"
        given = {"path": address, "url": address, "meta": {"_type": "gradio.FileData"}}
        assert "not an address" in refusal(client, folder, portrait=given)
        # The page's own events, by their number, as the browser calls them.
        config = httpx.get(f"{page.url}/config", timeout=PATIENCE).json()
        for number, event in enumerate(config["dependencies"]):
            data = [given if one in _portraits(config) else None for one in event["inputs"]]
            if given in data:
                body = {"data": data, "fn_index": event.get("id", number), "session_hash": "x"}
                httpx.post(f"{page.url}/gradio_api/run/predict", json=body, timeout=PATIENCE)
        server.shutdown()
    assert asked == []


def _portraits(config: dict[str, Any]) -> list[int]:
    return [one["id"] for one in config["components"] if one["props"].get("elem_id") == "portrait"]


def test_files_outside_the_uploads_are_not_read(client: Any, folder: Path) -> None:
    given = {"path": "/etc/hostname", "meta": {"_type": "gradio.FileData"}}
    from gradio_client.exceptions import AppError

    with pytest.raises(AppError):
        client.predict(portrait=given, speech=file(folder / "hello.wav"), api_name="/animate")


def test_foreign_names_sites_and_sizes_are_refused(page: Served) -> None:
    import httpx

    assert httpx.get(page.url, headers={"host": "evil.example"}).status_code == 421
    foreign = {"origin": "http://evil.example"}
    assert httpx.post(f"{page.url}/gradio_api/run/predict", json={}, headers=foreign).status_code == 403
    name, port = page.url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(name, int(port), timeout=PATIENCE)
    connection.putrequest("POST", "/gradio_api/upload")
    connection.putheader("Content-Length", str(LARGEST_UPLOAD + 2**20))
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 413
    assert "200 MB" in answer.read().decode()


def test_nothing_of_the_page_comes_from_another_host(page: Served) -> None:
    import httpx

    text = httpx.get(page.url).text
    fetched = re.findall(r"""<(?:script|link)[^>]+(?:src|href)=["'](https?://[^"']+)""", text)
    assert [one for one in fetched if not one.startswith(page.url)] == []
    assert httpx.get(f"{page.url}/tile/wave.svg").headers["content-type"] == "image/svg+xml"
    assert httpx.get(f"{page.url}/tile/none.svg").status_code == 404
    assert httpx.get(f"{page.url}/clip/none").status_code == 404


def test_what_users_send_lies_in_a_private_folder(page: Served) -> None:
    (own,) = page.folders()
    assert stat.S_IMODE(own.stat().st_mode) == 0o700
    assert [path for path in page.temporary.iterdir() if path not in (own, page.temporary / "gradio")] == []
    assert not (page.temporary / "gradio").exists()


def test_a_taken_port_is_said_before_the_weights_are_looked_for(page: Served, folder: Path) -> None:
    port = page.url.rsplit(":", 1)[1]
    asked = run("--port", port, "--weights", str(folder / "no such weights"))
    assert asked.returncode == 2
    assert f"port {port} is taken; choose another with --port" in asked.stderr


def test_the_whole_network_needs_a_password_or_a_flag() -> None:
    asked = run("--host", "0.0.0.0", "--port", str(free_port()))
    assert asked.returncode == 2
    assert "add --auth name:password, or --without-password" in asked.stderr
    assert "name:password" in run("--auth", "secret", "--port", str(free_port())).stderr


def test_weights_that_cannot_be_found_end_the_page(tmp_path: Path) -> None:
    asked = run("--port", str(free_port()), "--weights", str(tmp_path / "none"))
    assert asked.returncode == 2
    assert "no such weights folder" in asked.stderr


def run(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "semibody", "web", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)


@pytest.mark.slow
def test_a_password_is_asked_for(folder: Path) -> None:
    import httpx

    with serve(folder / "weights", folder / "tmp-auth", "--auth", "ada:love") as served:
        assert httpx.get(served.url).status_code == 401
        assert httpx.get(served.url, auth=("ada", "wrong")).status_code == 401
        assert httpx.get(f"{served.url}/clip/x").status_code == 401
        assert httpx.get(served.url, auth=("ada", "love")).status_code == 200


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_a_clip_ends_it_in_order(folder: Path, number: signal.Signals) -> None:
    from gradio_client import Client

    with serve(folder / "weights", folder / f"tmp-{number}") as served:
        wait_for(served)
        client = Client(served.url, verbose=False, httpx_kwargs={"timeout": PATIENCE})
        client.submit(
            portrait=file(folder / "me.png"), speech=file(folder / "hello.wav"), steps=900, fps=60.0,
            api_name="/animate",
        )  # fmt: skip
        (own,) = served.folders()
        until = time.monotonic() + PATIENCE
        while not list(own.glob("job-*/.clip*")):  # the unfinished video
            assert time.monotonic() < until, "the clip was not begun"
            time.sleep(0.1)
        begun = time.monotonic()
        served.process.send_signal(number)
        _, said = served.process.communicate(timeout=PATIENCE)
        assert served.process.returncode == 128 + number
        assert time.monotonic() - begun < 10
        assert "Traceback" not in said and "terminate" not in said, said
        assert "stopped" in said
        assert served.folders() == []
