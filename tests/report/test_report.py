"""Pictures: they are made, they show something, and the run never waits for them."""

import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import records
from matplotlib.colors import to_rgb
from scipy.spatial.transform import Rotation

from spilegate.errors import InputError
from spilegate.findings import Findings
from spilegate.formats.results import OWN_FIGURES, OWN_FILES
from spilegate.patterns.examples import choose
from spilegate.report import curves, maps, patterns
from spilegate.report.assembling import assemble
from spilegate.report.drawing import AT_THE_END, BEFORE_THE_END, PAGE, Drawing
from spilegate.report.files import CURVE_FILES, XML_TITLES, curve_path, read_curves, write_curve
from spilegate.report.pictures import NAMES, draw_fsc
from spilegate.report.style import UNMEASURED, drawing, save

SIZE = 15


@pytest.fixture(scope="module")
def density() -> np.ndarray:
    """Two blobs of different size."""
    axis = np.arange(SIZE) - SIZE // 2
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij")
    blobs = np.exp(-((x - 2) ** 2 + y**2 + z**2) / 2) + 0.5 * np.exp(-((x + 2) ** 2 + (y - 1) ** 2 + z**2) / 4)
    return blobs.astype(np.float32)


@pytest.fixture(scope="module")
def autocorrelation(density: np.ndarray) -> np.ndarray:
    """The autocorrelation of the blobs."""
    spectrum = np.abs(np.fft.fftn(np.fft.ifftshift(density))) ** 2
    return np.fft.fftshift(np.fft.ifftn(spectrum).real).astype(np.float32)


@pytest.fixture(scope="module")
def dataset() -> Findings:
    """Five patterns of 12x12 pixels around a beam stop."""
    rng = np.random.default_rng(0)
    index = np.stack(np.meshgrid(np.arange(12), np.arange(12), indexing="ij"), -1).reshape(-1, 2)
    q = np.zeros((144, 3))
    q[:, :2] = (index - 5.5) * 0.01
    mask = np.where(np.linalg.norm(q, axis=1) > 0.02, 0, 2).astype(np.uint8)
    images = rng.poisson(5, (5, 144)).astype(np.float32)
    none, pixels = np.zeros(0, np.int64), np.ones(144, bool)
    return Findings(
        q=q, mask=mask, pixel_index_map=index, matched=pixels, merged=pixels, background=np.zeros(144),
        background_estimated=True, scale=np.ones(5), first_scale=np.ones(5), weight=np.ones(5),
        mended_pattern=none, mended_pixel=none, mended_value=np.zeros(0, np.float32), profile_q=np.zeros(0),
        profile_mean=np.zeros(0),
        profile_variance=np.zeros(0), q_min=0.0, q_max=0.1, diameter_angstrom=50.0, photons=100.0, hot_pixels=0,
        said="",
        mean=images.mean(axis=0, dtype=np.float64), shown=np.arange(5), examples=images,
    )  # fmt: skip


def png_rows(path: Path) -> np.ndarray:
    """Decode a PNG of 8-bit samples far enough to see that it is one and whether it is blank."""
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    width, height, depth, kind = struct.unpack(">IIBB", content[16:26])
    assert depth == 8
    packed, place = b"", 8
    while place < len(content):
        (length,) = struct.unpack(">I", content[place : place + 4])
        body = content[place + 8 : place + 8 + length]
        assert (
            zlib.crc32(content[place + 4 : place + 8 + length])
            == struct.unpack(">I", content[place + 8 + length : place + 12 + length])[0]
        )
        packed += body if content[place + 4 : place + 8] == b"IDAT" else b""
        place += 12 + length
    samples = {2: 3, 6: 4}[kind]
    return np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, 1 + width * samples)


def assert_shows_something(path: Path) -> None:
    """Fail unless a picture is a whole PNG of a readable size with many different lines."""
    rows = png_rows(path)
    assert rows.shape[0] > 300
    assert rows.shape[1] > 1000
    assert len(np.unique(rows, axis=0)) > 50
    assert not list(path.parent.glob("*.partial"))


