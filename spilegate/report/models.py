"""Slices of a run's model, to be shown beside the patterns that they explain."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spilegate.findings import Findings
from spilegate.geometry.orientations import matrices
from spilegate.kernels.workers import Threads
from spilegate.records import Float32, State
from spilegate.stages.slicing import slices


def model_slices(state: State, found: Findings, patterns: Sequence[int]) -> Float32:
    """Return the slices (n, N_PIX) float32 at some patterns' orientations, scaled like them, no background."""
    index = np.asarray(patterns, np.int64)
    models = np.empty((len(index), len(found.q)), np.float32)
    for kind in np.unique(state.state[index]):
        of_kind = state.state[index] == kind
        rotations = matrices(state.quaternions[index[of_kind]])
        volume = state.autocorrelation[kind]
        models[of_kind] = slices(volume, state.voxel_angstrom, rotations, found.q, workers=Threads(1))
    scaled: Float32 = models * state.scale[index, None].astype(np.float32)
    return scaled
