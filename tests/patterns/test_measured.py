"""What a run says about background, scales, outliers and states: numbers against known ones, and their pictures."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from command_line import QUICK, run
from made_up import made_up_state
from matplotlib.colors import to_hex, to_rgb
from photons import blind, measured, settings

from spilegate.formats import results
from spilegate.kernels.events import dense, events
from spilegate.kernels.workers import Threads
from spilegate.patterns.examples import Fits, choose, examples, with_examples
from spilegate.patterns.outliers import expected, inliers
from spilegate.patterns.prepare import detector_of, prepare
from spilegate.patterns.statistics import mean_pattern
from spilegate.report import background, outliers
from spilegate.report.measured import background_figures, populations, radial_mean, scale_figures
from spilegate.report.pictures import draw
from spilegate.report.style import UNMEASURED, VERMILION, drawing
from spilegate.report.summary import Run, background_of
from spilegate.settings import PrepareOptions
from spilegate.simulation.experiment import Simulation

# Of the signal at the detector's edge; so a third of all counts there are background.
BACKGROUND = 0.5


# --- numbers ---------------------------------------------------------------------------------------------------------


def test_the_part_of_the_background_is_counted_on_the_pixels_used() -> None:
    q = np.array([0.1, 0.5, 0.95, 1.0, 2.0, 0.3])
    used = np.array([1, 1, 1, 1, 0, 0], bool)
    mean = np.array([60.0, 30.0, 4.0, 6.0, 1e6, 1e6])
    flat = np.array([2.0, 2.0, 2.0, 2.0, 1e5, 0.0])
    found = background_figures(mean, flat, q, used)
    assert found == {"counts_per_pixel": 2.0, "fraction": pytest.approx(0.08), "fraction_at_edge": pytest.approx(0.4)}
    assert background_figures(0 * mean, 0 * flat, q, used) == dict.fromkeys(found, 0.0)


def test_radial_means_leave_out_what_is_not_used() -> None:
    q = np.array([0.10, 0.11, 0.21, 0.22, 0.45, 0.33])
    centre, mean = radial_mean(np.array([1.0, 3.0, 5.0, 7.0, 9.0, 1e6]), q, q != 0.33, 0.1)
    np.testing.assert_allclose(centre, [0.105, 0.215, 0.45])
    np.testing.assert_allclose(mean, [2.0, 6.0, 9.0])


def test_scales_and_populations_are_of_the_patterns_kept() -> None:
    scale, weight = np.append(np.arange(101.0), [1e9, 1e9]), np.append(np.ones(101), [0.0, 0.0])
    assert scale_figures(scale, weight) == {"percentile_5": 5.0, "percentile_50": 50.0, "percentile_95": 95.0}
    made = made_up_state(3)
    made = replace(made, state=np.array([0, 0, 0, 1, 1, 1]), weight=np.array([1.0, 1.0, 1.0, 1.0, 0.0, 0.0]))
    assert made.members.tolist() == [3, 1, 0]
    assert populations(made.members) == [0.75, 0.25, 0.0]
    assert populations(made_up_state().members) == [1.0]


@pytest.fixture(scope="module")
def known() -> Simulation:
    """Patterns of a decade of brightness on a background that the file gives."""
    return measured(images=150, scale_decades=1.0, background=BACKGROUND, known_background=True)


def test_the_mean_pattern_is_that_of_the_patterns_kept(known: Simulation) -> None:
    dataset = blind(known)
    detector = detector_of(dataset, PrepareOptions(polarisation="horizontal"))
    weight = (np.arange(len(dataset.images)) % 3 > 0).astype(np.float64)
    found = mean_pattern(dataset.images, detector, weight, workers=Threads(1))
    np.testing.assert_allclose(found, dataset.images[weight > 0].mean(axis=0, dtype=np.float64), rtol=1e-6)
    lists = events(dataset.images, int(dataset.images.sum(axis=1).max()))
    np.testing.assert_allclose(mean_pattern(lists, detector, weight, workers=Threads(1)), found, rtol=1e-6)


def reported(simulation: Simulation, option: str) -> dict[str, Any]:
    """What the summary says about the background before the first generation."""
    dataset, chosen = blind(simulation), settings(prepare={"diameter_angstrom": 62.0, "background": option})
    experiment = prepare(dataset, chosen, Threads(1))
    detector, weight = experiment.detector, experiment.weight
    state = SimpleNamespace(background=detector.background, scale=experiment.scale, weight=weight)
    mean = mean_pattern(dataset.images, detector, weight, workers=Threads(1))
    findings = SimpleNamespace(mean=mean)
    result: Any = SimpleNamespace(state=state, findings=findings, q_max=experiment.q_max)
    return background_of(Run(Path("data.h5"), chosen, dataset, experiment, result, []))


@pytest.mark.parametrize(
    ("option", "source", "error"),
    [("auto", "file", 1e-6), ("file", "file", 1e-6), ("estimate", "estimated", 0.2), ("none", "none", None)],
)
def test_the_summary_says_where_the_background_came_from(
    known: Simulation, option: str, source: str, error: float | None
) -> None:
    found = reported(known, option)
    assert found["source"] == source
    if error is None:
        assert (found["counts_per_pixel"], found["fraction"], found["fraction_at_edge"]) == (0, 0, 0)
        return
    # The simulation takes the edge for a circle that is a third of a pixel smaller.
    assert found["fraction_at_edge"] == pytest.approx(BACKGROUND / (1 + BACKGROUND), rel=error + 0.05)
    assert known.background is not None
    assert found["counts_per_pixel"] == pytest.approx(known.background.mean(), rel=error)
    assert 0 < found["fraction"] < found["fraction_at_edge"]


def test_patterns_that_are_alike_have_no_background_reported() -> None:
    assert reported(measured(images=60, background=BACKGROUND), "auto")["source"] == "none"


def test_what_is_drawn_as_the_limit_is_the_limit() -> None:
    rng = np.random.default_rng(0)
    brightness = 10 ** rng.random(300)
    distance = (0.01 + 0.05 / brightness) * (1 + 0.1 * rng.standard_normal(300))
    distance[::20] *= 3
    usual, most = expected(distance, brightness, limit=5.0)
    np.testing.assert_array_equal(inliers(distance, brightness, limit=5.0), distance / usual <= most)
    assert 1.2 < most < 2.5
    np.testing.assert_allclose(np.median(distance / usual), 1, rtol=0.05)


# --- pictures --------------------------------------------------------------------------------------------------------


def test_pictures_have_the_patterns_they_show_and_no_others() -> None:
    """Also of lists of photons; patterns come as the run worked on them, without values that are hot."""
    for simulation in (measured(hot_pixels=3.0), measured(photons=100.0)):
        dataset, chosen = blind(simulation), settings(prepare={"diameter_angstrom": 62.0})
        if simulation.photons == 100.0:
            dataset = replace(dataset, images=events(dataset.images, int(dataset.images.sum(axis=1).max())))
        experiment = prepare(dataset, chosen, Threads(1))
        count = len(experiment.scale)
        found = replace(
            made_up_state(),
            background=experiment.detector.background,
            scale=experiment.scale,
            weight=(np.arange(count) % 9 > 0).astype(np.float64),
            distance=np.random.default_rng(0).random(count),
            quaternions=np.tile([1.0, 0, 0, 0], (count, 1)),
            state=np.zeros(count, np.int64),
        )
        findings = with_examples(experiment, found, 5.0, 0.0)
        assert {index for _, index, _ in choose(found.distance, findings.weight > 0)} <= set(findings.shown)
        assert 3 <= len(findings.shown) <= 8
        np.testing.assert_array_equal(findings.examples, dense(experiment.images[findings.shown], len(dataset.q)))
        mean = dense(experiment.images[found.weight > 0], len(dataset.q)).mean(axis=0, dtype=np.float64)
        np.testing.assert_allclose(findings.mean, mean, rtol=1e-6, atol=1e-9)


def fits(count: int, left_out: tuple[int, ...] = ()) -> Fits:
    """Patterns of a decade of brightness; those left out fit worse, the later the worse."""
    brightness = np.geomspace(0.3, 3, count)
    usual, kept = 0.02 + 0.1 / brightness, np.ones(count, bool)
    distance = usual * (1 + 0.1 * np.cos(np.arange(count)))
    for number, index in enumerate(left_out):
        kept[index], distance[index] = False, usual[index] * (3 + number)
    return Fits(brightness, distance, kept, brightness / brightness[kept].mean(), usual, 1.5)


def title(figure: Any) -> str:
    """The heading of a figure."""
    return str(figure.get_suptitle())


def test_outliers_are_marked_counted_and_shown() -> None:
    found = fits(60, left_out=tuple(range(5, 50, 5)))
    middle, chosen = examples(found)
    assert middle is not None
    assert found.kept[middle]
    assert chosen.tolist() == [5, 20, 30, 45]
    picture = np.where(np.eye(8) > 0, np.nan, 7.0)
    with drawing():
        figure = outliers.outliers_figure(found, [("one", picture), ("two", picture)], "generation 7")
    assert title(figure) == "9 outliers among 60 patterns, generation 7"
    scatter = next(ax for ax in figure.axes if ax.collections)
    for points, which in zip(scatter.collections, (found.kept, ~found.kept), strict=True):
        np.testing.assert_allclose(
            points.get_offsets(), np.column_stack([found.brightness[which], found.distance[which]])
        )
    assert to_hex(scatter.collections[1].get_facecolor()[0]) == VERMILION.lower()
    assert (scatter.get_xscale(), scatter.get_yscale()) == ("log", "log")
    usual, limit = (line.get_ydata() for line in scatter.get_lines())
    np.testing.assert_allclose(limit, 1.5 * usual)
    shown = [ax for ax in figure.axes if ax.images]
    assert [ax.get_title() for ax in shown] == ["one", "two"]
    image = shown[0].images[0]
    colours = image.cmap(image.norm(image.get_array()))
    assert np.array_equal(np.isclose(colours[..., :3], to_rgb(UNMEASURED), atol=0.01).all(-1), np.eye(8) > 0)


def test_that_there_are_no_outliers_is_said() -> None:
    found = fits(40)
    middle, chosen = examples(found)
    assert middle is not None
    assert len(chosen) == 0
    with drawing():
        figure = outliers.outliers_figure(found, [], "generation 7")
    assert title(figure) == "No outliers among 40 patterns, generation 7"
    assert not [ax for ax in figure.axes if ax.images]
    spread = next(ax for ax in figure.axes if ax.patches)
    assert sum(bar.get_height() for bar in spread.patches) == 40


def test_one_outlier_and_patterns_of_one_scale_are_drawn() -> None:
    found = fits(20, left_out=(3,))
    alike = Fits(np.ones(20), np.linspace(0.5, 1.6, 20), found.kept, np.ones(20), np.ones(20), 1.5)
    with drawing():
        figure = outliers.outliers_figure(alike, [("one", np.ones((4, 4)))], "generation 7")
        figure.canvas.draw()
    assert title(figure).startswith("1 outlier among 20 patterns")
    # Distances that are much alike have a linear axis, which has more labels.
    assert next(ax for ax in figure.axes if ax.collections).get_yscale() == "linear"


def test_the_background_is_drawn_over_q_and_on_the_detector() -> None:
    side = np.linspace(-1, 1, 41)
    q = np.hypot(side[:, None], side).ravel()
    used = (q <= 1) & (q > 0.1)
    signal, flat = np.exp(-4 * q), np.full(q.size, 0.05)
    picture = np.where(used, flat, np.nan).reshape(41, 41)
    with drawing():
        figure = background.background_figure(signal + flat, flat, q, used, 0.05, picture, "Background estimated")
        figure.canvas.draw()
    part = flat[used].sum() / (signal + flat)[used].sum()
    assert title(figure) == f"Background estimated: 0.05 counts per pixel, {part:.1%} of the mean pattern"
    curves, place, bar = figure.axes
    assert curves.get_yscale() == "log"
    mean, left, known = (line.get_data() for line in curves.get_lines())
    np.testing.assert_allclose(known[1], 0.05)
    np.testing.assert_allclose(mean[1] - left[1], 0.05)
    np.testing.assert_allclose(left[1], np.exp(-4 * left[0]), rtol=0.03)
    assert mean[0].max() <= 1
    said = " ".join(text.get_text() for text in curves.get_legend().get_texts())
    edge = used & (q >= 0.9)
    assert f"outer tenth: {flat[edge].sum() / (signal + flat)[edge].sum():.1%} background" in said
    assert np.array_equal(np.isnan(np.ma.filled(place.images[0].get_array(), np.nan)), ~used.reshape(41, 41))
    assert "counts" in bar.get_ylabel()


# --- a run -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hard(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The output folder of a run with background, scales, junk and one state too many, and what it printed."""
    folder = tmp_path_factory.mktemp("hard")
    conditions = ["--scale-decades", 1, "--background", BACKGROUND, "--junk", 0.1, "--mask", "cross"]
    size = ["--images", 160, "--pixels", 32, "--resolution-angstrom", 16, "--photons", 20_000, "--seed", 1]
    made = run("simulate", *size, *conditions, "--output", folder / "data.h5")
    assert made.exit_code == 0, made.output
    done = run("reconstruct", folder / "data.h5", "--output", folder / "out", *QUICK, "--set", "matching.states=2")
    assert done.exit_code == 0, done.output
    return folder / "out", done.output


