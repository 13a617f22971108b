"""From a TOML file, `--set stage.key=value` and shorthand options to validated `Settings`."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from spilegate.errors import InputError
from spilegate.formats.selection import is_file
from spilegate.settings import Settings

# Longer ones are cut in messages.
MOST_LETTERS = 200

# One option as the user wrote it: its path ("matching.method"), its value, and where it was written.
Assignment = tuple[str, Any, str]
# Settings that are numbers of patterns, written out or in a file of their own.
LISTS = ("prepare.use", "prepare.leave_out")


def load_settings(config: Path | None, assignments: Sequence[str], shorthands: Mapping[str, Any]) -> Settings:
    """Return the settings of a run; later sources win: file, then `--set`, then shorthand options.

    config : a TOML file with a table per stage, or None
    assignments : texts `stage.key=value`; the value is TOML (`4`, `0.5`, `true`, `"polar"`), a bare word or `none`
    shorthands : option name (`--seed`) to (path, value); a value of None was not given

    Raises InputError for anything that is not a setting, naming the nearest one.
    """
    given = list(_from_file(config)) if config is not None else []
    given += [_from_text(text) for text in assignments]
    given += [(path, value, option) for option, (path, value) in shorthands.items() if value is not None]
    known = dict(setting_paths(Settings))
    tree: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for path, value, source in given:
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{source}: {path}: found {value}; expected a finite number")
        if path not in known:
            raise InputError(f"{source}: unknown setting {_shown(path)}; {_suggest(path[:MOST_LETTERS], known)}")
        if path in LISTS and isinstance(value, str):
            value = _numbers(value, f"{source}: {path}")
        *stage, key = path.split(".")
        table = tree
        for part in stage:
            table = table.setdefault(part, {})
        table[key] = value
        origin[path] = source
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        raise InputError(_first_problem(error, origin)) from error


def setting_paths(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (path, field) of every setting of a model: ("matching.method", ...)."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from setting_paths(kind, f"{prefix}{name}.")
        else:
            yield prefix + name, field


def differences(
    first: Mapping[str, Any], second: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """Yield (path, first, second) wherever two nested tables of settings differ."""
    for key in sorted(first.keys() | second.keys()):
        old, new = first.get(key), second.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from differences(old, new, f"{prefix}{key}.")
        elif old != new:
            yield f"{prefix}{key}", old, new


def _from_file(path: Path) -> Iterator[Assignment]:
    """Yield what a TOML file assigns."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"--config {path}: not valid TOML ({error}); expected tables such as [matching]") from error
    except OSError as error:
        raise InputError(f"--config {path}: cannot be read ({error.strerror}); give a TOML file") from error
    try:
        leaves = list(_leaves(table))
    except RecursionError as error:
        raise InputError(f"--config {path}: tables within tables without end; expected such as [matching]") from error
    for path_text, value in leaves:
        yield path_text, value, f"--config {path}"


def _leaves(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (path, value) of everything in a table that is not a table itself."""
    for key, value in table.items():
        if isinstance(value, Mapping) and (value or prefix + key in Settings.model_fields):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _numbers(value: str, where: str) -> str:
    """Return the numbers of patterns that a file holds, in any layout, as one list; what names no file, as it is.

    The list and not the file's name belongs to the run: a checkpoint is to know it, whatever becomes of the file.
    """
    path = Path(value)
    if not re.search(r"[^0-9:,\s]", value) and not is_file(value):
        return value
    try:
        words = path.read_text(encoding="utf-8").replace(",", " ").split()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{where}: {value!r} cannot be read ({getattr(error, 'strerror', None) or error}); expected numbers and "
            "ranges of patterns, such as 3,10:20, or a text file of them"
        ) from error
    if not words:
        raise InputError(f"{where}: {value!r} holds no numbers; expected numbers of patterns, from 0; leave it out")
    return ",".join(words)


def _from_text(text: str) -> Assignment:
    """Read `stage.key=value`."""
    path, equals, value = text.partition("=")
    path, value = path.strip(), value.strip()
    if not (path and equals and value):
        raise InputError(f"--set: found {text!r}; expected stage.key=value, e.g. matching.method=gemm")
    return path, _toml_value(value), "--set"


def _toml_value(text: str) -> Any:
    """Read a value as TOML; what is not TOML is a string, and `none` is None."""
    if text.lower() == "none":
        return None
    try:
        table = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return table["value"] if set(table) == {"value"} else text


def _suggest(path: str, known: Mapping[str, Any]) -> str:
    """Return the advice for an unknown setting."""
    close = get_close_matches(path, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    key = path.rpartition(".")[2]
    same_key = [name for name in known if name.rpartition(".")[2] == key]
    if same_key:
        return f"did you mean {same_key[0]!r}?"
    return f"expected one of {', '.join(sorted(known))}"


def _first_problem(error: ValidationError, origin: Mapping[str, str]) -> str:
    """Say in one line what is wrong with the first bad value."""
    first = error.errors(include_url=False)[0]
    path = ".".join(str(part) for part in first["loc"])
    expected = first["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    return f"{origin.get(path, 'settings')}: {path}: found {_shown(first['input'])}; expected {expected}"


def _shown(value: Any) -> str:
    """Return a value as a message shows it."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        # Whole numbers of thousands of digits, and lists within lists.
        return f"a {type(value).__name__} too large to show"
    return text if len(text) <= MOST_LETTERS else f"{text[:MOST_LETTERS]} ..."
