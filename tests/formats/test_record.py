"""Records: a checkpoint is exactly the record, and nothing else is taken for one."""

from dataclasses import dataclass, fields
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from spilegate.errors import InputError
from spilegate.formats.record import load_record, save_record
from spilegate.records import State


@dataclass(frozen=True)
class Sample:
    """Every kind of field."""

    count: int
    ratio: float
    flag: bool
    name: str
    table: NDArray[np.float32]
    index: NDArray[np.int64]
    mask: NDArray[np.bool_]


@dataclass(frozen=True)
class Other:
    """Another record."""

    count: int


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
samples = st.builds(
    Sample,
    count=st.integers(-(2**60), 2**60),
    ratio=st.floats(allow_nan=False),
    flag=st.booleans(),
    name=texts,
    table=hnp.arrays(np.float32, hnp.array_shapes(max_dims=4, max_side=4, min_side=0)),
    index=hnp.arrays(np.int64, hnp.array_shapes(max_dims=2, max_side=5)),
    mask=hnp.arrays(np.bool_, hnp.array_shapes(max_dims=3, max_side=4)),
)
PLAIN = Sample(3, 0.5, True, "x", np.ones((2, 3), np.float32), np.arange(4), np.array([True, False]))


def same(first: object, second: object) -> bool:
    """Compare two records field by field, types included."""
    pairs = [(getattr(first, item.name), getattr(second, item.name)) for item in fields(first)]
    return all(
        type(a) is type(b)
        and (not isinstance(a, np.ndarray) or (a.dtype == b.dtype and a.shape == b.shape))
        and np.array_equal(a, b, equal_nan=isinstance(a, np.ndarray) and a.dtype.kind == "f")
        for a, b in pairs
    )


@given(sample=samples, attributes=st.dictionaries(st.sampled_from("abc"), texts | st.integers(0, 9) | st.floats(0, 1)))
@settings(max_examples=60, deadline=None)
def test_a_record_is_loaded_as_saved(
    tmp_path_factory: pytest.TempPathFactory, sample: Sample, attributes: dict[str, str | int | float]
) -> None:
    path = tmp_path_factory.mktemp("record") / "record.h5"
    save_record(path, sample, attributes)
    again, notes = load_record(path, Sample)
    assert same(sample, again)
    assert notes == attributes
    assert [type(value) for value in notes.values()] == [type(attributes[name]) for name in notes]


def test_a_state_is_a_record(tmp_path: Path) -> None:
    volume = np.random.default_rng(0).random((2, 5, 5, 5), np.float32)
    state = State(
        generation=4,
        voxel_angstrom=2.5,
        history=np.zeros((3, 3)),
        quaternions=np.ones((7, 4)) / 2,
        state=np.zeros(7, np.int64),
        scale=np.ones(7),
        background=np.zeros(144),
        weight=np.ones(7),
        distance=np.zeros(7),
        autocorrelation=volume,
        density=volume,
        support=volume > 0.5,
    )
    save_record(tmp_path / "checkpoint.h5", state, {"version": "0.1", "settings": "x" * 60_000})
    again, attributes = load_record(tmp_path / "checkpoint.h5", State)
    assert same(state, again)
    assert attributes == {"version": "0.1", "settings": "x" * 60_000}


def test_an_older_record_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "record.h5"
    save_record(path, PLAIN, {"a": 1})
    before = path.read_bytes()
    with pytest.raises(TypeError):
        save_record(path, Other(object()), {})
    assert path.read_bytes() == before
    save_record(path, Other(5), {})
    assert load_record(path, Other) == (Other(5), {})
    assert [item.name for item in tmp_path.iterdir()] == ["record.h5"]


def test_the_names_of_the_record_are_its_own(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="record_version"):
        save_record(tmp_path / "record.h5", PLAIN, {"record_version": 3})


def damage_version(file: h5py.File) -> None:
    file.attrs["record_version"] = 99


def damage_kind(file: h5py.File) -> None:
    del file.attrs["record"]


def damage_missing(file: h5py.File) -> None:
    del file["count"]


def damage_unknown(file: h5py.File) -> None:
    file["more"] = 1


def damage_dtype(file: h5py.File) -> None:
    del file["table"]
    file["table"] = np.ones(3)


def damage_scalar(file: h5py.File) -> None:
    del file["count"]
    file["count"] = 0.5


def damage_text(file: h5py.File) -> None:
    del file["name"]
    file["name"] = 3


def damage_shape(file: h5py.File) -> None:
    del file["index"]
    file["index"] = np.int64(3)


def damage_group(file: h5py.File) -> None:
    del file["mask"]
    file.create_group("mask")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_version, "version 99"),
        (damage_kind, "record None"),
        (damage_missing, "'count' missing"),
        (damage_unknown, "'more' unknown"),
        (damage_dtype, "float64"),
        (damage_scalar, "'count'"),
        (damage_text, "'name'"),
        (damage_shape, "'index'"),
        (damage_group, "a group"),
    ],
)
def test_what_is_no_such_record_is_refused(tmp_path: Path, damage: object, message: str) -> None:
    path = tmp_path / "record.h5"
    save_record(path, PLAIN, {})
    with h5py.File(path, "r+") as file:
        damage(file)
    with pytest.raises(InputError, match=message) as caught:
        load_record(path, Sample)
    assert str(path) in str(caught.value)
    with pytest.raises(InputError):
        load_record(path, Other)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_record_cut_short_is_refused(tmp_path: Path, share: float) -> None:
    path = tmp_path / "record.h5"
    save_record(path, PLAIN, {})
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=r"truncated|not an HDF5"):
        load_record(path, Sample)


def test_a_missing_record_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not found"):
        load_record(tmp_path / "record.h5", Sample)


@dataclass(frozen=True)
class Unsupported:
    """A field that no record can hold."""

    items: list[int]


def test_a_type_that_no_record_holds_is_a_mistake_of_the_program(tmp_path: Path) -> None:
    save_record(tmp_path / "record.h5", Unsupported([1]), {})
    with pytest.raises(TypeError, match="list"):
        load_record(tmp_path / "record.h5", Unsupported)