def test_every_picture_is_a_png_that_shows_something(
    tmp_path: Path, density: np.ndarray, autocorrelation: np.ndarray, dataset: Findings
) -> None:
    merits = {"mean_distance": 0.1, "moved": 0.2, "merge_residual": 1e-5, "phasing_r": 0.1, "q_max": 0.1}
    q = np.linspace(0.005, 0.1, 20)
    models = dataset.examples[[0, 2, 4]]
    quaternions = Rotation.random(300, rng=np.random.default_rng(2)).as_quat(scalar_first=True)
    with drawing():
        figures = {
            "density": maps.density_figure(density, 4.0, "Density"),
            "intensity": maps.intensity_figure(autocorrelation, 4.0, 0.02, 0.1, "Intensity"),
            "orientations": patterns.orientations_figure(quaternions, "Orientations"),
            "patterns": patterns.patterns_figure(dataset, choose(np.arange(5.0), np.ones(5, bool)), models, "Patterns"),
            "convergence": curves.convergence_figure(records(8, 6, merits), "Convergence"),
            "fsc": curves.fsc_figure({name: (q, 1 - (8 + i) * q) for i, name in enumerate(curves.CURVES)}, 0.1, "FSC"),
        }
        for name, figure in figures.items():
            save(figure, tmp_path / f"{name}.png")
    for name in figures:
        assert_shows_something(tmp_path / f"{name}.png")


def test_the_figure_of_curves_says_where_each_crosses() -> None:
    q = np.linspace(0.01, 0.1, 19)
    figure = curves.fsc_figure(dict.fromkeys(curves.CURVES, (q, 1 - 10 * q)), 0.1, "FSC")
    (axes,) = (ax for ax in figure.axes if ax.get_legend() is not None)
    said = [text.get_text() for text in axes.get_legend().get_texts()]
    assert said[:4] == [
        "FSC against the reference: 20.00 Å at 0.5",
        "FSC between half-sets: 11.67 Å at 0.143",
        "the same, supports' share left in",
        "PRTF: 15.82 Å at 1/e",
    ]
    levels = {line.get_ydata()[0] for line in axes.get_lines() if line.get_linestyle() == "--"}
    assert levels == {0.5, 0.143, 1 / np.e}


def test_pictures_of_nothing_yet_are_drawn_too(tmp_path: Path, autocorrelation: np.ndarray) -> None:
    nothing = np.zeros((SIZE,) * 3, np.float32)
    with drawing():
        save(maps.density_figure(nothing, 4.0, "Density"), tmp_path / "density.png")
        save(curves.convergence_figure(records(8, 1), "Convergence"), tmp_path / "convergence.png")
        save(curves.convergence_figure([], "Convergence"), tmp_path / "none.png")
        bad = {"reference": (np.array([0.01, 0.02]), np.array([0.1, -0.3]))}
        save(curves.fsc_figure(bad, None, "FSC"), tmp_path / "fsc.png")
    assert len(list(tmp_path.glob("*.png"))) == 4


