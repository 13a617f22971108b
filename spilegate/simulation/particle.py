"""Particles made of atoms: read from PDB or mmCIF, their X-ray form factors, and their exact band-limited density."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import gemmi
import numpy as np
from scipy.spatial import ConvexHull, QhullError
from scipy.spatial.distance import pdist

from spilegate.errors import InputError
from spilegate.kernels import fft, nufft
from spilegate.records import Float32, Float64, Int64
from spilegate.simulation.built_in import NAMES, built_in_atoms
from spilegate.simulation.structure import occupancies, the_model, without_waters

PARTICLES = NAMES
DEFAULT_PARTICLE = NAMES[0]
# Far below the float32 rounding of a density relative to its peak.
DENSITY_TOLERANCE = 1e-9
# Relative error of form factors in the basis that stands for all elements, far below that of a pattern.
BASIS_TOLERANCE = 1e-7
# What the residues of proteins and nucleic acids are made of, and the atoms that tell a residue of a protein.
POLYMER_ELEMENTS = ("H", "C", "N", "O", "P", "S", "Se")
BACKBONE = {"N", "CA", "C"}


@dataclass(frozen=True)
class Particle:
    """Atoms of a particle, in the particle frame.

    positions : (N_ATOM, 3) float64 [angstrom], centred on their mean weighted by occupancy and forward scattering
    element : (N_ATOM,) int64, index into `elements`
    occupancy : (N_ATOM,) float64, in (0, 1]
    elements : names of the elements that occur, "C", "N" ...
    name : where the particle comes from, for messages
    notes : what was not taken as it is in the file
    """

    positions: Float64
    element: Int64
    occupancy: Float64
    elements: tuple[str, ...]
    name: str
    notes: tuple[str, ...] = ()


def make_particle(positions: Float64, symbols: list[str], occupancy: Float64, name: str) -> Particle:
    """Return a centred particle of atoms.

    positions : (N_ATOM, 3) float64 [angstrom]; symbols : an element's name per atom; occupancy : (N_ATOM,) float64
    Raises InputError for no atoms, coordinates or occupancies that make no sense, elements without form factors.
    """
    if len(positions) == 0:
        raise InputError(f"{name}: no atoms found; expected at least one ATOM or HETATM other than water")
    if not (np.isfinite(positions).all() and np.isfinite(occupancy).all() and (occupancy > 0).all()):
        raise InputError(f"{name}: coordinate or occupancy that is not finite or is negative; mend it")
    elements, element = np.unique(symbols, return_inverse=True)
    particle = Particle(positions, element.astype(np.int64), occupancy, tuple(elements.tolist()), name)
    weight = form_factors(particle, np.zeros(()))[particle.element] * occupancy
    centre = weight @ positions / weight.sum()
    return Particle(positions - centre, particle.element, occupancy, particle.elements, name)


def _element(residue: gemmi.Residue, atom: gemmi.Atom) -> str:
    """Return the name of an atom's element.

    Many PDB files by simulation programs have no element column and atom names out of place, so that C-alpha reads as
    calcium and NH1 as nihonium. In a residue of a polymer the first letter of such a name is the element.
    """
    found: str = atom.element.name
    if found == "D":
        return "H"
    if found in POLYMER_ELEMENTS:
        return found
    table = gemmi.find_tabulated_residue(residue.name)
    backbone = {other.name for other in residue} >= BACKBONE
    if not (table.is_amino_acid() or table.is_nucleic_acid() or backbone):
        return found
    return next((letter for letter in atom.name if letter in "HCNOPS"), found)


def read_particle(path: Path, assembly: str | None = None) -> Particle:
    """Read the first model of a PDB or mmCIF file (gzip allowed), or an assembly of its copies, without waters.

    Alternate conformations stay with their occupancies, of at most 1 together, hydrogens as they are in the file;
    deuterium counts as hydrogen; atoms of occupancy 0 are left out, unless all are 0: they count as 1.

    assembly : name of an assembly in the file, "models" or "ncs"; None for the atoms that are listed
    Raises InputError if the file is missing, cannot be parsed, has no atoms or no such assembly.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: not found; expected a PDB or mmCIF file; check the path")
    try:
        structure = gemmi.read_structure(str(path), format=gemmi.CoorFormat.Detect)
    except (RuntimeError, ValueError, OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: cannot be parsed ({reason}); expected a PDB or mmCIF file") from error
    if len(structure) == 0:
        raise InputError(f"{path}: no atoms found; expected a PDB or mmCIF file of a molecule")
    model, copies = the_model(structure, path, assembly)
    all_sites, waters = without_waters(model)
    occupancy, mended = occupancies(all_sites)
    sites = [site for site, part in zip(all_sites, occupancy, strict=True) if part != 0]
    positions = np.array([site.atom.pos.tolist() for site in sites], np.float64).reshape(-1, 3)
    symbols = [_element(site.residue, site.atom) for site in sites]
    read = make_particle(positions, symbols, occupancy[occupancy != 0], str(path))
    return replace(read, notes=tuple(f"{path}: {note}" for note in (*copies, *waters, *mended)))


def built_in_particle(name: str = DEFAULT_PARTICLE) -> Particle:
    """Return a particle that needs no file: "demo" (globular) or "dumbbell" (elongated), the same on every machine.

    Raises InputError for a name that is not in `PARTICLES`.
    """
    positions, symbols = built_in_atoms(name)
    return make_particle(positions, symbols, np.ones(len(positions)), name)


def form_factors(particle: Particle, q_length: Float64) -> Float64:
    """Return X-ray form factors [electrons] of the particle's elements, (N_ELEMENT, ...) float64.

    q_length : (...) float64 [1/angstrom], |q| = 1/d = 2 sin(theta) / wavelength
    `f(q) = sum_i a_i exp(-b_i q^2 / 4) + c`, International Tables for Crystallography C (1992), table 6.1.1.4.
    Raises InputError for an element without an entry.
    """
    squared = np.asarray(q_length, np.float64) ** 2 / 4
    factors = []
    for name in particle.elements:
        entry = gemmi.Element(name).it92 if name != "X" else None
        if entry is None:
            raise InputError(f"{particle.name}: element {name!r} has no X-ray form factor; name or remove its atoms")
        a, b = np.array(entry.a), np.array(entry.b)
        factors.append(np.exp(-squared[..., None] * b) @ a + entry.c)
    return np.array(factors)


def form_factor_basis(
    particle: Particle, q_length: Float64, tolerance: float = BASIS_TOLERANCE
) -> tuple[Float64, Float64]:
    """Return the fewest functions of |q| that stand for the form factors of all elements.

    Returns (basis, weights), (n, ...) and (n, N_ELEMENT) float64: `form_factors = weights^T basis` to a relative error
    of about `tolerance`, by a truncated singular value decomposition. Form factors of the light elements are so alike
    that three functions do for a protein: fewer transforms than elements, whatever is bound to it.
    """
    factors = form_factors(particle, q_length)
    vectors, values, _ = np.linalg.svd(factors.reshape(len(factors), -1), full_matrices=False)
    weights = vectors[:, values > tolerance * values[0]].T
    return np.tensordot(weights, factors, axes=1), weights


def diameter_angstrom(particle: Particle) -> float:
    """Return the largest distance between two atoms [angstrom]."""
    corners = particle.positions
    try:
        corners = corners[ConvexHull(corners).vertices]
    except (QhullError, ValueError):
        # Fewer than four atoms, or all in one plane: no hull, so all of them are compared.
        corners = np.unique(corners, axis=0)
    return float(pdist(corners).max()) if len(corners) > 1 else 0.0


def density(particle: Particle, size: int, voxel_angstrom: float, *, threads: int) -> Float32:
    """Return the electron density on a grid, with exactly the frequencies that the grid can carry.

    The structure factor `F(q) = sum_j occ_j f_j(|q|) exp(-2 pi i q.x_j)` is evaluated on the grid's frequencies (type-1
    NUFFT) and transformed back. The grid is periodic; the particle must fit.

    size : odd, so that no frequency is unpaired
    Returns (size, size, size) float32 [electrons/angstrom^3] in (x, y, z) index order, centre at size // 2.
    Raises InputError if the particle is larger than the grid.
    """
    if size % 2 == 0:
        raise ValueError(f"size must be odd, got {size}")
    box = size * voxel_angstrom
    reach = float(np.abs(particle.positions).max())
    if 2 * reach > box:
        raise InputError(
            f"{particle.name}: reaches {reach:.1f} A from its centre; expected at most {box / 2:.1f} A, half the grid"
        )
    axis = (np.arange(size) - size // 2) / box
    q_length = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
    basis, weights = form_factor_basis(particle, q_length)
    points = np.ascontiguousarray(-2 * np.pi / box * particle.positions.T)
    spectrum = np.zeros((size,) * 3, np.complex128)
    for function, weight in zip(basis, weights, strict=True):
        strengths = (particle.occupancy * weight[particle.element]).astype(np.complex128)
        spectrum += function * nufft.adjoint(strengths, points, size, tolerance=DENSITY_TOLERANCE)
    half = fft.to_corner(spectrum)[..., : size // 2 + 1]
    volume: Float32 = (fft.to_centre(fft.irfftn(half, size, threads=threads)) / voxel_angstrom**3).astype(np.float32)
    return volume
