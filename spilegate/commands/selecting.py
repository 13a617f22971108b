"""`spilegate select`: single particles told from everything else; classes kept or dropped by hand."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from spilegate import __version__
from spilegate.commands import Interrupted
from spilegate.commands.stopping import enough
from spilegate.commands.telling import told
from spilegate.errors import InputError
from spilegate.formats import files, record, results
from spilegate.formats.locks import Lock
from spilegate.kernels.workers import Workers
from spilegate.patterns import beam
from spilegate.patterns.prepare import prepare
from spilegate.records import Dataset, Int64
from spilegate.report import selected
from spilegate.report.console import Output
from spilegate.report.gallery import GALLERY, write_gallery
from spilegate.report.selected_gallery import gallery
from spilegate.selection import by_hand, written
from spilegate.selection.choosing import select
from spilegate.selection.record import Selection
from spilegate.settings import Settings

# The attribute that says which patterns a selection is of.
DIGEST = "digest"


def run(data: Path, folder: Path, settings: Settings, *, force: bool, quiet: bool, log: Path | None) -> None:
    """Select the single particles among the patterns of a file, and write what was found into a folder.

    Raises InputError before anything is written if an input is bad, Interrupted if the user stops it.
    """
    with Output(quiet=quiet, log=log, folder=folder) as out, Lock(folder, f"--output {folder}") as lock:
        if force and folder.is_dir():
            lock.take()
        dataset = beam.read(data, **settings.prepare.reading, told=told(out, "reading patterns"))
        out.live.show("looking at the patterns")
        # Patterns that cannot be used are refused here, before --force loses anything.
        experiment = prepare(dataset, settings)
        results.claim_output(folder, lock=lock, force=force, resume=False, leaves=results.SELECTION)
        out.open_log()
        out.line(
            f"{data}: {len(dataset.images)} patterns of {int(experiment.detector.matched.sum())} pixels "
            f"({dataset.taken_for}), seed {settings.seed}"
        )
        for note in (*dataset.remarks, *experiment.findings.notes, lock.missing):
            if note:
                out.line(note, "yellow")
        try:
            found = select(
                dataset,
                settings,
                lambda numbers: some(dataset, numbers, experiment.workers),
                say=out.line,
                experiment=experiment,
            )
            write_all(folder, found, attributes_of(data, dataset, settings), dataset)
        except KeyboardInterrupt as error:
            enough()
            raise Interrupted(f"interrupted; nothing of it is kept in {folder}; select again") from error
        for line in found.said.splitlines():
            out.line(line)
        out.line(by_hand.purity(found), "bold")
        _close(out, data, folder)


def change(
    data: Path, folder: Path, settings: Settings, *, keep: str | None, drop: str | None, force: bool, quiet: bool,
    log: Path | None,
) -> None:  # fmt: skip
    """Keep or drop classes of the selection in a folder, and write its files again.

    keep, drop : numbers of classes, "none" to take earlier choices back; None to leave them
    Raises InputError, with nothing written, if an input is bad or the selection is of other patterns.
    """
    if force:
        raise InputError("--force: found with --keep or --drop, which change what is there; leave one of them out")
    chosen = by_hand.numbers_of(keep, "--keep"), by_hand.numbers_of(drop, "--drop")
    path = folder / written.RECORD
    if not path.is_file():
        raise InputError(
            f"--output {folder}: no {written.RECORD}; expected the selection that is to be changed; select without "
            "--keep and --drop first"
        )
    with Output(quiet=quiet, log=log, folder=folder) as out, Lock(folder, f"--output {folder}") as lock:
        lock.take()
        before, attributes = record.load_record(path, Selection)
        dataset = beam.read(data, **settings.prepare.reading, told=told(out, "reading patterns"))
        if attributes.get(DIGEST) != dataset.digest:
            raise InputError(
                f"{path}: a selection of {attributes.get('file')}, and not of the patterns in {data}, or of these read "
                "with other options; expected the same; give those it was made of"
            )
        after = by_hand.changed(before, *chosen)
        out.open_log()
        write_all(folder, after, attributes, dataset)
        for line in by_hand.said(before, after):
            out.line(line)
        _close(out, data, folder)


def some(dataset: Dataset, numbers: Int64, workers: Workers) -> Dataset:
    """Return some patterns of a data set, by their numbers (n,) ascending."""
    lacking = np.isin(dataset.missing_pattern, numbers)
    return replace(
        dataset,
        images=workers.some(dataset.images, numbers),
        origin=dataset.origin.some(numbers, dataset.source),
        missing_pattern=np.searchsorted(numbers, dataset.missing_pattern[lacking]).astype(np.int64),
        missing_pixel=dataset.missing_pixel[lacking],
    )


def attributes_of(data: Path, dataset: Dataset, settings: Settings) -> dict[str, Any]:
    """Return what the record says about where it is from."""
    return {
        "version": __version__,
        "seed": settings.seed,
        DIGEST: dataset.digest,
        "file": str(data).encode(errors="backslashreplace").decode(),
        "settings": settings.model_dump_json(),
    }


def write_all(folder: Path, selection: Selection, attributes: dict[str, Any], dataset: Dataset) -> None:
    """Write everything that a selection comes to."""
    numbers = np.arange(len(dataset.images))
    written.write(folder, selection, attributes, dataset.origin.some(numbers, dataset.source))
    try:
        selected.draw(folder, selection, Path(dataset.source).name)
        write_gallery(folder / GALLERY, gallery(selection, dataset))
    except OSError as error:
        raise InputError(files.unwritten(folder, error)) from error


def _close(out: Output, data: Path, folder: Path) -> None:
    """Say where the results are, and what to type next."""
    name = shlex.quote(str(folder / written.RECORD))
    out.line(f"lists, table and record in {folder}; classes to keep or drop by clicks in {folder / GALLERY}")
    out.line(f"to reconstruct those kept: spilegate reconstruct {shlex.quote(str(data))} --select {name} --output DIR")
