"""Reconstructions of several states and of files with junk, against their truth."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from command_line import assert_one_line, run
from scipy.spatial.transform import Rotation

from spilegate.errors import InputError
from spilegate.evaluation.orientations import orientation_error
from spilegate.evaluation.states import orientation_figures, rejection, state_accuracy
from spilegate.formats import reader, results, spinifel
from spilegate.records import State
from spilegate.simulation.conditions import Conditions
from spilegate.simulation.experiment import Simulation, simulate
from spilegate.simulation.particle import Particle, make_particle

COUNT = 60


def heap(stretch: float) -> Particle:
    """A heap of carbon atoms."""
    positions = 6 * np.random.default_rng(0).standard_normal((60, 3)) * [stretch, 1, 1]
    return make_particle(positions, ["C"] * 60, np.ones(60), f"heap {stretch}")


@pytest.fixture(scope="module")
def simulation() -> Simulation:
    """Two states and junk."""
    return simulate(
        heap(1),
        images=COUNT,
        pixels=16,
        resolution_angstrom=8.0,
        wavelength_angstrom=1.0,
        photons=500.0,
        seed=1,
        threads=1,
        others=(heap(2.2),),
        conditions=Conditions(junk=0.2, hot_pixels=0.5),
    )


def a_state(simulation: Simulation, order: list[int], turns: list[Rotation]) -> State:
    """A perfect reconstruction but for the numbers and the particle frames of its states.

    order : the true state that each found one is; turns : takes the true particle frame to the found one
    """
    assert simulation.hidden is not None
    found = np.zeros(COUNT, np.int64)
    truth = Rotation.from_quat(simulation.quaternions, scalar_first=True)
    quaternions = Rotation.random(COUNT, rng=np.random.default_rng(4)).as_quat(scalar_first=True)
    for k, (true, turn) in enumerate(zip(order, turns, strict=True)):
        chosen = simulation.hidden.state == true
        found[chosen] = k
        quaternions[chosen] = (truth[chosen] * turn.inv()).as_quat(scalar_first=True)
    volumes = simulation.hidden.volumes[order]
    return State(
        generation=2,
        voxel_angstrom=simulation.voxel_angstrom,
        history=np.empty((1, 3)),
        quaternions=quaternions,
        state=found,
        scale=np.ones(COUNT),
        background=np.zeros(4),
        weight=np.ones(COUNT),
        distance=np.zeros(COUNT),
        autocorrelation=volumes,
        density=volumes,
        support=volumes > 0,
    )


def evaluated(folder: Path, simulation: Simulation, state: State, weight: np.ndarray | None = None) -> dict[str, Any]:
    """Write a reconstruction and the patterns, run `spilegate evaluate`, return what it found."""
    spinifel.write(folder / "data.h5", simulation, force=True)
    out = folder / "out"
    out.mkdir()
    results.write_results(out, state, Path("data.h5"), threads=1)
    results.write_summary(out / "summary.json", {"q_max_inverse_angstrom": 1 / 8})
    # Without weights it is a file as others may write it.
    with h5py.File(out / "orientations.h5", "r+") as file:
        del file["weight"]
        if weight is not None:
            file["weight"] = weight
    result = run("evaluate", out, "--reference", folder / "data.h5", "--threads", 1)
    assert result.exit_code == 0, result.output
    evaluation: dict[str, Any] = json.loads((out / "summary.json").read_text())["evaluation"]
    return evaluation


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_states_are_compared_with_the_ones_they_are(tmp_path: Path, simulation: Simulation, order: list[int]) -> None:
    assert simulation.hidden is not None
    turns = list(Rotation.random(2, rng=np.random.default_rng(3)))
    junk = simulation.hidden.state == -1
    weight = np.where(junk, 0.0, 0.7)
    weight[np.flatnonzero(junk)[:3]] = 0.2
    weight[np.flatnonzero(~junk)[:6]] = 0
    found = evaluated(tmp_path, simulation, a_state(simulation, order, turns), weight)
    assert [state["true_state"] for state in found["states"]] == order
    assert min(state["correlation"] for state in found["states"]) > 0.999
    assert max(state["resolution_angstrom"] for state in found["states"]) < 8.5
    assert found["correlation"] == found["states"][0]["correlation"]
    # Junk, a fifth of all, has random orientations; the states have particle frames of their own.
    assert found["orientation_error_deg"]["mean"] < 0.01
    assert found["orientation_error_deg"]["fraction_within_12"] == 1
    assert found["state_accuracy"] == 1
    assert found["junk_found"] == pytest.approx(9 / 12)
    assert found["good_lost"] == pytest.approx(6 / 48)


def test_one_state_of_two_and_no_weights(tmp_path: Path, simulation: Simulation) -> None:
    state = a_state(simulation, [1], [Rotation.identity()])
    found = evaluated(tmp_path, simulation, state)
    assert [each["true_state"] for each in found["states"]] == [1]
    assert found["states"][0]["correlation"] > 0.999
    share = np.bincount(simulation.hidden.state[simulation.hidden.state >= 0]).max() / 48  # type: ignore[union-attr]
    assert found["state_accuracy"] == pytest.approx(share)
    assert (found["junk_found"], found["good_lost"]) == (None, None)


def test_more_states_than_there_are(tmp_path: Path, simulation: Simulation) -> None:
    turns = [Rotation.identity()] * 3
    state = a_state(simulation, [1, 0, 1], turns)
    found = evaluated(tmp_path, simulation, state)
    assert [each["true_state"] for each in found["states"]] == [1, 0, 1]
    assert min(each["correlation"] for each in found["states"]) > 0.999


def test_weights_of_another_number_of_patterns_are_refused(tmp_path: Path, simulation: Simulation) -> None:
    with pytest.raises(AssertionError, match="'weight': shape"):
        evaluated(tmp_path, simulation, a_state(simulation, [0], [Rotation.identity()]), np.ones(COUNT - 1))
    result = run("evaluate", tmp_path / "out", "--reference", tmp_path / "data.h5")
    assert_one_line(result.exit_code, result.stdout, result.stderr, "'weight': shape (59,)")


def test_accuracy_does_not_depend_on_the_numbers_of_the_states() -> None:
    true = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 2])
    assert state_accuracy(np.array([2, 1, 0])[true], true) == 1
    assert state_accuracy(np.zeros(10, np.int64), true) == 0.5
    # Two patterns of state 0 are with state 1, which is otherwise found.
    assert state_accuracy(np.array([1, 1, 0, 1, 1, 2, 2, 2, 2, 2]), true) == 0.8
    # A state may be split, then one half counts.
    assert state_accuracy(np.array([0, 0, 0, 1, 1, 2, 2, 2, 3, 3]), true) == 0.8


def test_rejection_counts_junk_and_good_patterns_apart() -> None:
    kept, junk = np.array([1, 1, 0, 0, 1], bool), np.array([0, 0, 0, 1, 1], bool)
    assert rejection(kept, junk) == (0.5, pytest.approx(1 / 3))
    assert rejection(kept, junk & False) == (None, 0.4)
    assert rejection(kept, junk | True) == (0.4, None)


def test_orientations_of_one_state_are_judged_as_ever() -> None:
    truth = Rotation.random(200, rng=np.random.default_rng(0))
    found = truth * Rotation.from_rotvec(np.random.default_rng(1).normal(0, 0.05, (200, 3)))
    pair = found.as_quat(scalar_first=True), truth.as_quat(scalar_first=True)
    found_now = orientation_figures(*pair, np.zeros(200, np.int64))
    assert orientation_error(*pair).figures().items() <= found_now.items()
    assert found_now["half_turned"] == 0


# --- the truth in files ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("state", np.zeros(COUNT - 1), "shape (59,)"),
        ("state", np.full(COUNT, -2), "such as -2"),
        ("state", np.full(COUNT, 0.5), "such as 0.5"),
        ("state", np.full(COUNT, 2), "expected less than 2"),
        ("scale", np.zeros(COUNT), "such as 0"),
        ("scale", np.full(COUNT, np.nan), "such as nan"),
        ("background", np.ones((16, 16)), "shape (16, 16)"),
        ("background", -np.ones((1, 16, 16)), "such as -1"),
        ("hot_pixels", np.zeros((4, 3), int), "shape (4, 3)"),
        ("hot_pixels", np.zeros((4, 2)), "float64"),
        ("hot_pixels", np.array([[COUNT, 0]]), "up to [60, 0]"),
        ("hot_pixels", np.array([[0, -1]]), "expected (pattern, pixel)"),
        ("volumes", np.ones((2, 3, 3, 4)), "shape (2, 3, 3, 4)"),
        ("volumes", np.ones((3, 3, 3)), "shape (3, 3, 3)"),
        ("volumes", np.full((2, 3, 3, 3), np.inf), "not finite"),
    ],
)
def test_a_truth_that_makes_no_sense_is_refused(
    tmp_path: Path, simulation: Simulation, name: str, values: np.ndarray, message: str
) -> None:
    path = tmp_path / "data.h5"
    spinifel.write(path, simulation)
    with h5py.File(path, "r+") as file:
        del file["truth"][name]
        file["truth"][name] = values
    with pytest.raises(InputError) as caught:
        spinifel.read_truth(path)
    assert f"'truth/{name}'" in str(caught.value)
    assert message in str(caught.value)
    reader.read(path)
    with h5py.File(path, "r+") as file:
        del file["truth"]
        file["truth"] = 3.0
    assert spinifel.read_truth(path).state is None
    assert reader.describe(path)["truth"] == "orientations, volume"


def test_voxels_of_both_kinds_of_densities_agree(tmp_path: Path, simulation: Simulation) -> None:
    path = tmp_path / "data.h5"
    spinifel.write(path, simulation)
    with h5py.File(path, "r+") as file:
        file["truth/volumes"].attrs["voxel_angstrom"] = 9.0
    with pytest.raises(InputError, match="voxel_angstrom 9"):
        spinifel.read_truth(path)
    with h5py.File(path, "r+") as file:
        del file["volume"]
    assert spinifel.read_truth(path).voxel_angstrom == 9.0
