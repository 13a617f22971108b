"""The single particles that a reconstruction is made of, where its file has many patterns of other things."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from spilegate.commands.choice import listed
from spilegate.commands.job import Job
from spilegate.commands.selecting import DIGEST, attributes_of, some, write_all
from spilegate.errors import InputError
from spilegate.formats import record
from spilegate.kernels.workers import Workers
from spilegate.patterns.experiment import Experiment
from spilegate.patterns.prepare import prepare
from spilegate.records import Dataset
from spilegate.report.console import Output
from spilegate.selection import by_hand, written
from spilegate.selection.choosing import NothingAlikeError, select
from spilegate.selection.mixed import mixed
from spilegate.selection.record import Selection


def singled(
    job: Job, dataset: Dataset, experiment: Experiment, out: Output, *, workers: Workers
) -> tuple[Job, Experiment]:
    """Return a job, and its patterns as prepared, without those that show no single particle, if that helps.

    Every process of a run does this; one of them writes what was found into the folder.
    """
    settings, mode = job.settings, job.settings.selection.mode
    if mode == "never" or settings.prepare.use is not None:
        return job, experiment
    if mode == "auto":
        out.live.show("looking for anything but single particles")
        said = mixed(experiment, lambda numbers: some(dataset, numbers, workers), settings)
        if not said:
            return job, experiment
        out.line(said)
    try:
        found = select(
            dataset,
            settings,
            lambda numbers: some(dataset, numbers, workers),
            say=lambda text: out.line(f"select: {text}"),
            experiment=experiment,
        )
    except NothingAlikeError as error:
        if mode != "auto":
            raise
        out.line(f"{error}. All are used", "yellow")
        return job, experiment
    if workers.writer:
        write_all(job.folder, found, attributes_of(job.data, dataset, settings), dataset)
    for line in (*found.said.splitlines(), by_hand.purity(found)):
        out.line(line)
    chosen = with_those_of(job, found)
    return chosen, prepare(dataset, chosen.settings, workers)


def selected_before(job: Job, dataset: Dataset) -> Job:
    """Return a job that is resumed, with the patterns that it selected when it was begun, if it did."""
    path = job.folder / written.RECORD
    if job.settings.selection.mode == "never" or job.settings.prepare.use is not None or not path.is_file():
        return job
    found, attributes = record.load_record(path, Selection)
    if attributes.get(DIGEST) != dataset.digest:
        raise InputError(f"--resume: {path}: of other patterns than {job.data}; give the same file, or a new --output")
    return with_those_of(job, found)


def with_those_of(job: Job, found: Selection) -> Job:
    """Return a job of the patterns that a selection keeps."""
    use = listed(found.kept, str(Path(job.folder) / written.RECORD))
    settings = job.settings
    return replace(
        job, settings=settings.model_copy(update={"prepare": settings.prepare.model_copy(update={"use": use})})
    )
