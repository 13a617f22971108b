"""CrystFEL's geometry files, against EXtra-geom, which writes them, and by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import extra_geom
import numpy as np
import pytest
from geometries import BAD, BOTH, SHAPE, TOP, A, B, Write, modules, writer

from spilegate.errors import InputError
from spilegate.formats.crystfel import Geometry, is_geometry, read
from spilegate.formats.crystfel_grammar import Location, angstrom, metres
from spilegate.formats.crystfel_panels import Mask

MODULES, SLAB = ("frame", "modno", "ss", "fs"), ("frame", "ss", "fs")
QUADRANTS = [(-525, 625), (-550, -10), (520, -160), (542.5, 475)]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A function that writes a geometry file."""
    return writer(tmp_path)


def agipd() -> Any:
    return extra_geom.AGIPD_1MGeometry.from_quad_positions(QUADRANTS)


def jungfrau() -> Any:
    return extra_geom.JUNGFRAUGeometry.from_module_positions(
        [(100, -20), (-1130, 530)], orientations=[(-1, -1), (1, 1)]
    )


def tilted() -> Any:
    """Three modules of two panels, rotated about all axes."""
    corners = [np.array([0.01, -0.02, 0.003]), np.array([-0.03, 0.015, -0.002]), np.array([0.002, 0.04, 0.0])]
    detector = extra_geom.GenericGeometry.from_simple_description(
        75e-6, slow_pixels=20, fast_pixels=30, corner_coordinates=corners, n_tiles_per_module=2
    )
    # The rotated one is a plain detector, which does not know where in the data its panels are.
    detector.modules = detector.rotate(angles=(20, -10, 30)).modules
    return detector


@pytest.mark.parametrize("dims", [MODULES, SLAB], ids=["modules", "slab"])
@pytest.mark.parametrize("make", [agipd, jungfrau, tilted])
def test_pixels_lie_where_extra_geom_has_them(tmp_path: Path, make: Callable[[], Any], dims: tuple[str, ...]) -> None:
    """As it writes them, and for patterns with modules as an axis as for those with one below the other."""
    detector, path = make(), tmp_path / "detector.geom"
    detector.write_crystfel_geom(str(path), dims=dims, adu_per_ev=0.0075, clen=0.12, photon_energy=9300, nquads=1)
    assert is_geometry(path)
    geometry = read(path)
    expected = detector.get_pixel_positions(centre=True) + np.array([0, 0, 0.12])
    shape = expected.shape[:-1]
    found = geometry.positions(shape)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    of_slab = geometry.positions((shape[0] * shape[1], shape[2]))
    assert np.array_equal(of_slab.reshape(found.shape), found)
    assert not geometry.bad(shape).any()
    assert geometry.wavelength_angstrom == pytest.approx(12398.419843 / 9300)
    np.testing.assert_allclose(geometry.adu_per_photon(shape), 0.0075 * 9300)
    assert (geometry.clen_m, geometry.remarks) == (0.12, ())
    assert geometry.data_path == "/entry_1/instrument_1/detector_1/data"


def test_what_the_writer_leaves_to_be_set_is_not_known(tmp_path: Path) -> None:
    """The distance then is less by clen, and may be given afterwards."""
    path = tmp_path / "detector.geom"
    agipd().write_crystfel_geom(str(path))
    geometry = read(path)
    shape = (16, 512, 128)
    assert (geometry.clen_m, geometry.clen_path, geometry.wavelength_angstrom) == (None, None, None)
    assert geometry.adu_per_photon(shape) is None
    z = geometry.positions(shape)[..., 2]
    assert np.array_equal(z, np.zeros(shape))
    assert np.array_equal(replace(geometry, clen_m=0.3).positions(shape)[..., 2], np.full(shape, 0.3))
    with pytest.raises(InputError, match=r"clen = 300 m and coffset = 0 m of panel 'p0a0'; expected 0\.01 to 20 m"):
        replace(geometry, clen_m=300.0)


