"""Patterns that see the particle at a size of its own, with the beam elsewhere: where they sample the model."""

import numpy as np
from scipy.spatial.transform import Rotation

from spilegate.geometry.orientations import rotated_points
from spilegate.geometry.seeing import Seeing, Spread, shifted


def test_a_pattern_samples_the_model_at_its_size_and_less_its_shift() -> None:
    rng = np.random.default_rng(0)
    rotations = Rotation.random(4, rng=rng).as_matrix()
    q, shift, size = rng.standard_normal((50, 3)), rng.standard_normal((4, 2)), np.array([1.0, 0.9, 1.1, 1.3])
    seeing = Seeing(size, shift)
    points = shifted(rotated_points(seeing.matrices(rotations), q), seeing.offsets(rotations))
    for i in range(4):
        expected = size[i] * (q - [*shift[i], 0.0]) @ rotations[i]
        np.testing.assert_allclose(points[:, i].T, expected, atol=1e-12)
    assert np.array_equal(seeing.times(2.0).shift, 2 * shift)
    assert np.array_equal(seeing[1:3].size, size[1:3])
    nominal = Seeing.nominal(4)
    assert np.array_equal(nominal.matrices(rotations), rotations)
    assert not nominal.offsets(rotations).any()


def test_what_does_not_differ_is_held() -> None:
    assert not Spread().any
    precision = Spread(size=0.1).precision(2.0)
    assert abs(precision[0] - 100) < 1e-9
    assert precision[1:].min() >= 1e20
    np.testing.assert_allclose(Spread(shift=0.5).precision(2.0)[1:], 1.0)
