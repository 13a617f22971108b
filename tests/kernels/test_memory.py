"""What a run takes of a device's memory, and how a run that would not fit ends before it starts."""

import re
from dataclasses import fields, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import QUICK, assert_one_line, run
from conftest import as_dataset

from spilegate.commands import reconstruct
from spilegate.errors import InputError
from spilegate.kernels import memory
from spilegate.kernels.device import MOST_ROOM, Device, room_of
from spilegate.kernels.workers import Threads
from spilegate.patterns.experiment import Experiment
from spilegate.patterns.memory import check_memory, needs
from spilegate.patterns.prepare import prepare
from spilegate.records import Dataset
from spilegate.schedule import plan
from spilegate.settings import PrepareOptions, ResolutionOptions, Settings
from spilegate.simulation.experiment import Simulation

SMALL_PLAN: dict[str, Any] = {"size": 11, "n_slices": 200, "n_samples": 320, "n_phi": 32, "n_pixel": 1600}
ONE: dict[str, Any] = {**SMALL_PLAN, "states": 1, "copies": 0.0, "soft": False}
DIAMETER = 100.0


def at(q_max: float, *, soft: bool = False, states: int = 1, diameter: float = DIAMETER) -> memory.Needs:
    """What the last generation takes; a ring every 1 / (2.2 d)."""
    last = plan(diameter, 2, q_max, q_max, soft=soft)
    samples = (int(np.ceil(2.2 * diameter * q_max)) + 1) * last.n_phi
    return memory.needs(
        size=last.size,
        n_slices=states * last.n_views,
        n_samples=samples,
        n_phi=last.n_phi,
        states=states,
        n_pixel=10_000,
        copies=0.0,
        soft=soft,
    )


def refused(free: float, q_max: float, name: str = "tiny", **options: Any) -> str:
    """The message with which a run ends that would not fit."""
    with pytest.raises(InputError) as caught:
        memory.check(at, q_max, free, name, least=2 / DIAMETER, diameter_angstrom=DIAMETER, patterns=1e9, **options)
    return str(caught.value)


def test_a_small_plan_by_hand() -> None:
    found = memory.needs(**ONE)
    samples = 200 * 320
    # A kernel of 21^3, padded to 24^3, which is the fast size of a real transform; grids of 2 x 24 and 2 x 12.
    assert found.slices == 5 * 4 * samples
    assert found.grids == pytest.approx(1.7 * 2 * (16 * 48**3 + 24 * 24**3))
    assert found.merging == 64 * 21**3 + 40 * 24**3 + 96 * 11**3
    assert found.phasing == 64 * 11**3
    assert found.scratch == 2**26
    assert found.total == pytest.approx(sum(getattr(found, part.name) for part in fields(found)))


def test_soft_runs_take_their_sums() -> None:
    hard, soft = memory.needs(**ONE), memory.needs(**{**ONE, "soft": True})
    assert soft.slices == 10 * 4 * 200 * 320
    assert soft.grids == hard.grids


def test_a_search_takes_no_more_than_its_room_however_many_views_there_are() -> None:
    one, many = (memory.needs(**{**ONE, "n_slices": count}) for count in (10**6, 10**9))
    assert one.slices == many.slices == MOST_ROOM


def test_what_stays_for_half_sets_is_added() -> None:
    assert memory.needs(**{**ONE, "copies": 5e9}).total == pytest.approx(memory.needs(**ONE).total + 5e9)


def test_a_tile_of_large_patterns_takes_more_than_the_least() -> None:
    assert memory.needs(**{**ONE, "n_pixel": 10**6}).scratch >= 256e6


def test_states_multiply_slices_and_sums() -> None:
    one, three = at(0.1), at(0.1, states=3)
    assert three.slices == 3 * one.slices
    assert three.merging - one.merging == 2 * 32 * (2 * 45 - 1) ** 3
    assert (three.grids, three.phasing) == (one.grids, one.phasing)


@pytest.mark.parametrize("soft", [False, True])
def test_needs_grow_with_the_radius_and_the_diameter(soft: bool) -> None:
    totals = [at(q, soft=soft).total for q in np.geomspace(0.02, 0.4, 40)]
    assert totals == sorted(totals)
    # Slices grow by the fourth power of the number of speckles, volumes by the third, as far as sizes are fast ones.
    assert at(0.2, soft=soft).slices / at(0.1, soft=soft).slices == pytest.approx(16, rel=0.15)
    assert at(0.2, soft=soft).grids / at(0.1, soft=soft).grids == pytest.approx(8, rel=0.4)
    assert at(0.1, soft=soft, diameter=2 * DIAMETER).total == pytest.approx(at(0.2, soft=soft).total, rel=0.05)


def test_room_for_tiles_counts_where_it_is_more_than_the_least() -> None:
    found = at(0.1)
    assert found.beside(1e8) == found.total
    assert found.beside(1e10) == pytest.approx(found.total - found.scratch + room_of(1e10))


def test_a_run_that_fits_goes_on() -> None:
    memory.check(at, 0.1, 1e12, "large", least=0.02, diameter_angstrom=DIAMETER, patterns=1e15)


@pytest.mark.parametrize("q_max", [0.11, 0.25, 0.6])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.95])
def test_the_radius_advised_fits_and_hardly_more_would(q_max: float, part: float) -> None:
    free = part * at(q_max).total
    message = refused(free, q_max)
    assert "\n" not in message
    found = float(re.findall(r"prepare\.q_max=(\S+) ", message)[0])
    assert 2 / DIAMETER <= found < q_max
    assert at(found).beside(free) <= free
    # Grids grow in steps of a few voxels.
    assert at(1.05 * found).beside(free) > free


