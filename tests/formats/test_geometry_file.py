"""Patterns whose pixels a geometry file places: the same as where the patterns' own file says it."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from spoilt import PIXELS, refused
from test_cxi import DETECTOR, DISTANCE, PIXEL, WAVELENGTH, Content, counts_of, images, modules, read, write

from spilegate.formats import reader

HALF = PIXELS // 2
PANEL = """
{name}/min_fs = 0
{name}/max_fs = {last_fs}
{name}/min_ss = {first_ss}
{name}/max_ss = {last_ss}
{name}/corner_x = {half}
{name}/corner_y = {corner_y}
{name}/fs = -x
{name}/ss = -y
"""
HEAD = "photon_energy = {energy} eV\nclen = {clen}\nres = {res}\ndata = /run/photons\ndim0 = %\n"


def geometry(path: Path, *, modular: bool = True, head: str = HEAD, more: str = "", **head_values: object) -> Path:
    """Write the geometry of `test_cxi.modules`: two panels along an axis of the data, or one below the other."""
    values = {"energy": 12398.419843320026 / WAVELENGTH, "clen": f"{DISTANCE} m", "res": 1 / PIXEL} | head_values
    text = head.format(**values) + ("dim2 = ss\ndim3 = fs\n" if modular else "dim1 = ss\ndim2 = fs\n") + more
    for number, corner_y in enumerate((HALF, 0)):
        first = 0 if modular else number * HALF
        text += PANEL.format(
            name=f"p{number}",
            last_fs=PIXELS - 1,
            first_ss=first,
            last_ss=first + HALF - 1,
            half=HALF,
            corner_y=corner_y,
        )
        if modular:
            text += f"p{number}/dim1 = {number}\n"
    path.write_text(text)
    return path


def data(*, modular: bool = True) -> Content:
    return {"run/photons": images().reshape(-1, 2, HALF, PIXELS) if modular else images(), "other": images()}


@pytest.mark.parametrize("modular", [True, False])
def test_a_geometry_places_pixels_and_names_the_patterns(tmp_path: Path, *, modular: bool) -> None:
    expected = read(tmp_path, modules())
    placed = str(geometry(tmp_path / "a.geom", modular=modular))
    found = reader.read(write(tmp_path / "b.h5", data(modular=modular)), geometry=placed)
    np.testing.assert_array_equal(found.q, expected.q)
    np.testing.assert_array_equal(counts_of(found), counts_of(expected))
    np.testing.assert_array_equal(found.pixel_index_map, expected.pixel_index_map)
    assert not found.remarks


def test_a_geometry_goes_before_the_file_and_options_before_both(tmp_path: Path) -> None:
    content = modules() | {f"{DETECTOR}/distance": 2 * DISTANCE}
    del content[f"{DETECTOR}/corner_positions"], content[f"{DETECTOR}/basis_vectors"]
    placed = str(geometry(tmp_path / "a.geom"))
    found = read(tmp_path, content, geometry=placed)
    np.testing.assert_array_equal(found.q, read(tmp_path, modules()).q)
    assert any("distance [m] 0.05 is used in place of 0.1" in line for line in found.remarks)
    given = read(tmp_path, content, geometry=placed, distance_m=2 * DISTANCE, wavelength_angstrom=WAVELENGTH)
    of_file = geometry(tmp_path / "b.geom", head=HEAD.replace("clen = {clen}\n", "; clen = SET ME\n"))
    np.testing.assert_array_equal(given.q, read(tmp_path, content, geometry=str(of_file)).q)
    assert "leave it out" in refused(lambda: read(tmp_path, content, geometry=placed, centre="3,3"))


def test_distance_and_energy_may_be_in_the_file_of_patterns(tmp_path: Path) -> None:
    head = HEAD.replace("{clen}", "/LCLS/distance").replace("{energy} eV", "/LCLS/energy eV")
    placed = str(geometry(tmp_path / "a.geom", head=head))
    energy = np.full(len(images()), 12398.419843320026 / WAVELENGTH)
    content = data() | {"LCLS/distance": DISTANCE * 1000, "LCLS/energy": energy}
    found = reader.read(write(tmp_path / "b.h5", content), geometry=placed)
    np.testing.assert_allclose(found.q, read(tmp_path, modules()).q, rtol=0, atol=1e-9)
    del content["LCLS/distance"]
    text = refused(lambda: reader.read(write(tmp_path / "c.h5", content), geometry=placed))
    assert "does not say the distance [m] (--distance-m NUMBER)" in text


def test_what_a_geometry_calls_bad_is_never_used(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "mask.h5", "w") as file:
        bits = np.ones((2, HALF, PIXELS), np.uint16)
        bits[1, 2, 3] = 0
        file["mask"] = bits
    more = (
        "mask0_file = mask.h5\nmask0_data = /mask\nmask0_goodbits = 1\nmask1_data = /run/bad\nmask1_badbits = 0x4\n"
        "mask2_file = gone.h5\nmask2_data = /mask\nmask2_badbits = 1\n"
        "badspot/panel = p0\nbadspot/min_fs = 0\nbadspot/max_fs = 1\nbadspot/min_ss = 0\nbadspot/max_ss = 0\n"
    )
    placed = str(geometry(tmp_path / "a.geom", more=more))
    bad = np.zeros((2, HALF, PIXELS), np.int32)
    bad[0, 5, 5], bad[0, 5, 6] = 4, 2
    found = reader.read(write(tmp_path / "b.h5", data() | {"run/bad": bad}), geometry=placed)
    never = np.argwhere(found.mask.reshape(2, HALF, PIXELS) == 2).tolist()
    assert never == [[0, 0, 0], [0, 0, 1], [0, 5, 5], [1, 2, 3]]
    assert any("in gone.h5, which is not there" in line and "not heeded" in line for line in found.remarks)


@pytest.mark.parametrize("dtype", ["f4", "i4"])
def test_values_beyond_a_geometry_s_limits_are_none(tmp_path: Path, dtype: str) -> None:
    content = data()
    content["run/photons"] = content["run/photons"].astype(dtype)
    content["run/photons"][4, 0, 1, 2], content["run/photons"][6, 1, 3, 3], content["run/photons"][8, 0, 0, 0] = (
        900,
        77,
        -5,
    )
    more = "flag_morethan = 800\nflag_lessthan = -3\nflag_equal = 77\n"
    placed = str(geometry(tmp_path / "a.geom", more=more))
    found = reader.read(write(tmp_path / "b.h5", content), geometry=placed, broken_pixels="mend")
    size = HALF * PIXELS
    assert found.missing_pattern.tolist() == [4, 6, 8]
    assert found.missing_pixel.tolist() == [PIXELS + 2, size + 3 * PIXELS + 3, 0]


def test_a_gain_that_a_geometry_has_is_said_and_not_used_unasked(tmp_path: Path) -> None:
    path = write(tmp_path / "b.h5", data())
    placed = str(geometry(tmp_path / "a.geom", more="adu_per_photon = 8.2\n"))
    found = reader.read(path, geometry=placed)
    assert any("--set prepare.adu_per_photon=8.2 uses that" in line for line in found.remarks)
    np.testing.assert_array_equal(counts_of(found), images().reshape(len(images()), -1))
    assert not reader.read(path, geometry=placed, adu_per_photon="none").remarks


def test_limits_of_one_panel_are_not_those_of_another(tmp_path: Path) -> None:
    content = data()
    content["run/photons"] = np.minimum(content["run/photons"].astype("f4"), 50)
    content["run/photons"][3, :, 2, 2] = 77
    placed = geometry(tmp_path / "a.geom")
    placed.write_text(placed.read_text() + "p1/flag_equal = 77\n")
    found = reader.read(write(tmp_path / "b.h5", content), geometry=str(placed), broken_pixels="mend")
    assert found.missing_pattern.tolist() == [3]
    assert found.missing_pixel.tolist() == [HALF * PIXELS + 2 * PIXELS + 2]


def test_a_geometry_places_patterns_of_any_layout(tmp_path: Path) -> None:
    """SimEx's files have a geometry of their own, a flat one: the one that is given goes before it."""
    content: Content = {f"data/{number:07}/data": each for number, each in enumerate(images(), 1)}
    content |= {"params/beam/photonEnergy": 12398.419843320026 / WAVELENGTH, "params/geom/detectorDist": 3 * DISTANCE}
    content |= {"params/geom/pixelWidth": PIXEL, "params/geom/pixelHeight": PIXEL}
    path = write(tmp_path / "simex.h5", content)
    placed = str(geometry(tmp_path / "a.geom", modular=False))
    found = reader.read(path, geometry=placed)
    np.testing.assert_array_equal(found.q, read(tmp_path, modules()).q)
    assert any("distance [m] 0.05 is used in place of 0.15" in line for line in found.remarks)


