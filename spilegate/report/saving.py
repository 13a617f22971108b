"""What a finished reconstruction leaves in its folder, whoever asked for it: the command line or a program."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spilegate import __version__
from spilegate.errors import InputError
from spilegate.formats import record, results
from spilegate.formats import summary as summaries
from spilegate.patterns.spared import places
from spilegate.records import Dataset
from spilegate.report.files import CHECKPOINT, FINDINGS, SUMMARY, write_curve
from spilegate.report.methods import METHODS, write_methods
from spilegate.report.summary import Clock, Run, summarise
from spilegate.settings import Settings


def attributes(settings: Settings, dataset: Dataset) -> dict[str, Any]:
    """Return what a checkpoint says about the run it belongs to."""
    return {
        "version": __version__,
        "seed": settings.seed,
        "digest": dataset.digest,
        "settings": settings.model_dump_json(),
    }


def write(folder: Path, finished: Run, clock: Clock) -> dict[str, Any]:
    """Write the last checkpoint, the results and the summary into a folder that was claimed, and return the summary.

    Raises InputError if a file cannot be written.
    """
    known = attributes(finished.settings, finished.dataset)
    record.save_record(folder / CHECKPOINT, finished.result.state, known)
    record.save_record(folder / FINDINGS, finished.result.findings, known)
    certainty, workers = finished.result.certainty, finished.experiment.workers
    written = results.write_results(
        folder,
        finished.result.state,
        finished.data,
        half_maps=certainty.half_maps,
        origin=finished.dataset.origin,
        place=places(finished.experiment.weight),
        threads=workers.threads,
    )
    for name, curves in (
        ("half_set", certainty.half_set_fsc),
        ("half_set_plain", certainty.half_set_fsc_plain),
        ("prtf", certainty.prtf),
    ):
        for state, curve in enumerate(curves):
            written |= write_curve(folder, name, certainty.q, curve, state)
    clock.lap("write")
    summary = summarise(finished, clock) | _earlier_evaluation(folder)
    results.write_summary(folder / SUMMARY, summary)
    write_methods(folder, summary)
    results.remove_left_over(folder, {*written, METHODS})
    return summary


def _earlier_evaluation(folder: Path) -> dict[str, Any]:
    """Return what the summary has from `evaluate`: a finished run that is resumed comes to the same result again."""
    try:
        known, _ = summaries.read(folder / SUMMARY)
    except InputError:
        return {}
    return {} if known.evaluation is None else {"evaluation": known.evaluation}