def test_hexagonal_pixels_are_told(tmp_path: Path) -> None:
    path = tmp_path / "detector.geom"
    extra_geom.DSSC_1MGeometry.from_quad_positions([(-130, 5), (-130, -125), (5, -125), (5, 5)]).write_crystfel_geom(
        str(path)
    )
    assert read(path).remarks == (
        "rows 0.866 pixels apart: of hexagons? a geometry cannot say that every other row is displaced",
    )


def test_centres_are_half_a_pixel_from_the_corner(write: Write) -> None:
    """Panels begin where they do in the data: min_fs and min_ss."""
    geometry = read(write(BOTH))
    found = geometry.positions(SHAPE)
    x, y = [-1e-3, 0.0, 1e-3], [3.5e-3, 2.5e-3, -1.5e-3, -2.5e-3]
    np.testing.assert_allclose(found[..., 0], np.broadcast_to(x, SHAPE), atol=1e-15)
    np.testing.assert_allclose(found[..., 1], np.broadcast_to(y, SHAPE[::-1]).T, atol=1e-15)
    np.testing.assert_allclose(found[..., 2], 0.1, atol=1e-15)


def test_panels_have_their_own_pixels_offsets_and_tilts(write: Write) -> None:
    """Also an offset and a shift of the whole detector: x and y are in pixels of the panel, they in metres."""
    text = (
        BOTH + "b/res = 500\nb/coffset = -2e-3\nb/ss = -0.8y + 0.6z\ndetector_shift_x = 4 mm\ndetector_shift_y = -1e-3"
    )
    found = read(write(text)).positions(SHAPE)
    np.testing.assert_allclose(found[0, 0], [3e-3, 2.5e-3, 0.1], atol=1e-15)
    expected = [(-1.5 + 0.5) / 500 + 4e-3, (-1 - 0.8 * 1.5) / 500 - 1e-3, 0.098 + 0.6 * 1.5 / 500]
    np.testing.assert_allclose(found[3, 0], expected, atol=1e-15)


@pytest.mark.parametrize(
    ("text", "vector"),
    [
        ("x", (1, 0, 0)),
        ("-y", (0, -1, 0)),
        ("+0.6x -0.8y", (0.6, -0.8, 0)),
        ("- 0.6x + .8 z", (-0.6, 0, 0.8)),
        ("1.0x+1e-05y", (1, 1e-5, 0)),
        ("0.5x + 0.5x -0.0y", (1, 0, 0)),
    ],
)
def test_directions_are_sums_of_signed_multiples(write: Write, text: str, vector: tuple[float, ...]) -> None:
    ss = "y" if vector[0] else "x"
    assert read(write(f"{BOTH}a/fs = {text}\na/ss = {ss}")).panels[0].fs == pytest.approx(vector)


@pytest.mark.parametrize("text", ["", "1", "x y", "0.5", "2*x", "(0.1x)", "+-x", "1x2y", "a", "nan x", "1e400x-1e400x"])
def test_other_directions_are_refused(write: Write, text: str) -> None:
    with pytest.raises(InputError, match=r"line 21: a/fs = .*; expected a sum of|length"):
        read(write(f"{BOTH.rstrip()}\na/fs = {text}"))


def test_defaults_are_those_before_a_panel_is_first_mentioned(write: Write) -> None:
    """Later lines of the panel count, later ones of no panel do not, but for panels yet to come."""
    text = f"{TOP}no_index = 0\na/no_index = 1\nres = 500\nfs = y\nss = x\nno_index = true\n{A}{B}b/res = 250"
    a, b = read(write(text)).panels
    assert (a.res, a.fs, a.no_index) == (1000, (1, 0, 0), True)
    assert (b.res, b.fs, b.no_index) == (250, (0, 1, 0), True)


