"""Records (dataclasses of arrays and scalars) as HDF5 files: a checkpoint is exactly one `State`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

import h5py
import numpy as np
from numpy.typing import NDArray

from spilegate.errors import InputError
from spilegate.formats import files

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Record = TypeVar("Record", bound="DataclassInstance")

# Raised whenever a file written before could no longer be read.
VERSION = 1
KIND = "record"
KIND_VERSION = "record_version"
SCALARS: dict[Any, str] = {bool: "b", int: "iu", float: "f", str: "O"}


def save_record(path: Path, record: DataclassInstance, attributes: Mapping[str, str | int | float]) -> None:
    """Write a dataclass of NumPy arrays and scalars, replacing an older record of that name.

    It is written beside and renamed once it is on disk, so that a crash leaves the older record.

    attributes : what else to remember, by name
    Raises InputError if the file cannot be written.
    """
    if reserved := {KIND, KIND_VERSION} & set(attributes):
        raise ValueError(f"attributes {sorted(reserved)} are the record's own")
    path = Path(path)
    with files.replacing_hdf5(path, force=True) as file:
        file.attrs[KIND] = type(record).__name__
        file.attrs[KIND_VERSION] = VERSION
        for name, value in attributes.items():
            file.attrs[name] = value
        for item in fields(record):
            file.create_dataset(item.name, data=getattr(record, item.name))


def load_record(path: Path, cls: type[Record]) -> tuple[Record, dict[str, Any]]:
    """Read a record of a dataclass and its attributes.

    Raises InputError for a missing or damaged file, another kind or version of record, and fields that are missing,
    unknown, or of another type than the dataclass declares; and for what the dataclass itself finds wrong, if it has a
    method `faults`, which yields (field, what was found, what is expected).
    """
    path = Path(path)
    expected = f"a {cls.__name__} written by spilegate"
    with files.open_hdf5(path, expected) as file:
        attributes = {name: _plain(value) for name, value in file.attrs.items()}
        kind, version = attributes.pop(KIND, None), attributes.pop(KIND_VERSION, None)
        if (kind, version) != (cls.__name__, VERSION):
            raise InputError(f"{path}: record {kind!r} of version {version!r}; expected {cls.__name__!r} of {VERSION}")
        names = {item.name for item in fields(cls)}
        for which, difference in {"missing": names - set(file), "unknown": set(file) - names}.items():
            if difference:
                raise InputError(f"{path}: field {min(difference)!r} {which}; expected {expected}; start the run again")
        hints = get_type_hints(cls)
        values = {name: _value(file[name], hints[name], f"{path}: field {name!r}") for name in names}
    result = cls(**values)
    for name, found, wanted in getattr(result, "faults", tuple)():
        raise InputError(f"{path}: field {name!r}: {found}; expected {wanted}; start the run again")
    return result, attributes


def settings_of(attributes: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the settings that the attributes of a checkpoint tell.

    Raises InputError if they do not.
    """
    try:
        settings = json.loads(attributes["settings"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: no settings; expected those of a run, as JSON; start the run again") from error
    if not isinstance(settings, dict):
        raise InputError(f"{path}: settings {settings!r:.40}; expected a JSON object; start the run again")
    return settings


def _plain(value: Any) -> Any:
    """Return a NumPy scalar as the Python scalar it stands for."""
    return value.item() if isinstance(value, np.generic) else value


def _value(found: Any, hint: Any, where: str) -> Any:
    """Return the value of a field, checked against its type hint: a scalar type or `NDArray[...]`."""
    if not isinstance(found, h5py.Dataset):
        raise InputError(f"{where}: a group; expected a dataset; start the run again")
    if hint in SCALARS:
        if found.shape != () or found.dtype.kind not in SCALARS[hint]:
            raise InputError(f"{where}: {found.dtype} {found.shape}; expected one {hint.__name__}; start the run again")
        return found.asstr()[()] if hint is str else hint(found[()])
    if get_origin(hint) is np.ndarray:
        dtype = np.dtype(get_args(get_args(hint)[1])[0])
    elif get_origin(hint) is NDArray:
        # An alias with a name of its own, from NumPy 2.5 on.
        dtype = np.dtype(get_args(hint)[0])
    else:
        raise TypeError(f"{where}: records hold arrays, bool, int, float and str, not {hint}")
    if found.shape is None or found.shape == () or found.dtype != dtype:
        raise InputError(f"{where}: {found.dtype} {found.shape}; expected an array of {dtype}; start the run again")
    return found[()]
