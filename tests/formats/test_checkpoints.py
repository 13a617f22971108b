"""Checkpoints that are none, or of another run: one line, and nothing is resumed from them."""

import shutil
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from command_line import QUICK, assert_one_line, content, run
from hypothesis import given, settings
from hypothesis import strategies as st

from spilegate.commands.resuming import check_state, other_version
from spilegate.errors import InputError
from spilegate.formats.record import load_record, save_record
from spilegate.patterns.prepare import Experiment
from spilegate.records import State
from spilegate.settings import Settings


@pytest.fixture(scope="module")
def sound(experiment: Experiment) -> State:
    """A state of the third generation of the run of `experiment`."""
    rng, count, plan = np.random.default_rng(0), len(experiment.images), experiment.plan(3)
    quaternions = rng.normal(size=(count, 4))
    volume = rng.random((1, *(plan.size,) * 3), np.float32)
    return State(
        generation=3,
        voxel_angstrom=plan.voxel_angstrom,
        history=np.array([[experiment.plan(number).q_match, 0.3, 0.5] for number in (2, 3)]),
        quaternions=quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True),
        state=np.zeros(count, np.int64),
        scale=np.ones(count),
        background=np.zeros(len(experiment.detector.q)),
        weight=np.ones(count),
        distance=rng.random(count),
        autocorrelation=-volume,
        density=volume,
        support=volume > 0.2,
        size=np.ones(count),
        shift=np.zeros((count, 2)),
    )


ARRAYS = [each.name for each in fields(State) if "Float" in str(each.type) or each.type in ("Int64", "Bool")]
REALS = [name for name in ARRAYS if name not in ("state", "support")]


def with_value(value: float) -> Callable[[np.ndarray, int], np.ndarray]:
    """Put a value in some place of an array."""

    def damage(array: np.ndarray, place: int) -> np.ndarray:
        changed = array.copy()
        changed.flat[place % array.size] = value
        return changed

    return damage


# How an array can be wrong, and in which fields that has to be seen.
DAMAGES: dict[str, tuple[list[str], Callable[[np.ndarray, int], np.ndarray]]] = {
    "shorter": (ARRAYS, lambda array, _: array[:-1]),
    "longer": (ARRAYS, lambda array, _: np.concatenate([array, array[:1]])),
    "narrower": (["history", "quaternions", "autocorrelation", "density", "support"], lambda array, _: array[..., :-1]),
    "empty": (ARRAYS, lambda array, _: array[:0]),
    "nested": (ARRAYS, lambda array, _: array[None]),
    "nan": (REALS, with_value(np.nan)),
    "inf": (REALS, with_value(np.inf)),
    "negative": (["state", "weight", "density", "quaternions", "scale", "size"], with_value(-1e4)),
    "large": (["state", "weight", "quaternions", "scale"], with_value(10_000)),
    "doubled": (["quaternions", "scale", "weight", "history"], lambda array, _: 2 * array),
    "nothing": (["quaternions", "scale", "history"], lambda array, _: 0 * array),
}


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_a_damaged_array_is_refused_whichever_it_is(
    tmp_path_factory: pytest.TempPathFactory, sound: State, experiment: Experiment, data: st.DataObject
) -> None:
    kind = data.draw(st.sampled_from(sorted(DAMAGES)))
    names, damage = DAMAGES[kind]
    name, place = data.draw(st.sampled_from(names)), data.draw(st.integers(0, 10**6))
    refused(
        tmp_path_factory.mktemp("record"), replace(sound, **{name: damage(getattr(sound, name), place)}), experiment
    )


def refused(folder: Path, state: State, experiment: Experiment) -> str:
    """Fail unless a state that lies in a checkpoint is refused; return the message."""
    path = folder / "checkpoint.h5"
    save_record(path, state, {})
    with pytest.raises(InputError) as caught:
        check_state(load_record(path, State)[0], experiment, Settings(), path)
    message = str(caught.value)
    assert f"{path}: field '" in message
    assert "; expected " in message
    assert "start the run again" in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"generation": 0, "history": np.empty((0, 3))}, "'generation'"),
        ({"generation": 2}, "'history': shape (2, 3); expected shape (1, 3)"),
        ({"generation": 10**15}, "'history'"),
        ({"started": np.nan}, "'started'"),
        ({"voxel_angstrom": 0.0}, "'voxel_angstrom'"),
        ({"voxel_angstrom": np.nan}, "'voxel_angstrom'"),
        ({"voxel_angstrom": 100.0}, "'voxel_angstrom': 100; expected"),
    ],
)
def test_a_number_that_cannot_be_is_refused(
    tmp_path: Path, sound: State, experiment: Experiment, change: dict[str, Any], message: str
) -> None:
    assert message in refused(tmp_path, replace(sound, **change), experiment)