def test_a_central_slice_is_the_intensity(autocorrelation: np.ndarray) -> None:
    values, q = maps.central_slice(autocorrelation, 4.0, axis=2)
    place = (np.arange(SIZE) - SIZE // 2) * 4.0
    for i, j in ((SIZE, SIZE), (SIZE + 3, SIZE - 2), (SIZE, SIZE + 6)):
        wave = np.exp(-2j * np.pi * (q[i] * place[:, None, None] + q[j] * place[:, None]))
        assert values[i, j] == pytest.approx((autocorrelation * wave).sum().real, rel=1e-4, abs=1e-2)


def test_unmeasured_centre_is_left_out(autocorrelation: np.ndarray) -> None:
    values, q = maps.central_slice(autocorrelation, 4.0, axis=2)
    measured = maps._measured(values, q, 0.02, 0.1)
    length = np.hypot(q[:, None], q)
    assert np.isnan(measured[length < 0.02]).all()
    assert np.isnan(measured[length > 0.1]).all()
    assert np.isfinite(measured[(length >= 0.02) & (length <= 0.1)]).all()


def test_density_of_directions_is_one_on_average_and_finds_a_cluster() -> None:
    uniform = Rotation.random(4000, rng=np.random.default_rng(3)).as_matrix()[:, 2]
    _, latitude, share = patterns.sphere_density(uniform)
    mean = (share.mean(axis=1) * np.cos(latitude)).sum() / np.cos(latitude).sum()
    assert mean == pytest.approx(1, abs=0.02)
    assert share.std() < 0.3
    longitude, latitude, share = patterns.sphere_density(np.tile([0.0, 1.0, 0.0], (50, 1)))
    row, column = np.unravel_index(share.argmax(), share.shape)
    assert latitude[row] == pytest.approx(0, abs=0.06)
    assert longitude[column] == pytest.approx(np.pi / 2, abs=0.06)


def test_patterns_are_assembled_by_their_index_map(dataset: Findings) -> None:
    picture = assemble(dataset, np.arange(144, dtype=np.float32))
    assert picture.shape == (12, 12)
    assert picture[0, 0] == 0
    assert picture[3, 2] == 38
    assert np.isnan(picture[5, 5])
    assert [index for _, index, _ in choose(np.array([3.0, 1.0, 2.0, 9.0]), np.array([1, 1, 1, 0]) > 0)] == [1, 2, 0]


def test_masked_pixels_are_grey_and_pixels_for_merging_are_shown(dataset: Findings) -> None:
    mask = dataset.mask.copy()
    mask[:3] = [0, 1, 2]
    shown = replace(dataset, mask=mask)
    assert np.isnan(assemble(shown, dataset.examples[0])[0, :3]).tolist() == [False, False, True]
    figure = patterns.patterns_figure(shown, [("best", 0, 0.1)], dataset.examples[:1], "Patterns")
    for ax in figure.axes[:2]:
        image = ax.images[0]
        colours = image.cmap(image.norm(image.get_array()))
        grey = np.isclose(colours[..., :3], to_rgb(UNMEASURED), atol=0.01).all(-1)
        assert np.array_equal(grey.ravel(), mask == 2)


def test_curves_survive_their_file(tmp_path: Path) -> None:
    q = np.linspace(0.01, 0.1, 10)
    write_curve(tmp_path, "reference", q, 1 - q)
    found = read_curves(tmp_path)
    assert list(found) == ["reference"]
    np.testing.assert_allclose(found["reference"], (q, 1 - q), rtol=1e-5)
    (tmp_path / "fsc_half_set.csv").write_text("q,correlation\nnot,numbers\n")
    with pytest.raises(InputError, match=r"fsc_half_set\.csv"):
        read_curves(tmp_path)


def test_convergence_is_drawn_where_it_is_finite(tmp_path: Path) -> None:
    made = records(4, 4, {"phasing_r": 0.3, "mean_distance": 0.1})
    made[1]["figures"] = made[2]["figures"] = {"phasing_r": float("nan"), "mean_distance": float("inf")}
    with drawing():
        save(curves.convergence_figure(made, "Convergence"), tmp_path / "convergence.png")
    assert_shows_something(tmp_path / "convergence.png")


def test_a_state_without_patterns_has_a_picture(tmp_path: Path) -> None:
    nothing = np.zeros((SIZE,) * 3, np.float32)
    with drawing():
        save(maps.intensity_figure(nothing, 2.0, 0.0, 0.2, "Merged intensity"), tmp_path / "intensity.png")
    assert (tmp_path / "intensity.png").exists()


def test_a_drawing_that_is_stopped_leaves_no_half_picture(tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    for name in (f"density.png.{'0a' * 8}.partial", "density.png"):
        (tmp_path / "figures" / name).touch()
    Drawing(tmp_path).stop()
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["density.png"]


def test_every_state_has_its_own_picture_of_curves(tmp_path: Path) -> None:
    q = np.linspace(0.01, 0.1, 10)
    assert draw_fsc(tmp_path) == []
    write_curve(tmp_path, "prtf", q, 1 - q)
    assert [path.name for path in draw_fsc(tmp_path)] == ["fsc.png"]
    write_curve(tmp_path, "prtf", q, 1 - 5 * q, state=1)
    np.testing.assert_allclose(read_curves(tmp_path, 1)["prtf"], (q, 1 - 5 * q), rtol=1e-5)
    assert [path.name for path in draw_fsc(tmp_path)] == ["fsc.png", "fsc_1.png"]


def test_every_picture_and_curve_is_known_as_a_run_s_own() -> None:
    for name in NAMES:
        assert OWN_FIGURES.fullmatch(f"{name}.png"), name
    for name in CURVE_FILES:
        for state in (0, 3):
            path = curve_path(Path(), name, state)
            assert OWN_FILES.fullmatch(path.name), name
            assert bool(OWN_FILES.fullmatch(path.with_suffix(".xml").name)) == (name in XML_TITLES)
    assert set().union(BEFORE_THE_END, *AT_THE_END) == {*NAMES, PAGE}