def test_a_run_reports_what_it_found_out_about_the_patterns(hard: tuple[Path, str]) -> None:
    folder, printed = hard
    summary = json.loads((folder / "summary.json").read_text())
    state, kept = results.read_assignments(folder / "orientations.h5")
    assert kept is not None
    assert summary["outliers"] == np.flatnonzero(~kept).tolist()
    assert summary["populations"] == [pytest.approx((state[kept] == k).mean()) for k in (0, 1)]
    for number, (part, name) in enumerate(zip(summary["populations"], ("density.mrc", "density_1.mrc"), strict=True)):
        assert f"{part:.1%} in state {number} ({name})" in " ".join(printed.split())
    assert summary["background"]["source"] == "estimated"
    assert summary["background"]["fraction_at_edge"] == pytest.approx(BACKGROUND / (1 + BACKGROUND), rel=0.25)
    assert f"background {summary['background']['fraction']:.1%} of the counts (estimated)" in " ".join(printed.split())
    # Log-uniform over a decade and mean 1: from 0.28 to 2.3 times the median's 0.8 or so.
    low, middle, high = summary["scale"].values()
    assert 5 < high / low < 12
    assert 0.6 < middle < 1.1


def test_a_verdict_on_every_state_is_reported_drawn_and_printed(hard: tuple[Path, str]) -> None:
    folder, printed = hard
    found = json.loads((folder / "summary.json").read_text())["resolution"]
    assert found["verdict"].startswith("State 0: ")
    assert "State 1: " in found["verdict"]
    assert found["verdict"] in " ".join(printed.split())
    (other,) = found["other_states"]
    assert set(other) == {"resolution_angstrom", "half_set", "prtf", "shells"}
    q, values = np.loadtxt(folder / "prtf_1.csv", delimiter=",", skiprows=1).T
    np.testing.assert_allclose([shell["q"] for shell in other["shells"]], q, rtol=1e-5)
    np.testing.assert_allclose([shell["prtf"] for shell in other["shells"]], values, rtol=1e-4, atol=1e-5)


def test_a_run_draws_background_outliers_and_every_state(hard: tuple[Path, str]) -> None:
    folder, _ = hard
    stems = {path.stem for path in (folder / "figures").iterdir()}
    assert stems == {
        *("density", "density_1", "intensity", "intensity_1", "fsc", "fsc_1", "orientations", "convergence"),
        *("patterns", "background", "outliers"),
    }
    assert all(results.OWN_FIGURES.fullmatch(f"{stem}.png") for stem in stems)


def test_pictures_of_patterns_are_left_out_before_the_end(hard: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = hard
    shutil.copy(folder / "checkpoint.h5", tmp_path)
    assert draw(tmp_path, ("background", "outliers", "patterns")) == []
