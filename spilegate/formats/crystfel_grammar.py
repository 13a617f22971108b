"""The text of CrystFEL's geometry files: lines `key = value` or `panel/key = value`, and what their values may be.

What it means is CrystFEL's crystfel_geometry(5), of version 0.12.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from spilegate.errors import InputError
from spilegate.formats.facts import EV_ANGSTROM

# No length in pixels or metres, and no index, is larger.
LARGEST = 1e9
NUMBER = r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
SIGNED = re.compile(rf"[+-]?{NUMBER}")
HEX = re.compile(r"0[xX][0-9a-fA-F]+")
# A sum of signed multiples of x, y and z; the first may do without a sign.
TERM = re.compile(rf"([+-]?)({NUMBER})?([xyz])")
DIRECTION = re.compile(rf"{TERM.pattern}(?:[+-](?:{NUMBER})?[xyz])*")
# What a message shows of a value.
SHOWN = 60


@dataclass(frozen=True)
class Location:
    """A number that is in the file of the patterns. path : of its dataset; unit : m, mm, A, eV or keV."""

    path: str
    unit: str


@dataclass(frozen=True)
class Line:
    """A line of a geometry file.

    place : file and number of the line, for messages; owner : panel or bad region, None if the line is of none
    """

    place: str
    owner: str | None
    key: str
    value: str

    @property
    def name(self) -> str:
        """Return the key with its owner, as it is in the file."""
        return visible(self.key if self.owner is None else f"{self.owner}/{self.key}")

    def error(self, expected: str) -> InputError:
        """Return what is wrong with the line. expected : and what to do, in words."""
        return InputError(f"{self.place}: {self.name} = {visible(self.value)!r}; expected {expected}")

    def real(self, expected: str = "a number", least: float = -LARGEST, most: float = LARGEST) -> float:
        """Return the value as a number from `least` to `most`."""
        value = number(self.value)
        if value is None or not least <= value <= most:
            raise self.error(expected)
        return value

    def whole(self, expected: str = "a whole number", least: int = -int(LARGEST)) -> int:
        """Return the value as a whole number, which may be written 127.0."""
        value = self.real(expected, least)
        if value != int(value):
            raise self.error(expected)
        return int(value)

    def index(self) -> int:
        """Return the value as an index, or a number of pixels."""
        return self.whole("a whole number, 0 or more", 0)

    def bits(self) -> int:
        """Return the value as bits, which may be written in hexadecimal."""
        expected = "bits, such as 0xffff or 65535"
        value = int(self.value, 16) if HEX.fullmatch(self.value) else number(self.value)
        if value is None or not 0 <= value < 1 << 64 or value != int(value):
            raise self.error(expected)
        return int(value)

    def truth(self) -> bool:
        """Return the value as true or false: any number but 0 is true."""
        words = {"true": True, "false": False}
        value = self.value.lower()
        return words[value] if value in words else self.real("true, false, 1 or 0") != 0

    def text(self) -> str:
        """Return the value, which must not be empty."""
        if not self.value:
            raise self.error("a value after the equals sign; write one, or remove the line")
        return self.value

    def data_path(self) -> str:
        """Return the value as the path of a dataset, in which % stands for whole names."""
        path = self.text()
        if any("%" in part and part != "%" for part in path.split("/")):
            raise self.error("a path in which % stands for a whole name between slashes")
        return path

    def direction(self) -> tuple[float, float, float]:
        """Return the value as the vector (x, y, z) of a sum such as +0.002701x -0.999996y."""
        terms = "".join(self.value.split())
        if not DIRECTION.fullmatch(terms):
            raise self.error("a sum of multiples of x, y and z, such as +0.002701x -0.999996y")
        vector = {"x": 0.0, "y": 0.0, "z": 0.0}
        for sign, multiple, axis in TERM.findall(terms):
            vector[axis] += float(f"{sign}{multiple or 1}")
        if max(map(abs, vector.values())) > LARGEST:
            raise self.error("vectors of about one pixel")
        return vector["x"], vector["y"], vector["z"]

    def quantity(self, units: tuple[str, ...], of_number: str | None, of_path: str | None) -> float | Location:
        """Return the value, converted by `metres` or `angstrom`, or where in the file of the patterns it is.

        units : that may follow after a blank; of_number, of_path : the unit of a number and of a path without one, None
        if it has to be there
        """
        expected = (
            f"a number or the path of a dataset, which begins with /, in {' or '.join(units)}, such as "
            f"'1.5 {units[0]}'; or remove the line and give it otherwise"
        )
        word, *rest = self.value.split() or [""]
        value = number(word)
        unit = rest[0] if len(rest) == 1 else of_path if value is None else of_number
        if len(rest) > 1 or unit not in units or (value is None and not word.startswith("/")):
            raise self.error(expected)
        if value is None:
            return Location(word, unit)
        return metres(value, unit) if units == LENGTHS else angstrom(value, unit)


LENGTHS, WAVELENGTHS, ENERGIES = ("m", "mm"), ("A", "m"), ("eV", "keV")


def metres(value: float, unit: str) -> float:
    """Return a length in m or mm as one in metres."""
    return value * {"m": 1.0, "mm": 1e-3}[unit]


def angstrom(value: float, unit: str) -> float:
    """Return a wavelength in A or m, or a photon's energy in eV or keV, as a wavelength [angstrom]; 0 of energy 0."""
    if unit in ENERGIES:
        return EV_ANGSTROM / (value * {"eV": 1.0, "keV": 1e3}[unit]) if value else 0.0
    return value * {"A": 1.0, "m": 1e10}[unit]


def number(text: str) -> float | None:
    """Return a number written in decimals, None if it is none."""
    return float(text) if SIGNED.fullmatch(text) else None


def visible(text: str) -> str:
    """Return text for a message: one line, and not too long."""
    shown = "".join(character if character.isprintable() else "?" for character in text)
    return shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}..."


def unix(text: str) -> str:
    """Return text whose lines end in line feeds, whatever they ended in."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def lines(text: str, path: Path) -> Iterator[Line]:
    """Yield the lines of a geometry file without comments and empty ones; InputError if one is no assignment."""
    for index, whole in enumerate(unix(text).split("\n"), 1):
        content = whole.partition(";")[0].strip()
        if not content:
            continue
        place = f"{path}: line {index}"
        key, equals, value = content.partition("=")
        if not equals:
            raise InputError(f"{place}: {visible(content)!r}; expected key = value; comments begin with ;")
        owner, slash, own = key.strip().partition("/")
        yield Line(place, owner, own, value.strip()) if slash else Line(place, None, owner, value.strip())