@pytest.mark.parametrize(
    ("line", "clen"),
    [("0.1", 0.1), ("0.1 m", 0.1), ("95.3 mm", 0.0953), ("67.8e-3", 0.0678), ("/a/b", "mm"), ("/a/b m", "m")],
)
def test_distances_are_in_m_but_paths_in_mm(write: Write, line: str, clen: float | str) -> None:
    geometry = read(write(BOTH.replace("clen = 0.1\n", f"clen = {line}\n")))
    if isinstance(clen, float):
        assert (geometry.clen_m, geometry.clen_path) == (pytest.approx(clen), None)
        return
    assert geometry.clen_m is None
    assert geometry.clen_path == Location("/a/b", clen)
    assert metres(150.0, clen) == pytest.approx(0.15 if clen == "mm" else 150.0)
    assert np.array_equal(geometry.positions(SHAPE)[..., 2], np.zeros(SHAPE))


@pytest.mark.parametrize(
    ("line", "wavelength"),
    [
        ("photon_energy = 9000", 12398.419843 / 9000),
        ("photon_energy = 9e3 eV", 12398.419843 / 9000),
        ("photon_energy = 9 keV ; with a comment", 12398.419843 / 9000),
        ("wavelength = 1.125 A", 1.125),
        ("wavelength = 1.125e-10 m", 1.125),
        ("photon_energy = /LCLS/energy", Location("/LCLS/energy", "eV")),
        ("photon_energy = /LCLS/energy keV", Location("/LCLS/energy", "keV")),
        ("wavelength = /LCLS/wavelength  m", Location("/LCLS/wavelength", "m")),
        ("wavelength = /LCLS/wavelength A", Location("/LCLS/wavelength", "A")),
    ],
)
def test_wavelengths_have_units(write: Write, line: str, wavelength: float | Location) -> None:
    geometry = read(write(BOTH.replace("photon_energy = 10000", line)))
    if isinstance(wavelength, Location):
        assert (geometry.wavelength_angstrom, geometry.wavelength_path) == (None, wavelength)
        value = {"eV": 8000.0, "keV": 8.0, "m": 1.5498e-10, "A": 1.5498}[wavelength.unit]
        assert angstrom(value, wavelength.unit) == pytest.approx(1.5498, rel=1e-4)
    else:
        assert geometry.wavelength_angstrom == pytest.approx(wavelength, rel=1e-9)
        assert geometry.wavelength_path is None


def test_comments_blanks_and_ends_of_lines(write: Write) -> None:
    plain = read(write(BOTH))
    decorated = "\n".join(f" \t{line} \t; µm = / ; {line}" for line in BOTH.split("\n"))
    for text in (
        decorated,
        BOTH.replace(" = ", "="),
        BOTH.replace("\n", "\r"),
        BOTH.replace("\n", "\r\n"),
        f"\ufeff{BOTH}",
        f"{BOTH}bandwidth = 1e-3\nrigid_group_q0 = a,nobody\ngroup_all = a,b\npeak_list = /p\na/badrow_direction = x",
    ):
        path = write(text)
        assert is_geometry(path)
        assert read(path) == plain
    # Blanks about the slash are part of the names.
    with pytest.raises(InputError, match="panel 'a ': no max_fs, min_ss"):
        read(write(BOTH.replace("a/min_fs", "a /min_fs")))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a/fs = x\n", True),
        (b"; comment\r\tp0a0/corner_x=1", True),
        (b"clen = 0.1\nres = 5000\n", False),
        (b"bad_jet/fs = 1\n", False),
        (b";a/fs = x\n", False),
        (b"value = a/fs = x\n", False),
        (b"100 500 500\n0.1 0.2 0.3 1 0\n", False),
        (b"\x89HDF\r\n\x1a\n\0\0\0a/fs = x\n", False),
        (b"a/fs = x\n\0", False),
        (b"", False),
    ],
)
def test_a_geometry_is_told_by_its_content(tmp_path: Path, content: bytes, expected: bool) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    assert is_geometry(path) is expected
    assert not is_geometry(tmp_path)
    assert not is_geometry(tmp_path / "nothing")


