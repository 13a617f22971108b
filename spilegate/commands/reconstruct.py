"""`spilegate reconstruct`: from patterns to density, with checkpoint, progress, results and pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from spilegate import mtip
from spilegate.commands import Interrupted
from spilegate.commands.job import Job
from spilegate.commands.resuming import can_resume, check_state, known, other_version, resumed
from spilegate.commands.singles import selected_before, singled
from spilegate.commands.stopping import enough
from spilegate.commands.telling import told
from spilegate.errors import InputError
from spilegate.forecast.memory import check_host_memory
from spilegate.formats import files, record, results
from spilegate.formats.locks import Lock
from spilegate.kernels.launch import Backend, start
from spilegate.kernels.workers import Threads
from spilegate.patterns import beam
from spilegate.patterns.experiment import Experiment
from spilegate.patterns.memory import check_memory
from spilegate.patterns.prepare import prepare
from spilegate.records import Dataset, State
from spilegate.report import closing, saving
from spilegate.report.console import Output
from spilegate.report.drawing import Drawing
from spilegate.report.files import FIGURES, REPORT
from spilegate.report.progress import Monitor
from spilegate.report.summary import Clock, Run


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
        resumes = resume and can_resume(job)
        dataset = beam.read(job.data, **settings.prepare.reading, workers=workers, told=told(out, "reading patterns"))
        job.choice.check(dataset)
        if resumes:
            job = selected_before(job, dataset)
            settings = job.settings
        state, notes = resumed(job, dataset) if resumes else (None, {})
        out.live.show("looking at the patterns")
        # Patterns that cannot be reconstructed are refused here, before --force loses anything.
        experiment = prepare(dataset, settings, workers, findings=known(job, dataset) if state else None)
        # Where values were mended, the patterns as they were read are not needed any more.
        dataset = replace(dataset, images=experiment.images)
        check_memory(experiment, settings)
        if isinstance(workers, Threads):
            check_host_memory(experiment, dataset, settings)
        if state is not None:
            check_state(state, experiment, settings, job.checkpoint)
        again = resume and folder.is_dir()
        workers.once(lambda: results.claim_output(folder, lock=lock, force=force, resume=again))
        if workers.writer:
            out.open_log()
        if state is None:
            job, experiment = singled(job, dataset, experiment, out, workers=workers)
        if not workers.writer:
            mtip.reconstruct(dataset, job.settings, state=state, experiment=experiment)
            return
        clock.lap("read")
        afresh = f", no checkpoint in {folder} yet: started afresh" if resume and not resumes else ""
        out.line(_opening(job, dataset, experiment, state) + afresh)
        for note in (*dataset.remarks, *experiment.findings.notes):
            out.line(note, "yellow")
        for warning in (lock.missing, other_version(notes, job.checkpoint) if resumes else ""):
            if warning:
                out.line(warning, "yellow")
        with Drawing(folder) as drawing:
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
        draw=drawing.begin,
        done=0 if state is None else state.generation,
        half_sets=job.settings.resolution.half_sets,
    )
    try:
        if state is None or not job.findings.is_file():
            record.save_record(job.findings, experiment.findings, attributes)
        with monitor:
            result = mtip.reconstruct(dataset, job.settings, watcher=monitor, state=state, experiment=experiment)
        clock.lap("reconstruct")
        out.live.show("writing the results")
        finished = Run(job.data, job.settings, dataset, experiment, result, monitor.records)
        summary = saving.write(job.folder, finished, clock)
        out.table("what came out", closing.rows(summary))
        if len(summary["populations"]) > 1:
            out.line(_states(summary["populations"]), "bold")
            for k in (k for k, part in enumerate(summary["populations"]) if not part):
                out.line(f"state {k} has lost all patterns and cannot come back: try another --seed, or fewer states")
        out.line(summary["resolution"]["verdict"], "bold")
        for k, group in enumerate(summary["looks"]):
            if group and group["name"] != "C1":
                out.line(_looks(group, f"state {k}" if len(summary["looks"]) > 1 else "it"))
        out.line(f"results in {job.folder}", "bold green")
    except KeyboardInterrupt as error:
        enough()
        raise Interrupted(_how_to_go_on(job, monitor)) from error
    except (InputError, OSError) as error:
        drawing.stop()
        if isinstance(error, OSError) and error.errno not in files.FULL:
            raise
        what = files.unwritten(job.folder, error) if isinstance(error, OSError) else error
        raise InputError(f"{what}; {_how_to_go_on(job, monitor, 'stopped')}") from error
    try:
        out.live.show("drawing")
        problem = drawing.finish()
        out.live.clear()
    except KeyboardInterrupt as error:
        enough()
        raise Interrupted(f"interrupted while drawing; the results in {job.folder} are complete") from error
    out.line(f"pictures in {job.folder / FIGURES}" if not problem else f"not all pictures could be drawn: {problem}")
    if (job.folder / REPORT).is_file():
        out.line(f"to look at: {job.folder / REPORT}")


def _opening(job: Job, dataset: Dataset, experiment: Experiment, state: State | None) -> str:
    """Return the first line of a run."""
    kind = "estimated" if experiment.diameter_estimated else "given"
    if experiment.diameter_rough:
        kind = "a rough estimate, photons being few and the centre hidden: give --diameter-angstrom if it is known"
    what = (
        f"{job.data}: {len(experiment.images)} patterns of {int(experiment.detector.matched.sum())} pixels "
        f"({dataset.taken_for}), "
        f"diameter {experiment.diameter_angstrom:.1f} Å ({kind}), data to {1 / experiment.q_max:.2f} Å, "
        f"about {experiment.fewest_generations()} generations, seed {job.settings.seed}"
    )
    hot, mended = experiment.findings.hot_pixels, len(experiment.findings.mended_value)
    if hot or mended:
        what += f", {hot} hot pixels left out, {mended} values hot in one pattern mended"
    return what if state is None else f"{what}, resumed after generation {state.generation}"


def _states(populations: list[float]) -> str:
    """Return the line that says how many patterns are in each state."""
    maps = ["density.mrc", *(f"density_{k}.mrc" for k in range(1, len(populations)))]
    parts = [f"{part:.1%} in state {k} ({maps[k]})" for k, part in enumerate(populations)]
    return f"patterns kept: {', '.join(parts)}"


def _looks(group: dict[str, Any], what: str) -> str:
    """Return the line that says which point group there seems to be, and what to type for it."""
    return (
        f"{what} looks {group['name']}: turned by its elements the merged intensity agrees with itself by "
        f"{group['agreement']:.2f} (otherwise {group['otherwise']:.2f} at most); --symmetry {group['name']} imposes it"
    )


def _how_to_go_on(job: Job, monitor: Monitor, what: str = "interrupted") -> str:
    """Return what is kept after an interruption, or `what` it was, and how to go on from there."""
    kept = monitor.generation_done
    if job.checkpoint.is_file():
        # The interruption may come between the writing of a checkpoint and the note that it is there.
        kept = record.load_record(job.checkpoint, State)[0].generation
    if not kept:
        return f"{what} before the first checkpoint; to start again: {job.again}"
    return f"{what}; generation {kept} is kept in {job.checkpoint}; to go on: {job.again}"
