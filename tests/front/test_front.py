"""The front door in a program: arrays, callbacks, what is shown, what is saved, and how bad input ends."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from command_line import QUICK
from made_up import made_up_state

import spilegate as sg
from spilegate.commands.configuration import load_settings
from spilegate.formats import maps
from spilegate.front.following import Follower
from spilegate.front.options import as_settings, read_as
from spilegate.records import Progress
from spilegate.report.files import SUMMARY

# The settings of the command line's fixture `finished`, as a program gives them.
PAIRS = [word.split("=") for flag, word in pairwise(QUICK) if flag == "--set"]
SETTINGS: dict[str, Any] = {name: json.loads(value) for name, value in PAIRS} | {"seed": 5}


@pytest.fixture(scope="module")
def simulated() -> sg.Simulation:
    """What the command line's fixture `data` holds."""
    return sg.simulate(images=120, pixels=40, resolution_angstrom=18, seed=3)


@pytest.fixture(scope="module")
def seen() -> list[sg.Generation]:
    """What the callback of `result` was called with."""
    return []


@pytest.fixture(scope="module")
def result(data: Path, seen: list[sg.Generation]) -> sg.Reconstruction:
    return sg.reconstruct(data, SETTINGS, callback=seen.append)


@pytest.fixture(scope="module")
def saved(result: sg.Reconstruction, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return result.save(tmp_path_factory.mktemp("saved") / "out", pictures=False)


def test_simulated_arrays_are_the_patterns_that_the_file_has(simulated: sg.Simulation, data: Path) -> None:
    made, read = simulated.dataset, sg.read(data)
    np.testing.assert_array_equal(made.images, read.images)
    np.testing.assert_allclose(made.q_inverse_angstrom, read.q, rtol=1e-12, atol=1e-15)
    assert (made.panel_shape, made.counts, made.taken_for) == (read.panel_shape, read.counts, read.taken_for)
    assert made.q_max_inverse_angstrom == pytest.approx(read.q_max_inverse_angstrom)
    assert len(read) == 120
    assert read.photons_per_pattern is None


def test_few_photons_have_the_same_mean_as_lists_and_as_patterns() -> None:
    faint = sg.simulate(images=40, pixels=40, resolution_angstrom=18, photons=60)
    data = faint.dataset
    assert data.images.dtype == np.int32, "patterns of so few photons are lists"
    np.testing.assert_allclose(data.mean_pattern, faint.intensities.mean(axis=0).ravel(), rtol=1e-6)
    assert data.photons_per_pattern == pytest.approx(60, rel=0.1)


def test_a_flat_detector_lies_where_positions_say(simulated: sg.Simulation) -> None:
    """A detector of 40 x 40 pixels about the beam: the same |q| by wavelength, distance and pixel."""
    tangent = np.tan(2 * np.arcsin(1 / 36.0))
    flat = sg.Dataset.from_arrays(
        simulated.intensities[:, 0], photon_energy_ev=12398.419843320026, distance_m=0.1,
        pixel_um=1e6 * 0.1 * 2 * tangent / 39, binning=2, q_max=0.05,
    )  # fmt: skip
    assert flat.panel_shape == (1, 20, 20)
    assert flat.q_max_inverse_angstrom <= 0.05
    assert flat.wavelength_angstrom == pytest.approx(1.0, rel=1e-6)
    unbinned = np.sort(np.linalg.norm(simulated.dataset.q, axis=-1))
    placed = sg.Dataset.from_arrays(
        simulated.intensities[:, 0], wavelength_angstrom=1.0, distance_m=0.1, pixel_um=1e6 * 0.1 * 2 * tangent / 39
    )
    np.testing.assert_allclose(np.sort(np.linalg.norm(placed.q, axis=-1)), unbinned, rtol=1e-5, atol=1e-9)


def test_a_program_comes_to_what_the_command_comes_to(result: sg.Reconstruction, finished: Path, saved: Path) -> None:
    for name in ("density.mrc", "autocorrelation.mrc", "support.mrc"):
        np.testing.assert_array_equal(maps.read_map(saved / name)[0], maps.read_map(finished / name)[0])
    np.testing.assert_array_equal(result.density, maps.read_map(finished / "density.mrc")[0])
    written = {path.name for path in finished.iterdir() if path.is_file()}
    others = {"run.log", "fsc_reference.csv", "report.html"}
    assert {path.name for path in saved.iterdir() if path.is_file()} == written - others
    for name in ("prtf.csv", "outliers.txt", "orientations.star"):
        assert (saved / name).read_bytes() == (finished / name).read_bytes()
    ours, theirs = (json.loads((folder / SUMMARY).read_text()) for folder in (saved, finished))
    assert set(ours) == set(theirs) - {"evaluation"}
    unlike = {"seconds", "peak_memory_mib", "peak_memory_mib_by_processor"}
    assert all(ours[name] == theirs[name] for name in set(ours) - unlike)
    lines = [json.loads(line) for line in (saved / "progress.jsonl").read_text().splitlines()]
    assert [(line["generation"], line["stage"], line["figures"]) for line in lines] == [
        (line["generation"], line["stage"], line["figures"])
        for line in map(json.loads, (finished / "progress.jsonl").read_text().splitlines())
    ]


def test_what_was_saved_is_loaded_and_evaluated_alike(
    result: sg.Reconstruction, saved: Path, data: Path, finished: Path, simulated: sg.Simulation
) -> None:
    loaded = sg.load(saved)
    np.testing.assert_array_equal(loaded.orientations, result.orientations)
    assert loaded.verdict == result.verdict
    assert loaded.curves.keys() == result.curves.keys() == {"prtf"}
    told = json.loads((finished / SUMMARY).read_text())["evaluation"]
    for one in (sg.evaluate(saved, data), sg.evaluate(result, simulated)):
        assert one.correlation == pytest.approx(told["correlation"], rel=1e-6)
        assert one.resolution_angstrom == pytest.approx(told["resolution_angstrom"], rel=1e-6)
        assert one.orientation_error_deg == pytest.approx(told["orientation_error_deg"])
        assert one.hand == told["hand"]


def test_the_callback_is_told_of_every_generation(seen: list[sg.Generation], result: sg.Reconstruction) -> None:
    assert [each.number for each in seen] == list(range(1, result.summary["generations"] + 1))
    assert [each.last for each in seen] == [False] * (len(seen) - 1) + [True]
    assert {each.half for each in seen} == {0}
    assert all(np.diff([each.q_max_inverse_angstrom for each in seen]) > -1e-6)
    assert seen[-1].q_max_inverse_angstrom == pytest.approx(result.q_max_inverse_angstrom)
    with pytest.raises(ValueError, match="read-only"):
        seen[-1].density[0, 0, 0] = 1
    assert re.fullmatch(r"generation \d+ of \d+: to [\d.]+ Å, distance .*, [\d.]+ s", repr(seen[-1]))
    assert sum(each.seconds for each in seen) == pytest.approx(sum(result.summary["seconds"]["generations"]), abs=0.01)


def test_the_halves_call_back_as_halves() -> None:
    """Whoever watches is told which part of the patterns a generation is of."""
    heard: list[sg.Generation] = []

    follower = Follower(heard.append)
    for number, watcher in ((0, follower), (1, follower.half(1)), (2, follower.half(2))):
        watcher.stage(Progress(3, 7, "match", 1.5, {"moved": 0.25}))
        watcher.generation(made_up_state(), last=number == 2)
    assert [(each.half, each.number, each.generations, each.last) for each in heard] == [
        (0, 3, 7, False), (1, 3, 7, False), (2, 3, 7, True),
    ]  # fmt: skip
    assert repr(heard[1]).startswith("half 1 of 2, generation 3 of 7")
    assert len(follower.records) == 1


def test_an_error_of_the_callback_ends_the_run(data: Path) -> None:
    def stop(_: sg.Generation) -> None:
        raise RuntimeError("seen enough")

    with pytest.raises(RuntimeError, match="seen enough"):
        sg.reconstruct(data, SETTINGS, callback=stop)


def test_what_was_read_in_a_way_is_reconstructed_and_said_so(data: Path) -> None:
    coarse = sg.read(data, binning=2)
    with pytest.raises(sg.InputError, match="binning"):
        sg.reconstruct(coarse, {"prepare.binning": 4})
    settings = read_as(as_settings({"seed": 4}), coarse.read_with)
    assert (settings.seed, settings.prepare.binning) == (4, 2)


def picture_in(html: str) -> np.ndarray:
    """The picture that a page holds."""
    found = re.search(r'src="data:image/png;base64,([A-Za-z0-9+/=]+)"', html)
    assert found
    return np.asarray(matplotlib.image.imread(BytesIO(b64decode(found.group(1))), format="png"))


def test_everything_shows_itself(result: sg.Reconstruction, simulated: sg.Simulation, data: Path) -> None:
    evaluated = sg.evaluate(result, simulated)
    for one in (sg.read(data), result, simulated, evaluated):
        html = one._repr_html_()
        assert "<script" not in html
        assert len(html) < 200_000
        assert picture_in(html)[..., :3].std() > 0.05
        assert repr(one).count("\n") == 0
    assert "No resolution stated" in result._repr_html_()
    # The tutorial shows the others.
    for name in ("intensity", "convergence"):
        assert result.figure(name)._repr_png_()[:4] == b"\x89PNG"


def test_what_files_say_is_escaped(result: sg.Reconstruction, data: Path) -> None:
    evil = "<script>alert('x')</script>&\"'"
    shown = replace(sg.read(data), source=evil, taken_for=evil, remarks=(evil,))._repr_html_()
    told = {**result.summary, "version": evil, "resolution": {**result.summary["resolution"], "verdict": evil}}
    for html in (shown, replace(result, summary=told)._repr_html_()):
        assert "<script" not in html
        assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;&amp;&quot;" in html


def test_settings_are_taken_in_every_form(tmp_path: Path) -> None:
    config = tmp_path / "run.toml"
    config.write_text('seed = 3\n[matching]\nmethod = "gemm"\n')
    wanted = load_settings(config, [], {})
    assert as_settings(config) == as_settings(str(config)) == wanted
    assert as_settings({"seed": 3, "matching.method": "gemm"}) == wanted
    assert as_settings({"seed": 3, "matching": {"method": "gemm"}}) == as_settings(wanted) == wanted
    assert as_settings(None) == sg.Settings()


OFF = np.eye(3)[np.indices((8, 8)).sum(0) % 3]
COUNTS = np.random.default_rng(0).poisson(4, (24, 8, 8))
FLAT = {"wavelength_angstrom": 2.0, "distance_m": 0.5, "pixel_um": 3000}
BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "no file": (lambda folder: sg.read(folder / "none.h5"), "none.h5"),
    "unknown option of reading": (lambda folder: sg.read(folder, bining=2), "did you mean 'prepare.binning'"),
    "option that is none of reading": (lambda folder: sg.read(folder, diameter_angstrom=3), "give it to reconstruct"),
    "unknown setting": (lambda folder: sg.reconstruct(folder, {"matching.state": 2}), "did you mean 'matching.states'"),
    "setting out of range": (lambda folder: sg.reconstruct(folder, {"matching": {"states": 0}}), "found 0; expected"),
    "settings of another kind": (lambda folder: sg.reconstruct(folder, 3), "settings: found int"),  # type: ignore[arg-type]
    "data of another kind": (lambda _: sg.reconstruct(np.zeros((3, 4, 4))), "data: found ndarray"),  # type: ignore[arg-type]
    "unknown backend": (lambda folder: sg.read(folder, backend="x"), "backend: found 'x'"),  # type: ignore[arg-type]
    "few patterns": (lambda _: sg.Dataset.from_arrays(COUNTS[:3], **FLAT), "3 patterns; expected at least 6"),
    "two axes": (lambda _: sg.Dataset.from_arrays(COUNTS[0], **FLAT), "images: shape (8, 8)"),
    "words": (lambda _: sg.Dataset.from_arrays([["a"]], **FLAT), "images: values of type"),
    "rows of two lengths": (lambda _: sg.Dataset.from_arrays([[1, 2], [3]], **FLAT), "images: no array"),
    "nothing of the detector": (lambda _: sg.Dataset.from_arrays(COUNTS), "distance_m, pixel_um, wavelength_angstrom"),
    "both": (lambda _: sg.Dataset.from_arrays(COUNTS, np.zeros((8, 8, 3)), distance_m=1), "found both"),
    "negative": (lambda _: sg.Dataset.from_arrays(COUNTS, **FLAT | {"distance_m": -1}), "distance_m: found -1"),
    "positions of another shape": (lambda _: sg.Dataset.from_arrays(COUNTS, np.zeros((4, 4, 3))), "(1, 8, 8, 3)"),
    "positions that are none": (lambda _: sg.Dataset.from_arrays(COUNTS, np.zeros((8, 8, 3))), "largest |q| 0"),
    "off the sphere": (lambda _: sg.Dataset.from_arrays(COUNTS, OFF), "Ewald sphere"),
    "mask of another shape": (lambda _: sg.Dataset.from_arrays(COUNTS, mask=np.zeros((7, 8)), **FLAT), "mask: shape"),
    "mask of other levels": (lambda _: sg.Dataset.from_arrays(COUNTS, mask=np.full((8, 8), 7), **FLAT), "such as 7"),
    "background below 0": (
        lambda _: sg.Dataset.from_arrays(COUNTS, background=np.full((8, 8), -1.0), **FLAT), "background: 64 pixels"
    ),
    "no particle": (lambda _: sg.simulate("nobody"), "particle 'nobody': not found"),
    "a condition that is no number": (lambda _: sg.simulate(images=1, junk="x"), "junk: found 'x'; expected a number"),
    "a mask that is none": (lambda _: sg.simulate(images=1, mask=3), "mask: found 3"),
    "half a pattern": (lambda _: sg.simulate(images=1.5), "images: found 1.5; expected a whole number"),  # type: ignore[arg-type]
    "no condition": (lambda _: sg.simulate(images=1, hot_pixel=3), "hot_pixel: not a condition"),
    "no run": (lambda folder: sg.load(folder), "summary.json"),
    "another reference": (lambda folder: sg.evaluate(folder, "x.mrc"), "summary.json"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_said_in_one_line(name: str, tmp_path: Path) -> None:
    ask, expected = BAD[name]
    with pytest.raises(sg.InputError) as caught:
        ask(tmp_path)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_summary_that_lacks_something_is_refused(saved: Path, tmp_path: Path) -> None:
    told = json.loads((saved / SUMMARY).read_text())
    del told["resolution"]["verdict"]
    (tmp_path / SUMMARY).write_text(json.dumps(told))
    with pytest.raises(sg.InputError, match=r"resolution\.verdict: found nothing"):
        sg.load(tmp_path)


def test_nothing_is_overwritten_and_nothing_loaded_is_saved(result: sg.Reconstruction, saved: Path) -> None:
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    with pytest.raises(sg.InputError, match="not empty"):
        result.save(saved)
    with pytest.raises(sg.InputError, match="loaded from a folder"):
        sg.load(saved).save(saved.parent / "again")
    with pytest.raises(sg.InputError, match="not a picture"):
        result.figure("nothing")
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before
    assert not (saved.parent / "again").exists()
