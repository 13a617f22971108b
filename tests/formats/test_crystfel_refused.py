"""What geometry files of CrystFEL are refused for, in one line each; nothing else ever comes of a spoilt one."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from geometries import BAD, BOTH, SHAPE, TOP, Write, modules, writer
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from spilegate.errors import InputError
from spilegate.formats.crystfel import is_geometry, read

# What is added to a geometry, or put in place of a line of it, and the words it is refused with.
FAULTS = [
    ("clen = 0.1", "clen = SET ME", "line 2: clen = 'SET ME'; expected a number or the path of a dataset"),
    ("clen = 0.1", "clen = 122", "clen = 122 m and coffset = 0 m of panel 'a'; expected 0.01 to 20 m"),
    ("clen = 0.1", "clen = 0", "expected 0.01 to 20 m from the sample"),
    ("clen = 0.1", "clen = 12 cm", "line 2: clen = '12 cm'; expected .* in m or mm"),
    ("clen = 0.1", "clen =", "line 2: clen = ''; expected"),
    ("clen = 0.1", "a/clen = 0.1", "line 2: a/clen = '0.1'; expected one clen for all panels"),
    ("photon_energy = 10000", "photon_energy = 9.3", "line 3: photon_energy = '9.3'; expected .* 10 eV to 100 keV"),
    ("photon_energy = 10000", "photon_energy = 0", "photon_energy = '0'; expected a photon's energy"),
    ("photon_energy = 10000", "photon_energy = 9 MeV", "photon_energy = '9 MeV'; expected .* in eV or keV"),
    ("photon_energy = 10000", "wavelength = 1.3", "wavelength = '1.3'; expected .* in A or m, such as '1.5 A'"),
    ("photon_energy = 10000", "wavelength = 1.3 m", "expected a wavelength of 0.124 to 1240 A"),
    ("photon_energy = 10000", "electron_voltage = 300 kV", "line 3: electron_voltage = '300 kV'; expected X-rays"),
    ("res = 1000", "res = 75e-6", "line 4: res = '75e-6'; expected pixels per metre"),
    ("res = 1000", "res = 1000\nres = -5000", "line 5: res = '-5000'; expected pixels per metre"),
    ("res = 1000", "", "line 8: panel 'a': no res; expected a/res = ... in the file"),
    ("ss = -y", "ss = -x", "panel 'a': fs and ss are along the same line"),
    ("ss = -y", "ss = 0y", "panel 'a': fs and ss of length 1 and 0; expected about 1 pixel"),
    ("a/min_fs = 0", "a/min_fs = 3", "panel 'a': min_fs = 3, max_fs = 2; expected max_fs not below min_fs"),
    ("a/min_fs = 0", "a/min_fs = -1", "line 8: a/min_fs = '-1'; expected a whole number, 0 or more"),
    ("a/min_fs = 0", "a/min_fs = 0.5", "a/min_fs = '0.5'; expected a whole number"),
    ("a/corner_x = -1.5", "", "panel 'a': no corner_x; expected"),
    ("a/corner_x = -1.5", "a/corner_x = nan", "a/corner_x = 'nan'; expected a number"),
    ("a/corner_x = -1.5", "a/corner_x = 1e999", "a/corner_x = '1e999'; expected a number"),
    ("a/corner_x = -1.5", "a/corner_x = 1,5", "a/corner_x = '1,5'; expected a number"),
    ("", "res = 500", "line 21: res = '500'; expected it before the first line of the panels it is for"),
    ("", "nonsense", "line 21: 'nonsense'; expected key = value; comments begin with ;"),
    ("", "c\u2028d/fs = 1", r"line 21: c\?d/fs = '1'; expected a sum of multiples"),
    ("", "a/dim0 = 1", r"line 8: panel 'a': dim0 = 1, dim1 = fs; expected all axes from dim0 on, one of them ss"),
    ("", "a/dim0 = fs\na/dim1 = ss", "dim0 = fs, dim1 = ss; expected all axes"),
    ("", "a/dim3 = 1", "dim0 = ss, dim1 = fs, dim3 = 1; expected all axes"),
    ("", "a/dim0 = x", "line 21: a/dim0 = 'x'; expected ss, fs, % or a whole number"),
    ("", "a/dim16 = 0", "a/dim16 = '0'; expected axes dim0 to dim15"),
    ("", "a/data = /image_%/data", "a/data = '/image_%/data'; expected a path in which % stands for a whole name"),
    ("", "a/data =", "a/data = ''; expected a value"),
    ("", "a/mask0_data = /m/%", "panel 'a': more % in the path of a mask than in data"),
    ("", "a/mask0_data = m", "a/mask0_data = 'm'; expected the path of a dataset, which begins with /"),
    ("", "a/mask8_data = /m", "a/mask8_data = '/m'; expected masks mask0 to mask7"),
    ("", "a/mask_bad = 0xfff", "panel 'a': mask0 without a path; expected mask0_data ="),
    ("", "a/mask_file = m.h5", "panel 'a': mask0 without a path"),
    ("", "a/mask = /m\na/mask_bad = all", "a/mask_bad = 'all'; expected bits, such as 0xffff or 65535"),
    ("", "a/mask = /m\na/mask_bad = 0x1ffffffffffffffff", "expected bits"),
    ("", "a/mask = /m\na/mask_bad = 1e999", "expected bits"),
    ("", "a/no_index = maybe", "a/no_index = 'maybe'; expected true, false, 1 or 0"),
    ("", "a/adu_per_eV = 0", "a/adu_per_eV = '0'; expected a number above 0"),
    ("", "detector_shift_x = /shift", "detector_shift_x = '/shift'; expected a number in m, or in mm"),
    ("", "bad1/min_x = 0\nbad1/max_fs = 1", "bad1/min_x = '0'; expected .* not of both"),
    ("", "bad1/panel = a", "bad1/panel = 'a'; expected min_x, max_x"),
    ("", "bad1/max_fs = 1\nbad1/panel = c", "bad1/panel = 'c'; expected the name of a panel of this file"),
    ("", "bad1/max_fs = 1\nbad1/panel = b", "bad1/max_fs = '1'; expected .* of pixels of its panel"),
    ("", "bad1/min_fs = 2\nbad1/max_fs = 1", "bad1/min_fs = '2'; expected no minimum of a bad region above"),
    ("", "bad1/min_x = 2\nbad1/max_x = 1", "bad1/min_x = '2'; expected no minimum of a bad region above"),
]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A function that writes a geometry file."""
    return writer(tmp_path)


