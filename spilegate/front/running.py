"""`spilegate.reconstruct`: from patterns to density in a program."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from spilegate import mtip, records
from spilegate.errors import InputError
from spilegate.forecast.memory import check_host_memory
from spilegate.front.dataset import Dataset, read_by
from spilegate.front.following import Callback, Follower
from spilegate.front.options import Given, as_settings, read_as
from spilegate.front.result import Content, Curves, Reconstruction
from spilegate.kernels.launch import Backend, start, workers_for
from spilegate.kernels.workers import Threads, Workers
from spilegate.patterns.memory import check_memory
from spilegate.patterns.prepare import prepare
from spilegate.reconstruction import Certainty
from spilegate.report.summary import Clock, Run, summarise
from spilegate.settings import PrepareOptions, Settings


def reconstruct(
    data: records.Dataset | str | Path,
    settings: Given = None,
    *,
    callback: Callback | None = None,
    backend: Backend = "auto",
) -> Reconstruction:
    """Reconstruct the density of a particle from its patterns, blind: nothing but the patterns is looked at.

    M-TIP: J. J. Donatelli, J. A. Sethian, P. H. Zwart, PNAS 114:7222 (2017). The same seed gives the same result, in a
    program and by the command, with any number of threads.

    Parameters
    ----------
    data : Dataset, or a path
        the patterns, or where they are
    settings : Settings, mapping or path, optional
        `{"prepare.diameter_angstrom": 65, "seed": 3}`, or the path of a TOML file; what is left out follows from the
        patterns (`scripts/REFERENCE.md` has them all). How patterns are read is said by `read`, or here with a path.
    callback : callable, optional
        called with a `Generation` once a generation, also of both half-sets; an error that it raises ends the run
    backend
        whose arrays to use, as `--backend` of the command says; "auto": those that a data set was read with

    Returns
    -------
    Reconstruction
        `.verdict`, `.density` (M, M, M) float32 with `.voxel_angstrom`, `.orientations` (N_IMG, 4), `.save(folder)` ...

    Raises
    ------
    InputError
        for settings that make no sense, and for patterns that cannot be reconstructed, saying what to do

    Examples
    --------
    >>> quick = {"start.iterations": 3, "phasing.cycles": 1, "phasing.starts": 1, "resolution.half_sets": False}
    >>> quick |= {"resolution.phasings": 0, "convergence.most_generations": 2, "seed": 1}
    >>> seen = []
    >>> coarse = sg.reconstruct(data, quick, callback=seen.append)
    >>> seen[-1].last, seen[-1].density.shape == coarse.density.shape
    (True, True)
    >>> coarse.verdict
    'No resolution stated: no half-sets (not asked for).'
    """
    clock, chosen = Clock(), as_settings(settings)
    dataset, workers = _patterns(data, chosen, backend)
    if isinstance(dataset, Dataset):
        chosen = read_as(chosen, dataset.read_with)
    experiment = prepare(dataset, chosen, workers)
    dataset = replace(dataset, images=experiment.images)
    check_memory(experiment, chosen)
    if isinstance(workers, Threads):
        check_host_memory(experiment, dataset, chosen)
    clock.lap("read")
    follower = Follower(callback if workers.writer else None)
    result = mtip.reconstruct(dataset, chosen, watcher=follower, experiment=experiment)
    clock.lap("reconstruct")
    run = Run(Path(dataset.source), chosen, dataset, experiment, result, follower.records)
    content = Content(result.state, curves_of(result.certainty), follower.records)
    return Reconstruction(summarise(run, clock), dataset.source, lambda: content, (run, clock))


def _patterns(
    data: records.Dataset | str | Path, settings: Settings, backend: Backend
) -> tuple[records.Dataset, Workers]:
    """Return the patterns, read if need be, and who will work on them."""
    threads, split = settings.compute.threads, settings.compute.split_voxels
    if isinstance(data, records.Dataset):
        if backend == "auto" and not isinstance(data.images, np.ndarray):
            return data, workers_for(data.images, threads, split)
        return data, start(backend, threads, split)
    if not isinstance(data, str | Path):
        raise InputError(
            f"data: found {type(data).__name__}; expected a data set or a path; Dataset.from_arrays makes one of arrays"
        )
    workers, usual = start(backend, threads, split), PrepareOptions().reading
    given = {name: value for name, value in settings.prepare.reading.items() if value != usual[name]}
    return read_by(data, workers, given), workers


def curves_of(certainty: Certainty) -> Curves:
    """Return the curves over shells that were measured, of every conformation."""
    found: Curves = [{} for _ in certainty.members]
    for name, values in (
        ("half_set", certainty.half_set_fsc),
        ("half_set_plain", certainty.half_set_fsc_plain),
        ("prtf", certainty.prtf),
    ):
        for state, curve in enumerate(values):
            found[state][name] = (certainty.q, curve)
    return found
