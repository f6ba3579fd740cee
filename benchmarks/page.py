"""Measure ``semibody web`` as a process, over HTTP, with the bundled portrait, speech and weights.

    python benchmarks/page.py                       # weights of the starter, 25 clients
    python benchmarks/page.py --weights FOLDER --clients 5 --frames 6

In turn: seconds from the command to the page; the clip of one client and the memory that it takes; a second
user's check while a clip is being made; Stop, and whether the processor is idle after it; all clients at
once, of whom each is served or refused with a sentence; and what is left on disk after SIGTERM. Prints
one line of JSON. Linux only, because memory is read from ``/proc``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

PATIENCE = 900.0
"""Seconds that an answer may take."""


class Page:
    """A running page: its process, and its events as a browser calls them."""

    def __init__(self, weights: str, temporary: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [sys.executable, "-m", "semibody", "web", "--weights", weights, "--port", str(port)]
        environment = {**os.environ, "TMPDIR": str(temporary)}
        begun = time.monotonic()
        self.process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        self.url = f"http://127.0.0.1:{port}"
        self.client = httpx.Client(base_url=self.url, timeout=PATIENCE, trust_env=False)
        while True:
            with contextlib.suppress(httpx.TransportError):
                if self.client.get("/").status_code == 200:
                    break
            if self.process.poll() is not None:
                raise SystemExit(f"no page: {self.process.communicate()[1]}")
            time.sleep(0.02)
        self.up_seconds = time.monotonic() - begun
        self.config = self.client.get("/config").json()
        self._components = {one["id"]: one["props"] for one in self.config["components"]}

    def event(self, *outputs: str) -> dict[str, Any]:
        """The event whose last outputs are the components with these ids in the page."""
        for event in self.config["dependencies"]:
            names = [self._components[one].get("elem_id") for one in event["outputs"]]
            if event["backend_fn"] and names[-len(outputs) :] == list(outputs):
                return dict(event)
        raise SystemExit(f"no event changes {', '.join(outputs)}")

    def click(self, button: str) -> dict[str, Any]:
        """The event of a button with this id."""
        for event in self.config["dependencies"]:
            for target, _ in event["targets"]:
                if event["backend_fn"] and self._components.get(target, {}).get("elem_id") == button:
                    return dict(event)
        raise SystemExit(f"no button {button}")

    def values(self, event: dict[str, Any]) -> list[Any]:
        """What the controls of an event hold when the page is opened."""
        return [self._components[one].get("value") for one in event["inputs"]]

    def call(self, event: dict[str, Any], data: list[Any], session: str) -> list[Any]:
        """The answer of an event; one that is queued is waited for."""
        body = {"data": data, "fn_index": event["id"], "session_hash": session}
        if not event["queue"]:
            return list(self.client.post("/gradio_api/run/predict", json=body).json()["data"])
        self.client.post("/gradio_api/queue/join", json=body).raise_for_status()
        with self.client.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as lines:
            for line in lines.iter_lines():
                told = json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else {}
                if told.get("msg") == "process_completed":
                    return list(told["output"]["data"])
        raise SystemExit("the queue ended without an answer")

    def animate(self, frames: int, seed: int) -> str:
        """``/animate`` with the page's portrait and speech: "" when served, else the refusal."""
        portrait, speech = self.values(self.click("generate"))[1:3]
        body = {"portrait": portrait, "speech": speech, "length": frames, "seed": seed}
        with httpx.Client(base_url=self.url, timeout=PATIENCE, trust_env=False) as own:
            name = own.post("/gradio_api/call/v2/animate", json=body).json()["event_id"]
            lines = own.get(f"/gradio_api/call/v2/animate/{name}").text.splitlines()
            told = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
            if "event: complete" in lines:
                path = json.loads(told[-1])[0]["path"]
                return "" if own.get(f"/gradio_api/file={path}").status_code == 200 else "no file"
            return str(json.loads(told[-1])["error"])

    def memory(self) -> float:
        """MB that the process holds."""
        text = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        return float(text.split("VmRSS:")[1].split()[0]) / 1024

    def processor_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @contextlib.contextmanager
    def peak(self) -> Iterator[list[float]]:
        """A list whose only number grows to the largest memory meanwhile, in MB."""
        most, over = [self.memory()], threading.Event()

        def watch() -> None:
            while not over.wait(0.05):
                most[0] = max(most[0], self.memory())

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield most
        finally:
            over.set()
            thread.join()


def measure(page: Page, clients: int, frames: int) -> dict[str, Any]:
    """Everything but the end, which needs the process gone."""
    found: dict[str, Any] = {"up_seconds": page.up_seconds}
    begun = time.monotonic()
    refusal = page.animate(2, 0)
    found["first_clip_seconds"], found["first_clip"] = time.monotonic() - begun, refusal or "served"

    generate, stop = page.click("generate"), page.click("stop")
    check = page.event("crop", "forecast", "findings")
    mine = page.call(generate, page.values(generate), "one")[0]
    time.sleep(2)
    begun = time.monotonic()
    crop = page.call(check, page.values(check), "two")[0]
    found["check_during_a_clip_seconds"], found["checked"] = time.monotonic() - begun, "<img" in str(crop)
    begun = time.monotonic()
    told = page.call(stop, [mine, None], "one")
    while "Stopped" not in str(told):
        if time.monotonic() - begun > PATIENCE:
            raise SystemExit("the clip did not stop")
        time.sleep(0.02)
        told = page.call(stop, [mine, None], "one")
    found["stop_seconds"] = time.monotonic() - begun
    before = page.processor_seconds()
    time.sleep(2)
    found["busy_after_stop"] = (page.processor_seconds() - before) / 2

    with page.peak() as one:
        page.animate(frames, 1)
    with page.peak() as all_of_them, ThreadPoolExecutor(clients) as pool:
        begun = time.monotonic()
        answers = list(pool.map(lambda seed: page.animate(frames, seed), range(clients)))
        found["clients_seconds"] = time.monotonic() - begun
    refusals = [answer for answer in answers if answer]
    found |= {
        "clients": clients,
        "served": clients - len(refusals),
        "refused": len(refusals),
        "refusals": sorted(set(refusals)),
        "one_client_mb": one[0],
        "clients_mb": all_of_them[0],
        "clients_above_one_mb": all_of_them[0] - one[0],
    }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--weights", default="starter")
    parser.add_argument("--clients", type=int, default=25)
    parser.add_argument("--frames", type=int, default=24)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        page = Page(options.weights, Path(folder))
        try:
            found = measure(page, options.clients, options.frames)
            begun = time.monotonic()
            page.process.send_signal(signal.SIGTERM)
            page.process.communicate(timeout=60)
            found["end_seconds"], found["exit_code"] = time.monotonic() - begun, page.process.returncode
        finally:
            page.process.kill()
        left = [path for path in Path(folder).rglob("*") if path.is_file()]
        found["left_on_disk"] = [str(path.relative_to(folder)) for path in left]
    rounded = {key: round(one, 2) if isinstance(one, float) else one for key, one in found.items()}
    print(json.dumps(rounded))


if __name__ == "__main__":
    main()