def test_the_message_names_device_bytes_and_option() -> None:
    free = 0.5 * at(0.3).total
    message = refused(free, 0.3, "A100", option="--gpus 1")
    assert message.startswith("--gpus 1: A100 has ")
    has, takes = (float(value) for value in re.findall(r"([\d.]+) GiB", message))
    assert has == pytest.approx(free / 2**30, rel=0.01)
    assert takes == pytest.approx(at(0.3).beside(free) / 2**30, rel=0.01)
    assert all(part in message for part in ("slices", "grids", "merging", "scratch", "patterns 0.932"))


def test_what_only_just_does_not_fit_reads_so() -> None:
    free = at(0.3).total
    while at(0.3).beside(free) <= free:
        free *= 0.9999
    has, takes = (float(value) for value in re.findall(r"([\d.]+) GiB", refused(free, 0.3)))
    assert has < takes


def test_where_no_radius_helps_none_is_named() -> None:
    message = refused(1e6, 0.3)
    assert "q_max" not in message
    assert "a GPU with more memory" in message


# --- experiments -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dataset(simulation: Simulation) -> Dataset:
    """300 patterns of 40 x 40 pixels."""
    return as_dataset(simulation)


def prepared(dataset: Dataset, free: float, settings: Settings) -> Experiment:
    """An experiment of a device that has enough until then."""
    device = Device(np, 2, lambda: free, "tiny")
    return prepare(dataset, settings, device)


def test_rings_are_counted_as_they_are_laid(dataset: Dataset) -> None:
    settings = Settings()
    experiment = prepared(dataset, 1e12, settings)
    last = experiment.plans[-1]
    laid = experiment.rings(last).sampling.q.shape
    assert needs(experiment, settings, experiment.q_max).slices == 5 * 4 * last.n_views * laid[0] * laid[1]


def test_states_symmetry_and_method_of_an_experiment(dataset: Dataset) -> None:
    found = {}
    for name, changes in (
        ("plain", {}),
        ("states", {"matching": {"states": 2}}),
        ("symmetric", {"symmetry": "D2"}),
        ("soft", {"matching": {"assignment": "soft"}}),
        ("gemm", {"matching": {"method": "gemm"}}),
    ):
        settings = Settings.model_validate({"prepare": {"diameter_angstrom": 60.0}, **changes})
        experiment = prepared(dataset, 1e12, settings)
        found[name] = needs(experiment, settings, experiment.q_max)
    assert found["states"].slices == 2 * found["plain"].slices
    assert found["symmetric"].slices == pytest.approx(found["plain"].slices / 4, rel=0.01)
    # Blocks of 512 orientations, on the detector's pixels.
    last = experiment.plans[-1]
    n_pixel = len(experiment.pixels(last.q_match).sampling.q)
    assert found["gemm"].slices == 5 * 4 * (512 // last.n_phi * last.n_phi) * n_pixel
    assert found["soft"].slices > found["plain"].slices


def test_half_sets_copy_patterns_that_lie_on_the_device(dataset: Dataset) -> None:
    xp = import_module("array_api_strict")
    settings = Settings()
    experiment = prepared(dataset, 1e12, settings)
    there = replace(experiment, workers=Device(xp, 2, lambda: 1e12, "strict"))
    assert needs(there, settings, there.q_max).copies == 0
    # As much of an array as is asked about.
    there = replace(there, images=type("Images", (), {"__module__": xp.__name__, "nbytes": experiment.images.nbytes})())
    # Both halves, and of one of them those that are searched for.
    assert needs(there, settings, there.q_max).copies == 1.25 * experiment.images.nbytes
    alone = settings.model_copy(update={"resolution": ResolutionOptions(half_sets=False)})
    assert needs(there, alone, there.q_max).copies == 0.5 * experiment.images.nbytes


def test_the_setting_advised_is_enough(dataset: Dataset) -> None:
    free = 0.7 * needs(*_experiment(dataset, 1e12)).total
    with pytest.raises(InputError) as caught:
        check_memory(*_experiment(dataset, free)[:2])
    q_max, diameter = map(float, re.findall(r"q_max=(\S+) --diameter-angstrom (\S+) ", str(caught.value))[0])
    options = PrepareOptions(q_max=q_max, diameter_angstrom=diameter)
    check_memory(*_experiment(dataset, free, options)[:2])


def _experiment(dataset: Dataset, free: float, options: PrepareOptions | None = None) -> tuple[Any, Any, float]:
    settings = Settings(prepare=options or PrepareOptions())
    experiment = prepared(dataset, free, settings)
    return experiment, settings, experiment.q_max


def test_workers_without_a_device_are_not_asked(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings()
    experiment = prepare(dataset, settings, Threads(2))
    monkeypatch.setattr(memory, "check", lambda *_, **__: pytest.fail("asked"))
    check_memory(experiment, settings)


# --- the command -----------------------------------------------------------------------------------------------------


def test_a_run_that_would_not_fit_ends_before_it_starts(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, free = tmp_path / "new", 80e6
    monkeypatch.setattr(reconstruct, "start", lambda *_: Device(np, 2, lambda: free, "tiny"))
    done = run("reconstruct", data, "--output", folder, *QUICK)
    assert_one_line(done.exit_code, done.stdout, done.stderr, "tiny has 0.0745 GiB free; this run needs")
    assert not folder.exists()
    # The message can be pasted. What comes after the check is of no interest here.
    advice = re.findall(r"--set \S+ --diameter-angstrom \S+", done.stderr)[0].split()
    begun: list[Path] = []

    def begin(path: Path, **_: Any) -> None:
        begun.append(path)
        raise InputError("stopped: found a run that fits")

    monkeypatch.setattr(reconstruct.results, "claim_output", begin)
    assert "stopped" in run("reconstruct", data, "--output", folder, *QUICK, *advice).stderr
    assert begun == [folder]
