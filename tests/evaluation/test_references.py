"""Maps from elsewhere as references: bytes too many, the other contrast, a particle out of the middle."""

import warnings
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from command_line import process
from test_alignment import Beads, particle

from spilegate.evaluation.comparison import as_reference, compare
from spilegate.evaluation.truth import Reference, load_reference
from spilegate.formats import maps

SIZE, VOXEL = 41, 2.0


@pytest.fixture(scope="module")
def beads() -> Beads:
    made = particle(np.random.default_rng(3), off_centre=1.0)
    return Beads(VOXEL * made.at, made.weight, VOXEL * made.sigma)


def correlation(beads: Beads, reference: Reference) -> float:
    """Compare the particle with a reference."""
    density = beads.density(SIZE, VOXEL)
    found, _ = compare(density, VOXEL, reference.densities[0], reference.voxel_angstrom, q_max=0.2, threads=1)
    return found.correlation


@pytest.fixture
def from_map(tmp_path: Path):
    """Write a map and read it as a reference."""

    def write_and_read(volume: np.ndarray, voxel: float = VOXEL) -> Reference:
        path = tmp_path / "map.mrc"
        maps.write_map(path, volume.astype(np.float32), voxel, force=True)
        return load_reference(path, SIZE, VOXEL, threads=1)

    return write_and_read


def test_a_map_that_is_as_it_should_be_is_taken_as_it_is(beads: Beads, from_map) -> None:
    volume = beads.density(SIZE, VOXEL)
    reference = from_map(volume)
    assert reference.notes == ()
    assert np.array_equal(reference.densities[0], volume)
    noise = np.random.default_rng(0).standard_normal((21, 21, 21)).astype(np.float32)
    assert as_reference(noise, 40.0)[1] == []
    nothing = np.zeros((5, 5, 5), np.float32)
    assert as_reference(nothing, 3.0)[1] == []


@pytest.mark.parametrize("offset", [0.0, 3.0])
def test_inverted_contrast_is_said_and_compared_with_the_other_sign(offset: float, beads: Beads, from_map) -> None:
    reference = from_map(offset - beads.density(SIZE, VOXEL))
    assert len(reference.notes) == 1
    assert "contrast inverted?" in reference.notes[0]
    assert correlation(beads, reference) > 0.99


@pytest.mark.parametrize("shift", [(50, 50, 50), (30, -28, 5)])
def test_a_particle_off_the_centre_is_moved_there(shift: tuple[int, int, int], beads: Beads, from_map) -> None:
    """Also if it lies about the corner of the map."""
    reference = from_map(np.roll(beads.density(101, VOXEL), shift, axis=(0, 1, 2)))
    assert len(reference.notes) == 1
    assert "not in the middle; moved there, by (" in reference.notes[0]
    assert correlation(beads, reference) > 0.99


def test_bytes_after_the_map_are_no_one_s_concern(beads: Beads, tmp_path: Path, finished: Path) -> None:
    path = tmp_path / "map.mrc"
    volume = beads.density(SIZE, VOXEL)
    maps.write_map(path, volume, VOXEL)
    with path.open("ab") as file:
        file.write(bytes(100))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(maps.read_map(path)[0], volume)
    with pytest.warns(RuntimeWarning, match="larger than expected"):
        mrcfile.open(path).close()
    # And so in a process of its own.
    (tmp_path / "out").mkdir()
    for name in ("summary.json", "density.mrc"):
        (tmp_path / "out" / name).write_bytes((finished / name).read_bytes())
    own = tmp_path / "own.mrc"
    own.write_bytes((finished / "density.mrc").read_bytes() + bytes(100))
    done = process("evaluate", tmp_path / "out", "--reference", own)
    assert (done.returncode, done.stderr) == (0, "")
    assert "correlation 1.0000" in done.stdout
