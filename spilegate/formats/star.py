"""Orientations as a STAR file in RELION's conventions, for the programs of electron microscopy that read it."""

from __future__ import annotations

from pathlib import Path

import gemmi

from spilegate.formats import files
from spilegate.geometry.orientations import euler_angles
from spilegate.records import Int64, Origin, State

# RELION's labels, then, where it has none, names of our own, which it passes over.
COLUMNS = (
    "_rlnImageName", "_rlnAngleRot", "_rlnAngleTilt", "_rlnAnglePsi", "_rlnClassNumber", "_rlnRandomSubset",
    "_spilegatePattern", "_spilegateState", "_spilegateWeight", "_spilegateScale", "_spilegateDistance",
)  # fmt: skip
HEADER = """\
# Orientations of diffraction patterns: RELION's angles [degrees], A = Z(psi)^T Y(tilt)^T Z(rot)^T; a pattern samples
# the intensity, in the frame of density.mrc, at A^T q. Patterns are numbered from 1 in the image's name and from 0 in
# _spilegatePattern; a weight of 0 is that of an outlier, left out of everything.

data_particles

loop_
"""


def write_star(
    path: Path, state: State, source: Path, origin: Origin | None = None, *, halves: bool, place: Int64 | None = None
) -> None:
    """Write the orientation of every pattern, and what else is known of it, replacing an older file.

    source : the file of the patterns; origin : what each came from: where they are of several files, it names these
    halves : whether each pattern was in one of two half-sets; place : (N_IMG,), the number of each among those that
        were used, the even ones being the first half; their own number if left out

    `_rlnClassNumber` is the conformation from 1, `_spilegateState` from 0; `_rlnRandomSubset` the half, 1 or 2.
    Angles have six decimals, which is a hundred-millionth of a radian.
    Raises InputError if the file cannot be written.
    """
    rot, tilt, psi = euler_angles(state.quaternions).T.tolist()
    images, rows = image_names(len(state.state), source, origin), []
    for number, (conformation, weight, scale, distance) in enumerate(
        zip(state.state.tolist(), state.weight.tolist(), state.scale.tolist(), state.distance.tolist(), strict=True)
    ):
        half = f"{(number if place is None else int(place[number])) % 2 + 1} " if halves else ""
        rows.append(
            f"{gemmi.cif.quote(images[number])} {rot[number]:11.6f} {tilt[number]:10.6f} "
            f"{psi[number]:11.6f} {conformation + 1} {half}{number} {conformation} {weight:g} {scale:.6g} "
            f"{distance:.6g}\n"
        )
    labels = [label for label in COLUMNS if halves or label != "_rlnRandomSubset"]
    head = HEADER + "".join(f"{label} #{column}\n" for column, label in enumerate(labels, 1))
    files.replace(path, (head + "".join(rows)).encode())


def image_names(count: int, source: Path, origin: Origin | None = None) -> list[str]:
    """Return the names of patterns as RELION has them, `000001@file`: numbers from 1, and the file they are in."""
    values = {} if origin is None else origin.values
    if not {"file", "index"} <= values.keys():
        name = _printable(str(source))
        return [f"{number:06d}@{name}" for number in range(1, count + 1)]
    names = {each: _printable(each.decode(errors="replace")) for each in set(values["file"].tolist())}
    pairs = zip(values["index"].tolist(), values["file"].tolist(), strict=True)
    return [f"{index + 1:06d}@{names[each]}" for index, each in pairs]


def _printable(name: str) -> str:
    """Return a name that can stand on one line between quotes: other characters are written as their codes."""
    return "".join(
        letter if letter.isprintable() and letter != '"' else letter.encode("unicode_escape").decode("ascii")
        for letter in name
    ).replace('"', r"\x22")
