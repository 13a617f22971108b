"""The truth that a reconstruction is held against, read from a map, from atoms, or from beside simulated patterns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from spilegate.errors import InputError
from spilegate.formats import maps, spinifel
from spilegate.records import Float32, Float64, Int64

MAPS = (".mrc", ".map", ".ccp4")
MODELS = (".pdb", ".ent", ".cif", ".mmcif", ".pdb.gz", ".ent.gz", ".cif.gz")
PATTERNS = (".h5", ".hdf5")


@dataclass(frozen=True)
class Reference:
    """The truth: densities of one or more states with their voxel, what is known of the patterns, or both.

    densities : one (M, M, M) per state, none where not known
    quaternions : (N_IMG, 4) orientations; state : (N_IMG,) state of every pattern, -1 for junk; None where not known
    size : (N_IMG,), centre : (N_IMG, 2), how patterns see the particle, see `formats.truth.Truth`; None where not known
    pixel : width of a pixel [1/angstrom]
    notes : what was not taken as it is in the file
    """

    densities: list[Float32]
    voxel_angstrom: float
    quaternions: Float64 | None = None
    state: Int64 | None = None
    size: Float64 | None = None
    centre: Float64 | None = None
    pixel: float = 1.0
    notes: tuple[str, ...] = ()


def load_reference(
    path: Path, size: int, voxel_angstrom: float, *, assembly: str | None = None, threads: int
) -> Reference:
    """Read a reference: a map as it is, atoms drawn on the reconstruction's grid, or the truth beside patterns."""
    name = path.name.lower()
    if assembly is not None and not name.endswith(MODELS):
        raise InputError(f"--assembly: found with {path}; expected a file of atoms, {', '.join(MODELS)}; leave it out")
    if not path.is_file():
        raise InputError(f"--reference {path}: not found; expected a file: {', '.join((*MAPS, *MODELS, *PATTERNS))}")
    if name.endswith(MAPS):
        from spilegate.evaluation.comparison import as_reference

        density, voxel = maps.read_map(path)
        density, said = as_reference(density, (size | 1) * voxel_angstrom / voxel)
        return Reference([density], voxel, notes=tuple(f"{path}: {note}" for note in said))
    if name.endswith(MODELS):
        from spilegate.simulation import particle

        atoms = particle.read_particle(path, assembly)
        density = particle.density(atoms, size, voxel_angstrom, threads=threads)
        return Reference([density], voxel_angstrom, notes=atoms.notes)
    if name.endswith(PATTERNS):
        return _beside_patterns(path, voxel_angstrom)
    raise InputError(
        f"--reference {path}: unknown kind of file; expected one that ends in {', '.join((*MAPS, *MODELS, *PATTERNS))}"
    )


def _beside_patterns(path: Path, voxel_angstrom: float) -> Reference:
    """Return the truth in a file of patterns; voxel_angstrom stands in where it holds no density."""
    truth = spinifel.read_truth(path)
    densities = list(truth.volumes) if truth.volumes is not None else []
    if not densities and truth.volume is not None:
        densities = [truth.volume]
    if truth.voxel_angstrom is not None and densities:
        pixel = 1.0 if truth.centre is None else spinifel.pixel_width(path)
        return Reference(
            densities, truth.voxel_angstrom, truth.quaternions, truth.state, truth.size, truth.centre, pixel
        )
    if truth.quaternions is None:
        raise InputError(
            f"--reference {path}: no dataset 'orientations', nor 'volume' with 'voxel_angstrom'; expected "
            "patterns with their truth; give a map or atoms"
        )
    return Reference([], voxel_angstrom, truth.quaternions, truth.state)
