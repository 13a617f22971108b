"""What a PDB or mmCIF file means: which copies make the particle, which atoms are water, which are one atom twice."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import gemmi
import numpy as np

from spilegate.errors import InputError
from spilegate.records import Float64

# In place of an assembly's name: all models of the file, or the copies that symmetry within the crystal's unit makes.
MODELS, NCS = "models", "ncs"
# What water is called beside the names that the PDB has, by programs of molecular dynamics.
WATERS = ("SOL", "TIP", "TP3", "TP4", "TP5", "T3P", "T4P", "T5P", "SPC", "OH2", "HO4", "WAT", "HOH", "H2O")
# How atoms of water, and the sites without an atom that its models have, begin.
OF_WATER = "OHDMEL"
# Occupancies of alternates are rounded to 0.01, of a few of them.
MOST_OCCUPANCY = 1.05


class Site(NamedTuple):
    """An atom with its residue and the name of its chain."""

    chain: str
    residue: gemmi.Residue
    atom: gemmi.Atom


def the_model(structure: gemmi.Structure, path: Path, assembly: str | None) -> tuple[gemmi.Model, list[str]]:
    """Return the atoms that make the particle, and what has to be said about that.

    assembly : name of the assembly in the file, MODELS, NCS, or None for what the first model holds
    Raises InputError if the file has no such assembly.
    """
    first = structure[0]
    try:
        if assembly is None:
            return first, _left_out(structure, first)
        if assembly == MODELS:
            return _all_models(structure), []
        if assembly == NCS:
            structure.expand_ncs(gemmi.HowToNameCopiedChain.AddNumber)
            return structure[0], []
        for found in structure.assemblies:
            if found.name == assembly:
                model = gemmi.make_assembly(found, first, gemmi.HowToNameCopiedChain.AddNumber)
                if model.count_atom_sites() > 0:
                    return model, []
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: --assembly {assembly}: cannot be made ({reason}); mend the file") from error
    names = [found.name for found in structure.assemblies]
    raise InputError(
        f"{path}: --assembly {assembly}: not in the file, or without atoms; expected one of "
        f"{', '.join([*names, MODELS, NCS])}; leave it out for the atoms that are listed"
    )


def _left_out(structure: gemmi.Structure, first: gemmi.Model) -> list[str]:
    """Return what the file says of more, or fewer, copies than its first model lists."""
    said = []
    if len(structure) > 1:
        said.append(
            f"{len(structure)} models; the first is used; if they are the parts of one assembly, --assembly {MODELS} "
            "takes all"
        )
    listed = first.count_atom_sites()
    for found in structure.assemblies[:1] if listed else ():
        made = gemmi.make_assembly(found, first, gemmi.HowToNameCopiedChain.AddNumber).count_atom_sites()
        times = made / listed
        if times > 1:
            copies = f"{times:.0f} copies" if times == round(times) else f"{times:.2g} times the atoms"
            said.append(f"assembly of {copies}; 1 is used; --assembly {found.name} takes all")
        elif 0 < times < 1:
            said.append(f"assembly of {times:.0%} of the atoms; all are used; --assembly {found.name} takes those only")
    copies_of_unit = 1 + sum(not operator.given for operator in structure.ncs)
    if copies_of_unit > 1 and not structure.assemblies:
        said.append(f"MTRIX records of {copies_of_unit} copies; 1 is used; --assembly {NCS} takes all")
    return said


def _all_models(structure: gemmi.Structure) -> gemmi.Model:
    """Return one model with the chains of all, by names of their own."""
    whole = structure[0].clone()
    for number, model in enumerate(structure):
        for chain in model if number else ():
            copy = chain.clone()
            copy.name = f"{chain.name}{number + 1}"
            whole.add_chain(copy)
    return whole


def without_waters(model: gemmi.Model) -> tuple[list[Site], list[str]]:
    """Return the sites that are not of water, and how many waters were left out."""
    kept, waters = [], 0
    for chain in model:
        for residue in chain:
            if _is_water(residue):
                # Programs of molecular dynamics number beyond what the format holds: several may share a number.
                waters += max(1, sum(atom.name.lstrip("0123456789").startswith("O") for atom in residue))
            else:
                kept += [Site(chain.name, residue, atom) for atom in residue]
    return kept, [f"{waters} waters are left out"] if waters else []


def _is_water(residue: gemmi.Residue) -> bool:
    """Tell whether a residue is water, by any name that programs give it."""
    if residue.is_water():
        return True
    if not residue.name.startswith(WATERS):
        return False
    return all(atom.name.lstrip("0123456789")[:1] in OF_WATER for atom in residue)


def occupancies(sites: Iterable[Site]) -> tuple[Float64, list[str]]:
    """Return the occupancies (N_ATOM,) float64 of sites, and what had to be changed.

    Programs that write no occupancies leave 0 or 1 everywhere: all 0 counts as 1, and alternates of an atom that add
    up to more than one atom are scaled to one.
    """
    sites = list(sites)
    found = np.array([site.atom.occ for site in sites], np.float64)
    said: list[str] = []
    if not sites:
        return found, said
    if not found.any():
        found[:] = 1.0
        said.append("all occupancies are 0; taken as 1")
    groups = np.array(_alternates(sites), np.int64)
    if (groups < 0).all():
        return found, said
    marked = groups >= 0
    total = np.bincount(groups[marked], weights=found[marked])
    too_many = total > MOST_OCCUPANCY
    scale = np.where(too_many, 1 / np.where(too_many, total, 1.0), 1.0)
    found[marked] *= scale[groups[marked]]
    if too_many.any():
        said.append(f"alternates of {int(too_many.sum())} atoms add up to more than 1; scaled to 1")
    return found, said


def _alternates(sites: list[Site]) -> list[int]:
    """Return which atom every alternate stands for, numbered from 0; -1 for sites that are no alternates.

    Alternates of an atom have its name and residue; some programs give the one that follows another residue's number.
    """
    numbers: dict[tuple[str, str, str], int] = {}
    found: list[int] = []
    follows = [False, *(_next_to(first.atom, second.atom) for first, second in pairwise(sites))]
    for site, of_the_last in zip(sites, follows, strict=True):
        if site.atom.altloc in ("\0", " ", ""):
            found.append(-1)
        elif of_the_last:
            found.append(found[-1])
        else:
            key = (site.chain, str(site.residue.seqid), site.atom.name)
            found.append(numbers.setdefault(key, len(numbers)))
    return found


def _next_to(first: gemmi.Atom, second: gemmi.Atom) -> bool:
    """Tell whether an atom and the next one in the file are alternates by their names."""
    marks = (first.altloc, second.altloc)
    return first.name == second.name and marks[0] != marks[1] and not set(marks) & {"\0", " ", ""}