def test_a_state_of_another_run_is_refused(tmp_path: Path, sound: State, experiment: Experiment) -> None:
    per_pattern = ("quaternions", "state", "scale", "weight", "distance", "size", "shift")
    volumes = ("autocorrelation", "density", "support")
    fewer = {name: getattr(sound, name)[:-1] for name in per_pattern}
    assert "299 patterns; expected 300 patterns" in refused(tmp_path, replace(sound, **fewer), experiment)
    coarse = {name: getattr(sound, name)[:, 1:-1, 1:-1, 1:-1] for name in volumes}
    assert "voxels along an edge; expected" in refused(tmp_path, replace(sound, **coarse), experiment)
    two = {name: np.repeat(getattr(sound, name), 2, axis=0) for name in volumes}
    assert "2 conformations; expected 1" in refused(tmp_path, replace(sound, **two), experiment)
    assert "pixels" in refused(tmp_path, replace(sound, background=sound.background[1:]), experiment)
    assert "radii" in refused(tmp_path, replace(sound, history=sound.history[::-1]), experiment)


def test_a_sound_state_is_accepted(tmp_path: Path, sound: State, experiment: Experiment) -> None:
    path = tmp_path / "checkpoint.h5"
    nobody = replace(sound, weight=np.zeros_like(sound.weight), background=sound.background - 1)
    for state in (sound, nobody, replace(sound, distance=-sound.distance)):
        save_record(path, state, {})
        check_state(load_record(path, State)[0], experiment, Settings(), path)


def without_settings(file: h5py.File) -> None:
    del file.attrs["settings"]


def settings_that_are_none(file: h5py.File) -> None:
    file.attrs["settings"] = "[1, 2"


def settings_of_another_kind(file: h5py.File) -> None:
    file.attrs["settings"] = "3"


def fewer_quaternions(file: h5py.File) -> None:
    values = file["quaternions"][1:]
    del file["quaternions"]
    file["quaternions"] = values


def conformation_out_of_range(file: h5py.File) -> None:
    file["state"][5] = 7


def scale_that_is_no_number(file: h5py.File) -> None:
    file["scale"][5] = np.nan


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without_settings, "no settings"),
        (settings_that_are_none, "no settings"),
        (settings_of_another_kind, "settings 3"),
        (fewer_quaternions, "field 'quaternions': shape (119, 4); expected shape (120, 4)"),
        (conformation_out_of_range, "field 'state': shape (120,), 0 to 7; expected conformations, from 0 to 0"),
        (scale_that_is_no_number, "field 'scale': values that are no numbers"),
    ],
)
def test_a_damaged_checkpoint_is_not_resumed(
    finished: Path, data: Path, tmp_path: Path, damage: Callable[[h5py.File], None], message: str
) -> None:
    folder = tmp_path / "out"
    shutil.copytree(finished, folder)
    with h5py.File(folder / "checkpoint.h5", "r+") as file:
        damage(file)
    before = content(folder)
    done = run("reconstruct", data, "--output", folder, *QUICK, "--resume")
    assert_one_line(done.exit_code, done.stdout, done.stderr, message)
    assert content(folder) == before


def test_a_checkpoint_of_another_version_is_resumed_and_that_is_said(
    finished: Path, data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    shutil.copytree(finished, folder)
    with h5py.File(folder / "checkpoint.h5", "r+") as file:
        file.attrs["version"] = "0.0.1"
    done = run("reconstruct", data, "--output", folder, *QUICK, "--resume")
    assert done.exit_code == 0, done.output
    assert "checkpoint.h5 is of spilegate 0.0.1, this is " in done.stdout
    assert other_version(load_record(folder / "checkpoint.h5", State)[1], folder) == ""
    assert "of unknown version" in other_version({}, folder)
