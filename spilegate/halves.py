"""Half-set FSC: two reconstructions of disjoint halves of the patterns, started independently."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from spilegate.evaluation.alignment import align
from spilegate.evaluation.resolution import FscCurve, fourier_shell_correlation
from spilegate.kernels.launch import workers_for
from spilegate.settings import Settings
from spilegate.state import Dataset, Reconstruction, Watcher


def half_set_fsc(
    dataset: Dataset,
    settings: Settings,
    diameter_angstrom: float,
    reconstruct: Callable[[Dataset, Settings, Watcher | None], Reconstruction],
    watcher: Watcher | None = None,
) -> FscCurve:
    """Reconstruct the even and the odd patterns, each from its own blind start, align them and correlate their shells.

    Rosenthal and Henderson, J. Mol. Biol. 333:721 (2003): the curve meets 0.143 where the full set's would meet 0.5
    against the truth. With several states the first ones are compared.

    watcher : is asked who is to watch each half
    """
    workers = workers_for(dataset.images, settings.compute.threads, settings.compute.split_voxels)
    threads = workers.threads
    options = settings.model_copy(
        update={
            "resolution": settings.resolution.model_copy(update={"half_sets": False}),
            # One diameter, or the two volumes would differ in their grids.
            "prepare": settings.prepare.model_copy(update={"diameter_angstrom": diameter_angstrom}),
        }
    )
    results = []
    for half in (0, 1):
        part = replace(dataset, images=workers.take(dataset.images, half, 2))
        seed = int(np.random.SeedSequence([settings.seed, half]).generate_state(1)[0])
        of_half = None if watcher is None else watcher.half(half + 1)
        results.append(reconstruct(part, options.model_copy(update={"seed": seed}), of_half))
    first, second = (result.state for result in results)
    aligned = align(second.density[0], first.density[0], first.voxel_angstrom, q_max=results[0].q_max, threads=threads)
    return fourier_shell_correlation(first.density[0], aligned.volume, first.voxel_angstrom, threads=threads)