@pytest.mark.parametrize(("old", "new", "words"), FAULTS, ids=[new.replace("\n", ", ") for _, new, _ in FAULTS])
def test_what_cannot_be_used_is_refused(write: Write, old: str, new: str, words: str) -> None:
    text = BOTH.replace(old, new) if old else f"{BOTH}{new}"
    with pytest.raises(InputError, match=words) as caught:
        read(write(text))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no panels; expected a geometry of CrystFEL, lines panel/key = value"),
        (TOP.encode(), "no panels"),
        (b"bad1/min_x = 1\n", "no panels"),
        (b"a/fs = x\0", "found a file that is no text; expected a geometry of CrystFEL"),
    ],
)
def test_files_that_are_no_geometry_are_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "detector.geom"
    with pytest.raises(InputError, match="not found; expected a geometry of CrystFEL; check the path"):
        read(path)
    path.write_bytes(content)
    with pytest.raises(InputError, match=words):
        read(path)


def usable(path: Path) -> None:
    """Check that a file is a geometry that gives positions and bad pixels, or is refused in one line."""
    is_geometry(path)
    refusal = ""
    try:
        geometry = read(path)
        for shape in (SHAPE, (2, 2, 3)):
            x = geometry.positions(shape)[..., 0]
            assert (np.isfinite(x) | geometry.bad(shape)).all()
            geometry.adu_per_photon(shape)
    except InputError as error:
        refusal = str(error)
    assert not refusal or (refusal.startswith(f"{path}: ") and len(refusal.splitlines()) == 1)


LINES = [*f"{BOTH}{modules()}".strip().split("\n"), *(line for _, new, _ in FAULTS for line in new.split("\n")), *BAD]
WORDS = sorted({word for line in LINES for word in re.split(r"([/=\s])", line) if word.strip()})
SPOILT_LINE = st.one_of(
    st.sampled_from(LINES),
    st.lists(st.one_of(st.sampled_from([*WORDS, " ", "1e999", "-", "%"]), st.text(max_size=3)), max_size=6).map(
        "".join
    ),
    st.builds("{} = {}".format, st.sampled_from(WORDS), st.floats()),
    st.builds("{}/{} = {}".format, st.sampled_from("ab"), st.sampled_from(WORDS), st.integers()),
)


@given(
    st.lists(st.tuples(st.integers(0, 40), st.booleans(), SPOILT_LINE), max_size=4), st.sampled_from([BOTH, modules()])
)
@hypothesis_settings(deadline=None, max_examples=300)
def test_spoilt_lines_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, bool, str]], text: str
) -> None:
    lines = text.split("\n")
    for place, instead, line in changes:
        lines[place : place + instead] = [line]
    path = tmp_path_factory.mktemp("spoilt") / "detector.geom"
    path.write_bytes("\n".join(lines).encode(errors="replace"))
    usable(path)


@given(st.binary(max_size=300), st.integers(0, len(BOTH)), st.integers(0, 20))
@hypothesis_settings(deadline=None, max_examples=150)
def test_any_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, place: int, missing: int
) -> None:
    """Alone, and in a geometry in place of some of its own."""
    path = tmp_path_factory.mktemp("bytes") / "detector.geom"
    path.write_bytes(content)
    usable(path)
    path.write_bytes(BOTH.encode()[:place] + content + BOTH.encode()[place + missing :])
    usable(path)
