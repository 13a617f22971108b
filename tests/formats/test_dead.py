"""Pixels that are 0 in all patterns: their blocks are left out, and nothing is read again for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from spoilt import good, read

from spilegate.formats.patterns import Stack
from spilegate.kernels.events import dense


@pytest.mark.parametrize(("photons", "dtype", "passes"), [(3.0, np.float32, 1), (0.17, np.int32, 2)])
def test_blocks_of_dead_pixels_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photons: float, dtype: type, passes: int
) -> None:
    content = good(photons)
    images = np.tile(content["intensities"], (5, 1, 1, 1))
    content["intensities"] = images
    images[:, 0, 4, 5] = 0
    images[3] = 0
    # All that it sees is one block of a dead pixel.
    images[3, 0, 5, 5] = 7
    reads, block = [], Stack.block
    monkeypatch.setattr(Stack, "block", lambda stack, part: reads.append(part) or block(stack, part))
    found = read(tmp_path, content, binning=2)
    assert found.images.dtype == dtype
    # The sample, and one pass; another one where a list was longer than those of the sample.
    assert sum(part.stop - part.start for part in reads) <= 64 + 8 + passes * len(images)
    expected = images.reshape(len(images), 6, 2, 6, 2).sum((2, 4))
    never = np.zeros((6, 6), np.bool_)
    never[2, 2] = True
    expected[:, never] = 0
    np.testing.assert_array_equal(found.mask.reshape(6, 6) == 2, never)
    np.testing.assert_array_equal(dense(found.images, 36).reshape(len(images), 6, 6), expected)
    assert "1 pixels (0.69 %) are 0 in all patterns" in str(found.remarks)
