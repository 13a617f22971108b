#!/usr/bin/env python3
"""Measure what pictures, the page and those who watch it cost a run.

    python scripts/watching_cost.py [--repeats 3] [--watchers 20] [DATA]

Runs the demonstration's reconstruction with nothing drawn, as it is, and as it is with so many watchers on one
`spilegate watch`, in turn; prints wall and processor seconds of each, and the medians over those of the first. On a
computer that does other things as well, processor seconds are what to trust.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

SIMULATE = ["--images", "1000", "--pixels", "64", "--resolution-angstrom", "8", "--photons", "20000", "--seed", "0"]
BLANK = """
import sys
from spilegate.report.drawing import Drawing
Drawing._process = lambda self, *arguments: None
Drawing.finish = lambda self: ""
from spilegate.cli import main
main()
"""
# As the page itself asks.
POLL = 1.5


def watch(port: int, ended: threading.Event) -> None:
    """Ask as a page does: how the run is getting on, and for newer content where there is some."""
    tag, page = "", ""
    while not ended.is_set():
        try:
            request = urllib.request.Request(f"http://127.0.0.1:{port}/state.json", headers={"If-None-Match": tag})
            with urllib.request.urlopen(request) as answer:  # noqa: S310 - an address of our own
                tag, text = answer.headers["ETag"], answer.read().decode()
                newest = text.split('"page": "')[1][:20]
            if newest != page:
                page = newest
                request = urllib.request.Request(
                    f"http://127.0.0.1:{port}/content", headers={"Accept-Encoding": "gzip"}
                )
                with urllib.request.urlopen(request) as answer:  # noqa: S310 - an address of our own
                    answer.read()
        except urllib.error.HTTPError:
            pass
        ended.wait(POLL)


def one(data: Path, *, drawn: bool, watchers: int) -> tuple[float, float]:
    """Return wall and processor seconds of a run."""
    with tempfile.TemporaryDirectory() as folder:
        out = f"{folder}/out"
        program = ["-m", "spilegate"] if drawn else ["-c", BLANK]
        server, ended, threads = None, threading.Event(), []
        if watchers:
            server = subprocess.Popen(
                [sys.executable, "-m", "spilegate", "watch", out, "--port", "0"], stdout=subprocess.PIPE, text=True
            )
            line = "" if server.stdout is None else server.stdout.readline()
            port = int(line.split("127.0.0.1:")[1].split("/")[0])
            threads = [threading.Thread(target=watch, args=(port, ended)) for _ in range(watchers)]
            for thread in threads:
                thread.start()
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        command = [sys.executable, *program, "reconstruct", str(data), "--output", out, "--quiet"]
        subprocess.run(command, check=True)
        wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        spent = sum(getattr(after, name) - getattr(before, name) for name in ("ru_utime", "ru_stime"))
        if server:
            ended.set()
            for thread in threads:
                thread.join()
            server.terminate()
            server.wait()
            # It is waited for last of all: what is new since is its own.
            last = resource.getrusage(resource.RUSAGE_CHILDREN)
            spent += sum(getattr(last, name) - getattr(after, name) for name in ("ru_utime", "ru_stime"))
    return wall, spent


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What pictures, the page and those who watch it cost a run.")
    parser.add_argument("data", nargs="?", type=Path, help="patterns; simulated if left out")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--watchers", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = options.data or Path(folder) / "data.h5"
        if options.data is None:
            subprocess.run([sys.executable, "-m", "spilegate", "simulate", *SIMULATE, "--output", data], check=True)
        kinds = {"nothing drawn": (False, 0), "drawn": (True, 0), "watched": (True, options.watchers)}
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in kinds}
        for _ in range(options.repeats):
            for name, (drawn, watchers) in kinds.items():
                found[name].append(one(data, drawn=drawn, watchers=watchers))
                print(f"{name:14s} {found[name][-1][0]:7.1f} s {found[name][-1][1]:7.1f} processor s", flush=True)
    base = [statistics.median(values) for values in zip(*found["nothing drawn"], strict=True)]
    print("| run | wall [s] | of the first | processor [s] | of the first |\n|---|---|---|---|---|")
    for name, values in found.items():
        wall, spent = (statistics.median(each) for each in zip(*values, strict=True))
        print(f"| {name} | {wall:.1f} | {wall / base[0] - 1:+.1%} | {spent:.1f} | {spent / base[1] - 1:+.1%} |")


if __name__ == "__main__":
    main()
