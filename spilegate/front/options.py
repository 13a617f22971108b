"""Settings as programs give them: ready-made, by name, or in a file; every mistake is said in one line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from spilegate.commands.configuration import load_settings
from spilegate.errors import InputError
from spilegate.settings import READING, PrepareOptions, Settings

Given = Settings | Mapping[str, Any] | str | Path | None


def as_settings(given: Given) -> Settings:
    """Return settings; None: the defaults; a mapping: by name, nested or not; a path: of a TOML file.

    Raises InputError for what is no setting, or has a value that makes no sense.
    """
    if given is None:
        return Settings()
    if isinstance(given, Settings):
        return given
    if isinstance(given, str | Path):
        return load_settings(Path(given), [], {})
    if not isinstance(given, Mapping):
        raise InputError(f"settings: found {type(given).__name__}; expected Settings, a mapping, or a TOML file's path")
    named = {f"settings[{name!r}]": (name, value) for name, value in _leaves(given)}
    return load_settings(None, [], named)


def _leaves(given: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (path, value) of everything in a mapping that is no mapping itself."""
    for name, value in given.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def reading(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return how patterns are to be read, checked; given : some settings of stage `prepare`, by their names there.

    Raises InputError for what does not say how patterns are read.
    """
    for name in given:
        if name in PrepareOptions.model_fields and name not in READING:
            raise InputError(f"{name}: says not how patterns are read; give it to reconstruct, as 'prepare.{name}'")
    checked = load_settings(None, [], {name: (f"prepare.{name}", _plain(value)) for name, value in given.items()})
    return {name: getattr(checked.prepare, name) for name in given}


def _plain(value: Any) -> Any:
    """Return paths as text, and tuples as lists, as files of settings have them."""
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Path) else value


def read_as(settings: Settings, done: Mapping[str, Any]) -> Settings:
    """Return settings that say how patterns were read which are in memory by now. done : how that was.

    Raises InputError where settings ask for them to be read in another way.
    """
    usual = PrepareOptions()
    for name in READING:
        asked, is_so = getattr(settings.prepare, name), done.get(name, getattr(usual, name))
        if asked not in (is_so, getattr(usual, name)):
            raise InputError(
                f"prepare.{name} = {asked!r}: the patterns are in memory, read with {is_so!r}; give {name} to "
                "spilegate.read, or a path to reconstruct"
            )
    return settings.model_copy(update={"prepare": settings.prepare.model_copy(update=dict(done))})
