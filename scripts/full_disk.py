"""Runs that come to the end of a disk, at every 8 KiB of its last 200: what is left, and whether it resumes.

    python scripts/full_disk.py [STEPS]

Each run goes on from a checkpoint on a disk of a few MiB of its own (a tmpfs in a mount namespace, so nobody else sees
it) that is filled up to the step; then there is space again, and it is resumed. Needs Linux, and `unshare` of mounts:
root, or user namespaces. Exit code 0 if in every run the last checkpoint was kept, no file under a final name was
incomplete, and the result was that of a run that nothing had disturbed, bit by bit.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from spilegate import mtip
from spilegate.cli import app
from spilegate.commands.configuration import load_settings
from spilegate.commands.job import Job
from spilegate.errors import InputError
from spilegate.findings import Findings
from spilegate.formats import maps, reader
from spilegate.formats.record import load_record, save_record
from spilegate.formats.results import read_summary
from spilegate.records import Progress, State
from spilegate.report.drawing import Drawing
from spilegate.report.progress import read_records

STEP_BYTES, STEPS, DISK_MIB = 8192, 25, 6
SMALL = ("--images", "120", "--pixels", "40", "--resolution-angstrom", "18", "--photons", "none", "--seed", "3")
QUICK = ("start.iterations=4", "phasing.cycles=2", "phasing.starts=1", "resolution.half_sets=false",
         "resolution.phasings=2", "convergence.most_generations=2", "compute.threads=1", "seed=5")  # fmt: skip
INSIDE = "--inside"


class Keeper:
    """A watcher that keeps the checkpoint of every generation."""

    def __init__(self, folder: Path, attributes: dict[str, Any]) -> None:
        self.folder, self.attributes = folder, attributes

    def begin(self, generation: int, generations: int, stage: str) -> None:
        """Do nothing."""

    def stage(self, progress: Progress) -> None:
        """Do nothing."""

    def generation(self, state: State, *, last: bool) -> None:  # noqa: ARG002 - all are kept
        """Save the state."""
        save_record(self.folder / f"{state.generation}.h5", state, self.attributes)

    def half(self, number: int) -> None:
        """Return nobody."""


def main() -> int:
    """Go through the steps and return the exit code."""
    words = [word for word in sys.argv[1:] if word != INSIDE]
    if INSIDE not in sys.argv:
        unshared = ["unshare", "--map-root-user", "--mount", sys.executable, __file__, INSIDE, *words]
        return subprocess.run(unshared, check=False).returncode
    steps = int(words[0]) if words else STEPS
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        whole = prepared(work)
        (work / "disk").mkdir()
        bad = sum(not step(work, whole, free) for free in range(0, steps * STEP_BYTES, STEP_BYTES))
    sys.stdout.write(f"{steps - bad} of {steps} kept what they had and resumed to the same bits\n")
    return 1 if bad else 0


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    errors: str


def run(work: Path, *words: object, pictures: bool = True) -> Done:
    """Run a command in a process of its own, forked, as importing everything takes longer than a step."""
    return forked(lambda: command(words, pictures=pictures), work / "errors")


def forked(task: Callable[[], int], errors: Path) -> Done:
    """Run a task in a process of its own, which ends like any other: what libraries do at the end is done."""
    if (child := os.fork()) == 0:
        with errors.open("wb") as file, Path(os.devnull).open("wb") as nothing:
            os.dup2(file.fileno(), 2)
            os.dup2(nothing.fileno(), 1)
        code = task()
        sys.stderr.flush()
        ctypes.CDLL(None).exit(code)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return Done(status, errors.read_text(encoding="utf-8"))


def command(words: tuple[object, ...], *, pictures: bool) -> int:
    """Run a command line in this process and return its exit code."""
    if not pictures:
        Drawing.begin = lambda *_: None
        Drawing.finish = lambda _: ""
    try:
        app([str(word) for word in words])
    except SystemExit as error:
        return int(error.code or 0)
    return 0


def prepared(work: Path) -> Path:
    """Return the folder of a run that nothing disturbs; the checkpoints of its generations lie in `kept`."""
    settings = load_settings(None, QUICK, {})
    (work / "kept").mkdir()

    def generations() -> int:
        dataset = reader.read(work / "data.h5")
        attributes = Job(work / "data.h5", work, settings).attributes(dataset)
        mtip.reconstruct(dataset, settings, watcher=Keeper(work / "kept", attributes))
        return 0

    for done in (
        run(work, "simulate", *SMALL, "--output", work / "data.h5"),
        forked(generations, work / "errors"),
        run(work, "reconstruct", work / "data.h5", "--output", work / "whole", *assigned()),
    ):
        if done.code:
            raise SystemExit(done.errors)
    return work / "whole"


def assigned() -> list[str]:
    """Return the settings as options."""
    return [word for each in QUICK for word in ("--set", each)]


def step(work: Path, whole: Path, free: int) -> bool:
    """Run into the end of a disk with `free` bytes left, make space, resume; return whether all is well."""
    disk, out = work / "disk", work / "disk" / "out"
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(disk)], check=True)
    try:
        out.mkdir()
        before = 2 + free // STEP_BYTES % 3
        shutil.copy(work / "kept" / f"{before}.h5", out / "checkpoint.h5")
        left = os.statvfs(disk)
        with (disk / "filler").open("wb") as filler:
            filler.write(bytes(left.f_bavail * left.f_bsize - free))
        words = ("reconstruct", work / "data.h5", "--output", out, *assigned(), "--resume")
        full = run(work, *words)
        faults = list(unsound(out, whole, work / "kept", before))
        if full.code not in (0, 2) or full.errors.count("\n") != full.code // 2:
            faults.append(f"exit code {full.code}, {full.errors[-300:]!r}")
        kept = load_record(out / "checkpoint.h5", State)[0].generation
        (disk / "filler").unlink()
        again = run(work, *words, pictures=False)
        faults += [] if again.code == 0 else [again.errors]
        faults += [each.name for each in whole.iterdir() if each.is_file() and not same(out / each.name, each)]
        faults += [f"left over: {name.name}" for name in out.rglob("*.partial")]
        text = full.errors.strip().replace(f"{out}/", "")
        sys.stdout.write(f"{free:7d} bytes free: code {full.code}, generation {before} -> {kept} kept; {text}\n")
        sys.stdout.write("".join(f"    FAULT {fault}\n" for fault in faults))
        sys.stdout.flush()
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    return not faults


def unsound(out: Path, whole: Path, kept: Path, least: int) -> list[str]:
    """Return what is wrong with the files of a folder: every one has to be whole, and that of the undisturbed run."""
    faults = []
    state, _ = load_record(out / "checkpoint.h5", State)
    expected, _ = load_record(kept / f"{state.generation}.h5", State)
    if state.generation < least or not same_states(state, expected):
        faults.append(f"checkpoint of generation {state.generation}")
    for path in out.rglob("*"):
        name = path.relative_to(out)
        if path.name == "findings.h5":
            # That of the beginning has no patterns to show yet.
            load_record(path, Findings)
        elif path.is_file() and path.name != "checkpoint.h5" and not same(path, whole / name):
            faults.append(f"{name} is incomplete")
    return faults


def same(path: Path, whole: Path) -> bool:
    """Tell whether a file has the content of the undisturbed run's; of figures and times, whether it can be read."""
    try:
        if path.name == "checkpoint.h5":
            return same_states(load_record(path, State)[0], load_record(whole, State)[0])
        if path.suffix == ".mrc":
            return bool(np.array_equal(maps.read_map(path)[0], maps.read_map(whole)[0]))
        if path.suffix == ".json":
            return bool(read_summary(path)["resolution"] == read_summary(whole)["resolution"])
        if path.suffix == ".jsonl":
            return isinstance(read_records(path.parent), list)
        if path.suffix == ".png":
            return whole_png(path.read_bytes())
        return path.is_dir() or path.read_bytes() == whole.read_bytes()
    except (InputError, OSError) as error:
        sys.stdout.write(f"    {error}\n")
        return False


def same_states(first: State, second: State) -> bool:
    """Tell whether two states are the same bit by bit."""
    return all(np.array_equal(getattr(first, each.name), getattr(second, each.name)) for each in fields(State))


def whole_png(content: bytes) -> bool:
    """Tell whether every chunk of a PNG is there and has its checksum."""
    place, kind = 8, b""
    while kind != b"IEND" and place + 12 <= len(content):
        size = int.from_bytes(content[place : place + 4], "big")
        kind, body = content[place + 4 : place + 8], content[place + 4 : place + 8 + size]
        if content[place + 8 + size : place + 12 + size] != zlib.crc32(body).to_bytes(4, "big"):
            return False
        place += 12 + size
    return kind == b"IEND" and place == len(content)


if __name__ == "__main__":
    sys.exit(main())
