"""What files of atoms say of copies, waters, occupancies and alternates: done, and said."""

import gzip
from pathlib import Path

import gemmi
import numpy as np
import pytest
from command_line import assert_one_line, run

from spilegate.errors import InputError
from spilegate.evaluation.truth import load_reference
from spilegate.simulation.particle import Particle, read_particle

# Quarter turns about z.
TURNS = ((1, 0, 0, 1), (0, -1, 1, 0), (-1, 0, 0, -1), (0, 1, -1, 0))


def atom(number: int, name: str, residue: str, index: int, place: tuple[float, float, float], *, occupancy: float = 1.0,
         alternate: str = " ") -> str:  # fmt: skip
    """Return a line of a PDB file."""
    x, y, z = place
    return (
        f"ATOM  {number:5d}  {name:3s}{alternate}{residue:4s}A{index:4d}    {x:8.3f}{y:8.3f}{z:8.3f}{occupancy:6.2f}"
        f" 20.00          {name.strip()[0]:>2s}"
    )


def protein(**options: object) -> list[str]:
    """Return lines of 40 atoms off the origin."""
    rng = np.random.default_rng(4)
    places = rng.uniform(-4, 4, (40, 3)) + np.array([12, 0, 3])
    names = ("N", "CA", "C", "O")
    return [
        atom(k + 1, names[k % 4], "ALA", k // 4 + 1, tuple(place), **options)  # type: ignore[arg-type]
        for k, place in enumerate(places.tolist())
    ]


def biomt() -> list[str]:
    """Return the remark of an assembly of four copies about z."""
    lines = ["REMARK 350 BIOMOLECULE: 1", "REMARK 350 APPLY THE FOLLOWING TO CHAINS: A"]
    for number, (a, b, c, d) in enumerate(TURNS, start=1):
        for row, (x, y, z) in enumerate(((a, b, 0), (c, d, 0), (0, 0, 1)), start=1):
            lines.append(f"REMARK 350   BIOMT{row} {number:3d} {x:9.6f} {y:9.6f} {z:9.6f}        0.00000")
    return lines


def mtrix() -> list[str]:
    """Return the records of the same copies, the first of them given."""
    lines = []
    for number, (a, b, c, d) in enumerate(TURNS, start=1):
        for row, (x, y, z) in enumerate(((a, b, 0), (c, d, 0), (0, 0, 1)), start=1):
            given = "    1" if number == 1 else ""
            lines.append(f"MTRIX{row} {number:3d}{x:10.6f}{y:10.6f}{z:10.6f}        0.00000{given}")
    return lines


def write(path: Path, lines: list[str]) -> Path:
    """Write a PDB file, as mmCIF or compressed by its name."""
    text = "\n".join([*lines, "END", ""])
    if path.suffix == ".cif":
        structure = gemmi.read_pdb_string(text)
        structure.setup_entities()
        structure.make_mmcif_document().write_file(str(path))
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def assert_four_copies(particle: Particle, one: Particle) -> None:
    """Fail unless a particle is four turned copies of another one."""
    assert len(particle.positions) == 4 * len(one.positions) == 160
    # About its centre the particle is on itself after a quarter turn.
    x, y, z = particle.positions.T
    turned = np.column_stack([-y, x, z])
    nearest = np.linalg.norm(particle.positions[:, None] - turned, axis=-1).min(axis=0)
    assert nearest.max() < 0.01
    assert np.ptp(particle.positions[:, 0]) > 20


@pytest.mark.parametrize("ending", ["pdb", "cif"])
def test_an_assembly_is_named_and_made(ending: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"four.{ending}", [*biomt(), *protein()])
    one = read_particle(path)
    assert one.notes == (f"{path}: assembly of 4 copies; 1 is used; --assembly 1 takes all",)
    whole = read_particle(path, "1")
    assert whole.notes == ()
    assert_four_copies(whole, one)
    with pytest.raises(InputError, match=r"--assembly 7: not in the file.*expected one of 1, models, ncs"):
        read_particle(path, "7")


def test_an_assembly_that_is_all_there_is_not_spoken_of(tmp_path: Path) -> None:
    identity = [line for line in biomt() if " BIOMT" not in line or line[19:23].strip() == "1"]
    assert read_particle(write(tmp_path / "one.pdb", [*identity, *protein()])).notes == ()


def test_copies_within_the_unit_and_models_are_named_and_made(tmp_path: Path) -> None:
    path = write(tmp_path / "ncs.pdb", [*mtrix(), *protein()])
    one = read_particle(path)
    assert one.notes == (f"{path}: MTRIX records of 4 copies; 1 is used; --assembly ncs takes all",)
    assert_four_copies(read_particle(path, "ncs"), one)
    models = []
    for number, (a, b, c, d) in enumerate(TURNS, start=1):
        models.append(f"MODEL     {number:4d}")
        for line in protein():
            x, y = float(line[30:38]), float(line[38:46])
            models.append(f"{line[:30]}{a * x + b * y:8.3f}{c * x + d * y:8.3f}{line[46:]}")
        models.append("ENDMDL")
    path = write(tmp_path / "models.pdb", models)
    one = read_particle(path)
    assert len(one.notes) == 1
    assert "4 models; the first is used" in one.notes[0]
    assert_four_copies(read_particle(path, "models"), one)


@pytest.mark.parametrize("name", ["SOL", "TIP", "TIP3", "WAT", "HOH", "SPC"])
def test_waters_by_any_name_are_left_out_and_said(name: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    waters = [
        atom(100 + 3 * k + part, label, name, 100 + k, tuple(rng.uniform(-40, 40, 3)))
        for k in range(7)
        for part, label in enumerate(("OW", "HW1", "HW2"))
    ]
    # A residue by such a name that is none.
    other = atom(99, "CA", name, 90, (12.0, 0.0, 3.0)) if name != "HOH" and name != "WAT" else None
    path = write(tmp_path / "wet.pdb.gz", [*protein(), *([other] if other else []), *waters])
    particle = read_particle(path)
    assert len(particle.positions) == 40 + bool(other)
    assert particle.notes == (f"{path}: 7 waters are left out",)


def test_occupancies_that_are_all_zero_count_as_one(tmp_path: Path) -> None:
    path = write(tmp_path / "zero.pdb", protein(occupancy=0.0))
    particle = read_particle(path)
    assert particle.occupancy.tolist() == [1.0] * 40
    assert particle.notes == (f"{path}: all occupancies are 0; taken as 1",)
    mixed = read_particle(
        write(tmp_path / "mixed.pdb", [*protein(), atom(50, "CA", "ALA", 30, (0, 0, 0), occupancy=0)])
    )
    assert (len(mixed.positions), mixed.notes) == (40, ())


@pytest.mark.parametrize("order", ["beside", "one after the other"])
def test_alternates_that_are_more_than_one_atom_are_scaled(order: str, tmp_path: Path) -> None:
    first, second = protein(alternate="A"), protein(alternate="B")
    both = [line for pair in zip(first, second, strict=True) for line in pair] if order == "beside" else first + second
    path = write(tmp_path / "alternates.pdb", [*both, atom(99, "CA", "GLY", 90, (12.0, 0.0, 3.0))])
    particle = read_particle(path)
    assert particle.occupancy.tolist() == [0.5] * 80 + [1.0]
    assert particle.notes == (f"{path}: alternates of 40 atoms add up to more than 1; scaled to 1",)
    fine = protein(alternate="A", occupancy=0.6) + protein(alternate="B", occupancy=0.4)
    particle = read_particle(write(tmp_path / "fine.pdb", fine))
    assert (sorted({*particle.occupancy.round(6).tolist()}), particle.notes) == ([0.4, 0.6], ())


def test_the_command_line_says_it_and_takes_the_assembly(tmp_path: Path) -> None:
    path = write(tmp_path / "four.pdb", [*biomt(), *protein()])
    options = ["simulate", "--pdb", path, "--images", 3, "--pixels", 16, "--output"]
    result = run(*options, tmp_path / "one.h5")
    assert result.exit_code == 0, result.output
    assert "assembly of 4 copies; 1 is used; --assembly 1 takes all" in result.stdout
    result = run(*options, tmp_path / "four.h5", "--assembly", "1")
    assert result.exit_code == 0, result.output
    assert len(result.stdout.splitlines()) == 1
    refused = run("simulate", "--images", 3, "--output", tmp_path / "new.h5", "--assembly", "1")
    assert_one_line(refused.exit_code, refused.stdout, refused.stderr, "--assembly: found without a file of atoms")


def test_a_reference_of_atoms_takes_the_assembly(tmp_path: Path) -> None:
    path = write(tmp_path / "four.pdb", [*biomt(), *protein()])
    one, four = (load_reference(path, 25, 2.5, assembly=name, threads=1) for name in (None, "1"))
    assert len(one.notes) == 1
    assert four.notes == ()
    assert four.densities[0].sum() == pytest.approx(4 * one.densities[0].sum(), rel=1e-3)
    (tmp_path / "map.mrc").touch()
    with pytest.raises(InputError, match="expected a file of atoms"):
        load_reference(tmp_path / "map.mrc", 25, 2.5, assembly="1", threads=1)
