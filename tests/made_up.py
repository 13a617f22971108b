"""A state of a run that never was."""

import numpy as np

from spilegate.records import State


def made_up_state(states: int = 1) -> State:
    """A state of 6 patterns and volumes of 9^3."""
    rng = np.random.default_rng(1)
    shape = (states, 9, 9, 9)
    density = rng.random(shape, np.float32)
    spectrum = np.abs(np.fft.fftn(density, axes=(1, 2, 3))) ** 2
    autocorrelation = np.fft.fftshift(np.fft.ifftn(spectrum, axes=(1, 2, 3)).real, axes=(1, 2, 3))
    return State(
        generation=3,
        voxel_angstrom=4.0,
        history=np.zeros((2, 3)),
        quaternions=np.tile([1.0, 0, 0, 0], (6, 1)),
        state=np.arange(6) % states,
        scale=np.ones(6),
        background=np.zeros(144),
        weight=np.ones(6),
        distance=rng.random(6),
        autocorrelation=autocorrelation.astype(np.float32),
        density=density,
        support=density > 0.5,
    )
