"""`spilegate evaluate`: a reconstruction against the truth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spilegate.errors import InputError
from spilegate.formats import results
from spilegate.formats import summary as summaries
from spilegate.formats.locks import Lock
from spilegate.kernels.launch import available_cores
from spilegate.report.console import Output
from spilegate.report.files import CHECKPOINT, REPORT, SUMMARY, write_curve

if TYPE_CHECKING:
    from spilegate.evaluation.figures import Found, Patterns, Seen


def run(
    folder: Path, reference: Path, *, assembly: str | None, threads: int | None, quiet: bool, log: Path | None
) -> None:
    """Compare the density and orientations of an output folder with a reference; add `evaluation` to its summary."""
    with Output(quiet=quiet, log=log, folder=folder) as out, Lock(folder, str(folder)) as lock:
        from spilegate.evaluation import figures
        from spilegate.evaluation.truth import load_reference
        from spilegate.report.page import build
        from spilegate.report.pictures import draw_fsc

        workers = threads or available_cores()
        check_folder(folder)
        lock.take()
        if lock.missing:
            out.line(lock.missing)
        known, summary = summaries.read(folder / SUMMARY)
        found = of_folder(folder, known)
        size, voxel = len(found.densities[0]), found.voxel_angstrom
        truth = load_reference(reference, size, voxel, assembly=assembly, threads=workers)
        for note in truth.notes:
            out.line(note, "yellow")
        out.live.show("comparing with the truth")
        measured, matches = figures.measure(found, truth, str(reference), threads=workers)
        for state, match in enumerate(matches):
            write_curve(folder, "reference", match.curve.q, match.curve.correlation, state)
        out.live.clear()
        # What this reference says nothing about stays as another one has told it.
        summary["evaluation"] = {**figures.NOT_EVALUATED, **(known.evaluation or {}), **measured}
        results.write_summary(folder / SUMMARY, summary)
        out.line(figures.in_words({**figures.NOT_EVALUATED, **measured}), "bold green")
        if truth.densities:
            out.line(f"picture in {', '.join(map(str, draw_fsc(folder)))}")
        if (folder / CHECKPOINT).is_file():
            try:
                out.line(f"to look at: {build.write(folder)[0]}")
            except InputError as error:
                # What was asked for is done.
                out.line(f"{REPORT} is as it was: {error}", "yellow")


def check_folder(folder: Path) -> None:
    """Raise InputError for what is no folder."""
    if not folder.is_dir():
        raise InputError(f"{folder}: not a folder; expected one written by spilegate reconstruct")


def of_folder(folder: Path, known: summaries.Finished) -> Found:
    """Return what a reconstruction came to from its output folder; known : what its summary says.

    Raises InputError if its density is missing or cannot be read.
    """
    from spilegate.evaluation.figures import Found

    densities, voxel = results.read_densities(folder)

    def patterns() -> Patterns:
        path = folder / "orientations.h5"
        return np.asarray(results.read_orientations(path)), *results.read_assignments(path)

    def seen() -> Seen:
        return results.read_seen(folder / "orientations.h5")

    return Found(str(folder), densities, voxel, patterns, seen, known.q_max_inverse_angstrom, known.settings.symmetry)