def test_pixels_in_no_panel_are_never_used(tmp_path: Path) -> None:
    content = data()
    content["run/photons"] = np.concatenate([content["run/photons"], np.full((len(images()), 2, HALF, 1), 9)], axis=3)
    path = write(tmp_path / "b.h5", content)
    found = reader.read(path, geometry=str(geometry(tmp_path / "a.geom")))
    assert np.flatnonzero(found.mask == 2).tolist() == list(range(PIXELS, 2 * HALF * (PIXELS + 1), PIXELS + 1))
    kept = found.mask == 0
    np.testing.assert_array_equal(found.q[kept], read(tmp_path, modules()).q)


@pytest.mark.parametrize("unit", ["metres", "pixels"])
def test_pixel_maps_place_pixels(tmp_path: Path, unit: str) -> None:
    row, column = np.indices((PIXELS, PIXELS))
    middle = (PIXELS - 1) / 2
    size = PIXEL if unit == "metres" else 1.0
    content = {"x": (middle - column) * size, "y": (middle - row) * size, "z": np.zeros((PIXELS, PIXELS))}
    placed, data_file = write(tmp_path / "map.h5", content), write(tmp_path / "b.h5", {"photons": images()})
    how: Content = {"geometry": str(placed), "wavelength_angstrom": WAVELENGTH}
    assert ("--distance-m" if unit == "metres" else "--pixel-um") in refused(lambda: reader.read(data_file, **how))
    how |= {"distance_m": DISTANCE} | ({"pixel_um": PIXEL * 1e6} if unit == "pixels" else {})
    np.testing.assert_allclose(reader.read(data_file, **how).q, read(tmp_path, modules()).q, rtol=0, atol=1e-9)
    with_distance = write(tmp_path / "far.h5", content | {"z": np.full((PIXELS, PIXELS), DISTANCE)})
    del how["distance_m"]
    found = reader.read(data_file, **(how | {"geometry": str(with_distance)}))
    np.testing.assert_allclose(found.q, read(tmp_path, modules()).q, rtol=0, atol=1e-9)
    small = write(tmp_path / "small.h5", {"x": np.zeros(5), "y": np.zeros(5)})
    assert "5 pixels" in refused(lambda: reader.read(data_file, **(how | {"geometry": str(small)})))


def test_a_geometry_of_another_detector_is_refused(tmp_path: Path) -> None:
    content = {"run/photons": images()[:, :4]}
    text = refused(
        lambda: reader.read(
            write(tmp_path / "b.h5", content), geometry=str(geometry(tmp_path / "a.geom", modular=False))
        )
    )
    assert "a.geom" in text
    assert "give it as --geometry" in refused(lambda: reader.read(tmp_path / "a.geom"))
    assert "gone.geom" in refused(lambda: reader.read(tmp_path / "b.h5", geometry=str(tmp_path / "gone.geom")))