def test_the_data_may_have_more_axes(write: Write) -> None:
    """Before and after those of the panel; one on which all panels have the same index may have any length."""
    expected = read(write(BOTH)).positions(SHAPE)
    geometry = read(write(modules()))
    assert np.array_equal(geometry.positions((2, 2, 3)).reshape(expected.shape), expected)
    assert np.array_equal(geometry.positions(SHAPE), expected)
    last = read(write(BOTH.replace(A, f"dim0 = ss\ndim1 = fs\ndim2 = 1\n{A}")))
    found = last.positions((*SHAPE, 5))
    assert np.array_equal(found[:, :, 1], expected)
    assert np.isnan(found[:, :, [0, 2, 3, 4]]).all()
    assert np.array_equal(last.bad((*SHAPE, 5)).all((0, 1)), [True, False, True, True, True])


@pytest.mark.parametrize("shape", [(2, 2, 3), (4, 3)])
def test_indices_name_the_pixels_of_panels(write: Write, shape: tuple[int, ...]) -> None:
    numbers = np.arange(12).reshape(shape)
    for text in (BOTH, modules()):
        blocks = read(write(text)).blocks(shape)
        assert [panel.name for panel, _ in blocks] == ["a", "b"]
        assert [numbers[index].tolist() for _, index in blocks] == [[[0, 1, 2], [3, 4, 5]], [[6, 7, 8], [9, 10, 11]]]


@pytest.mark.parametrize(
    ("text", "shape", "words"),
    [
        (BOTH, (3, 3), r"panels reach to \(4, 3\) of patterns of shape \(3, 3\); expected panels of the same detector"),
        (BOTH, (4, 2), r"\(4, 3\) of patterns of shape \(4, 2\)"),
        (BOTH, (8, 6), r"\(4, 3\) of patterns of shape \(8, 6\), 25 % of them; .*not binned otherwise; .*no_index = 1"),
        (BOTH, (12,), r"shape \(12,\)"),
        (BOTH, (0, 3), r"shape \(0, 3\)"),
        (BOTH, (3, 2, 3), r"shape \(3, 2, 3\)"),
        (BOTH, (4, 1, 3), "panel 'a' is in modules 0 to 1 of patterns"),
        (modules(), (1, 2, 3), r"panels reach to \(2, 2, 3\) of patterns of shape \(1, 2, 3\)"),
        (modules(), (4, 2, 3), "50 % of them"),
        (modules(), (6, 3), r"shape \(6, 3\)"),
        (modules("dim1 = 1", "dim1 = 1"), (2, 2, 3), "panels 'a' and 'b' have the same pixels of the data"),
        (BOTH.replace("min_ss = 2", "min_ss = 1"), SHAPE, "panels 'a' and 'b' have the same pixels of the data"),
        (f"{BOTH}b/dim2 = 0", SHAPE, "panels of data with different axes"),
        (f"{BOTH}b/data = /other", SHAPE, "panels of 2 datasets; expected those of one dataset"),
    ],
)
def test_panels_that_do_not_fit_are_refused(write: Write, text: str, shape: tuple[int, ...], words: str) -> None:
    geometry = read(write(text))
    for method in (geometry.positions, geometry.bad, geometry.adu_per_photon, geometry.blocks):
        with pytest.raises(InputError, match=words):
            method(shape)


def bad(geometry: Geometry, shape: tuple[int, ...] = SHAPE) -> list[str]:
    """Return bad pixels as #."""
    return ["".join(".#"[int(value)] for value in row) for row in geometry.bad(shape).reshape(-1, shape[-1])]


@pytest.mark.parametrize("lines", BAD, ids=range(len(BAD)))
def test_bad_pixels(write: Write, lines: str) -> None:
    """Those of no panel, of panels not to be used, and of regions in the data and in the laboratory."""
    assert bad(read(write(f"{BOTH}{lines}"))) == BAD[lines]


def test_regions_count_from_the_first_pixel_of_the_data_of_their_panel(write: Write) -> None:
    """So in modules that all begin at 0 one that names no panel is in every module, which is told."""
    lines = "bad1/min_fs = 2\nbad1/max_fs = 9\nbad1/max_ss = 0\n"
    geometry = read(write(f"{modules()}{lines}"))
    assert bad(geometry, (2, 2, 3)) == bad(geometry) == ["..#", "...", "..#", "..."]
    assert geometry.remarks == ("'bad1': names no panel: marks pixels of every module",)
    for text, row in ((f"{modules()}{lines}bad1/panel = b", 2), (f"{BOTH}{lines}", 0)):
        geometry = read(write(text))
        assert bad(geometry) == ["..#" if index == row else "..." for index in range(4)]
        assert geometry.remarks == ()


