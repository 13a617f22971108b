"""`spilegate reconstruct`: from patterns to density, with checkpoint, progress, results and pictures."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spilegate import __version__, mtip
from spilegate.commands import Interrupted
from spilegate.commands.configuration import differences
from spilegate.commands.resuming import check_state, other_version
from spilegate.commands.stopping import enough
from spilegate.errors import InputError
from spilegate.formats import files, record, results, spinifel
from spilegate.formats import summary as summaries
from spilegate.formats.locks import Lock
from spilegate.formats.record import settings_of
from spilegate.kernels.launch import Backend, start
from spilegate.preparation import Experiment, check_memory, prepare
from spilegate.report.console import Output
from spilegate.report.drawing import Drawing
from spilegate.report.files import CHECKPOINT, FIGURES, SUMMARY, write_curve
from spilegate.report.progress import Monitor
from spilegate.report.summary import Clock, Run, summarise
from spilegate.settings import Settings
from spilegate.state import Dataset, State

# What may differ between a run and its resumption: it changes the time, not the result.
FREE = "compute."


@dataclass(frozen=True)
class Job:
    """A reconstruction asked for: where from, where to, and how; `again` is the command line that resumes it."""

    data: Path
    folder: Path
    settings: Settings
    again: str = "spilegate reconstruct ... --resume"

    @property
    def checkpoint(self) -> Path:
        """Return where the checkpoint lies."""
        return self.folder / CHECKPOINT

    def attributes(self, dataset: Dataset) -> dict[str, Any]:
        """Return what a checkpoint says about the run it belongs to."""
        return {
            "version": __version__,
            "seed": self.settings.seed,
            "digest": dataset.digest,
            "settings": self.settings.model_dump_json(),
        }


def run(job: Job, *, backend: Backend, resume: bool, force: bool, quiet: bool, log: Path | None) -> None:
    """Reconstruct the density from a file of patterns and write everything into a folder.

    Every process of a run does this; one of them writes and talks to the user.
    Raises InputError before anything is written if an input is bad, Interrupted if the user stops the run.
    """
    clock = Clock()
    if resume and force:
        raise InputError("--resume and --force: found both; expected one; --resume keeps what --force overwrites")
    settings, folder = job.settings, job.folder
    workers = start(backend, settings.compute.threads, settings.compute.split_voxels)
    with (
        Output(quiet=quiet or not workers.writer, log=log if workers.writer else None, folder=folder) as out,
        Lock(folder, f"--output {folder}") as lock,
    ):
        if resume or force:
            # Before a checkpoint is read that another run would go on from, and before the user has waited.
            workers.once(lambda: lock.take() if folder.is_dir() else None)
        resumes = resume and _can_resume(job)
        limits = settings.prepare
        dataset = spinifel.read(
            job.data, binning=limits.binning, q_min=limits.q_min, q_max=limits.q_max, workers=workers
        )
        state, notes = _resumed(job, dataset) if resumes else (None, {})
        # Patterns that cannot be reconstructed are refused here, before --force loses anything.
        experiment = prepare(dataset, settings, workers)
        check_memory(experiment, settings)
        if state is not None:
            check_state(state, experiment, settings, job.checkpoint)
        workers.once(lambda: results.claim_output(folder, lock=lock, force=force, resume=resume and folder.is_dir()))
        if not workers.writer:
            mtip.reconstruct(dataset, settings, state=state, experiment=experiment)
            return
        out.open_log()
        clock.lap("read")
        afresh = f", no checkpoint in {folder} yet: started afresh" if resume and not resumes else ""
        out.line(_opening(job, experiment, state) + afresh)
        for warning in (lock.missing, other_version(notes, job.checkpoint) if resumes else ""):
            if warning:
                out.line(warning)
        with Drawing(folder, job.data) as drawing:
            _reconstruct(job, dataset, experiment, state, out, clock, drawing)


def _reconstruct(
    job: Job, dataset: Dataset, experiment: Experiment, state: State | None, out: Output, clock: Clock, drawing: Drawing
) -> None:
    """Run the reconstruction, write its results, then draw; an interruption says how to go on."""
    attributes = job.attributes(dataset)
    monitor = Monitor(
        out,
        job.folder,
        save=lambda now: record.save_record(job.checkpoint, now, attributes),
        draw=drawing.begin_if_idle,
        done=0 if state is None else state.generation,
        half_sets=job.settings.resolution.half_sets,
    )
    try:
        with monitor:
            result = mtip.reconstruct(dataset, job.settings, watcher=monitor, state=state, experiment=experiment)
        clock.lap("reconstruct")
        finished = Run(job.data, job.settings, dataset, experiment, result, monitor.records)
        summary = _write(job, finished, clock)
        out.line(_closing(job, summary), "bold green")
        if len(summary["populations"]) > 1:
            out.line(_states(summary["populations"]), "bold")
        out.line(summary["resolution"]["verdict"], "bold")
    except KeyboardInterrupt as error:
        enough()
        raise Interrupted(_how_to_go_on(job, monitor)) from error
    except (InputError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in files.FULL:
            raise
        what = files.unwritten(job.folder, error) if isinstance(error, OSError) else error
        raise InputError(f"{what}; {_how_to_go_on(job, monitor, 'stopped')}") from error
    try:
        problem = drawing.finish()
    except KeyboardInterrupt as error:
        enough()
        raise Interrupted(f"interrupted while drawing; the results in {job.folder} are complete") from error
    out.line(f"pictures in {job.folder / FIGURES}" if not problem else f"not all pictures could be drawn: {problem}")


def _can_resume(job: Job) -> bool:
    """Tell whether there is a checkpoint; a run that was ended before its first one starts afresh.

    So a job that a scheduler starts again and again needs one command line.
    Raises InputError where that would overwrite the results of a run whose checkpoint is gone.
    """
    if job.checkpoint.is_file():
        return True
    if job.checkpoint.exists() or job.checkpoint.is_symlink():
        raise InputError(f"--resume: {job.checkpoint}: no file; expected a checkpoint; name another --output")
    there = [name for name in (SUMMARY, "density.mrc") if (job.folder / name).exists()]
    if there:
        raise InputError(
            f"--resume: {job.folder} has {there[0]} and no checkpoint; expected a checkpoint, or no results that a "
            "new start would overwrite; name another --output, or give --force in place of --resume"
        )
    return False


def _resumed(job: Job, dataset: Dataset) -> tuple[State, dict[str, Any]]:
    """Load the checkpoint with what it says about its run, and make sure that it is the same run."""
    state, attributes = record.load_record(job.checkpoint, State)
    if attributes.get("digest") != dataset.digest:
        raise InputError(
            f"--resume: {job.checkpoint} belongs to other patterns than {job.data} (SHA-256 "
            f"{attributes.get('digest')!s:.12} and {dataset.digest:.12}); give the same file, or a new --output"
        )
    old, new = settings_of(attributes, job.checkpoint), json.loads(job.settings.model_dump_json())
    changed = [f"{path} = {a!r}, now {b!r}" for path, a, b in differences(old, new) if not path.startswith(FREE)]
    if changed:
        raise InputError(
            f"--resume: {job.checkpoint} was made with {'; '.join(changed)}; give the same settings, or a new --output"
        )
    return state, attributes


def _write(job: Job, finished: Run, clock: Clock) -> dict[str, Any]:
    """Write the last checkpoint, the results and the summary, and return the summary."""
    record.save_record(job.checkpoint, finished.result.state, job.attributes(finished.dataset))
    results.write_results(job.folder, finished.result.state, threads=finished.experiment.workers.threads)
    certainty = finished.result.certainty
    for name, curves in (
        ("half_set", certainty.half_set_fsc),
        ("half_set_plain", certainty.half_set_fsc_plain),
        ("prtf", certainty.prtf),
    ):
        for state, curve in enumerate(curves):
            write_curve(job.folder, name, certainty.q, curve, state)
    clock.lap("write")
    summary = summarise(finished, clock) | _earlier_evaluation(job)
    results.write_summary(job.folder / SUMMARY, summary)
    return summary


def _earlier_evaluation(job: Job) -> dict[str, Any]:
    """Return what the summary has from `evaluate`: a finished run that is resumed comes to the same result again."""
    try:
        known, _ = summaries.read(job.folder / SUMMARY)
    except InputError:
        return {}
    return {} if known.evaluation is None else {"evaluation": known.evaluation}


def _opening(job: Job, experiment: Experiment, state: State | None) -> str:
    """Return the first line of a run."""
    kind = "estimated" if experiment.diameter_estimated else "given"
    if experiment.diameter_rough:
        kind = "a rough estimate, photons being few and the centre hidden: give --diameter-angstrom if it is known"
    what = (
        f"{job.data}: {len(experiment.images)} patterns of {int(experiment.detector.matched.sum())} pixels, "
        f"diameter {experiment.diameter_angstrom:.1f} Å ({kind}), data to {1 / experiment.q_max:.2f} Å, "
        f"at least {experiment.fewest_generations} generations, seed {job.settings.seed}"
    )
    if experiment.hot_pixels or experiment.mended:
        what += f", {experiment.hot_pixels} hot pixels left out, {experiment.mended} values hot in one pattern mended"
    return what if state is None else f"{what}, resumed after generation {state.generation}"


def _closing(job: Job, summary: dict[str, Any]) -> str:
    """Return the line that says what came out."""
    merits = summary["figures_of_merit"]
    parts = [
        f"{label} {merits[name]:.3g}"
        for name, label in (("mean_distance", "distance"), ("moved", "moved"), ("phasing_r", "R"))
        if name in merits
    ]
    if summary["outliers"]:
        parts.append(f"{len(summary['outliers'])} outliers")
    background = summary["background"]
    if background["fraction"]:
        parts.append(f"background {background['fraction']:.1%} of the counts ({background['source']})")
    if not summary["converged"]:
        parts.append(f"not converged ({summary['convergence']})")
    parts += [f"{summary['seconds']['total']:.1f} s", f"{summary['peak_memory_mib']:.0f} MiB"]
    return f"results in {job.folder}: {', '.join(parts)}"


def _states(populations: list[float]) -> str:
    """Return the line that says how many patterns are in each state."""
    maps = ["density.mrc", *(f"density_{k}.mrc" for k in range(1, len(populations)))]
    parts = [f"{part:.1%} in state {k} ({maps[k]})" for k, part in enumerate(populations)]
    return f"patterns kept: {', '.join(parts)}"


def _how_to_go_on(job: Job, monitor: Monitor, what: str = "interrupted") -> str:
    """Return what is kept after an interruption, or `what` it was, and how to go on from there."""
    kept = monitor.generation_done
    if job.checkpoint.is_file():
        # The interruption may come between the writing of a checkpoint and the note that it is there.
        kept = record.load_record(job.checkpoint, State)[0].generation
    if not kept:
        return f"{what} before the first checkpoint; to start again: {job.again}"
    return f"{what}; generation {kept} is kept in {job.checkpoint}; to go on: {job.again}"