@pytest.mark.parametrize(("margin", "good"), [(0, 25), (1, 9), (2, 1), (3, 0), (100, 0)])
def test_edges_of_panels_are_bad(write: Write, margin: int, good: int) -> None:
    text = f"{TOP}mask_edge_pixels = {margin}\n{A}a/max_ss = 4\na/max_fs = 4\n"
    found = ~read(write(text)).bad((5, 5))
    assert found.sum() == good
    assert np.array_equal(found, found[::-1, ::-1])


def test_masks(write: Write) -> None:
    """Old names are those of mask 0; a pixel has to have all good bits and no bad one."""
    text = (
        f"{TOP}mask = /m/%/old\nmask_good = 0x01\nmask_bad = 65534\ndata = /data/%/array\n{A}{B}"
        "a/mask3_data = /m/new\na/mask3_file = masks.h5\na/mask3_badbits = 0xFFFFFFFF\n"
    )
    old, new = Mask("/m/%/old", None, 1, 65534), Mask("/m/new", "masks.h5", 0, 2**32 - 1)
    geometry = read(write(text))
    assert [panel.masks for panel in geometry.panels] == [(old, new), (old,)]
    assert geometry.masks == (old, new)
    assert geometry.data_path == "/data/%/array"
    assert old.bad(np.array([0, 1, 2, 3, 1 << 16, (1 << 16) + 1], np.uint32)).tolist() == [1, 0, 1, 1, 1, 0]
    assert new.bad(np.array([0, 1, -1], np.int32)).tolist() == [0, 1, 1]
    assert Mask("/m").bad(np.array([0, 1, 65535], np.uint16)).tolist() == [0, 0, 0]


def test_units_and_thresholds_of_panels(write: Write) -> None:
    """The last of adu_per_photon and adu_per_eV counts, and of thresholds all: the narrowest."""
    text = f"{TOP}adu_per_eV = 0.01\nflag_morethan = 9000\n{A}{B}b/adu_per_photon = 3\nb/max_adu = 1e4\n"
    text += "b/flag_lessthan = -10\nb/flag_lessthan = -5\nb/flag_morethan = 1e6\nb/flag_equal = 7\nb/flag_equal = 8\n"
    geometry = read(write(text))
    a, b = geometry.panels
    assert (a.adu_per_ev, a.adu_per_photon, b.adu_per_ev, b.adu_per_photon) == (0.01, None, None, 3)
    assert (a.flag_lessthan, a.flag_morethan, a.flag_equal, a.max_adu) == (-np.inf, 9000, (), np.inf)
    assert (b.flag_lessthan, b.flag_morethan, b.flag_equal, b.max_adu) == (-5, 9000, (7, 8), 1e4)
    np.testing.assert_allclose(geometry.adu_per_photon(SHAPE), np.repeat([[100.0], [3.0]], 2, axis=0) + np.zeros(3))
    unknown = replace(geometry, wavelength_angstrom=None).adu_per_photon(SHAPE)
    assert np.array_equal(np.isnan(unknown), np.repeat([[True], [False]], 2, axis=0) | np.zeros(3, bool))
    assert read(write(BOTH)).adu_per_photon(SHAPE) is None


def test_what_is_not_known_is_told(write: Write) -> None:
    text = f"rail_x = 1\n{BOTH}a/rail_x = 0\nb/colour = blue\nbad1/min_x = 1\nbad1/shape = round\nsaturation_map = /s\n"
    geometry = read(write(text))
    assert geometry.remarks == (
        "'rail_x' (2 times): not known, not heeded",
        "'colour': not known, not heeded",
        "'shape': not known, not heeded",
        "'saturation_map': not known, not heeded",
        "'bad1': lacks a bound: marks no pixels",
    )
    assert np.array_equal(geometry.positions(SHAPE), read(write(BOTH)).positions(SHAPE))
