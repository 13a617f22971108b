"""Options that a table describes, given to a command that takes them as keywords."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any


def taking(added: Iterable[tuple[str, Any, Any]]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that gives commands parameters (name, annotation, default) beside their own."""
    # More than one command may take them.
    added = tuple(added)

    def give(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def with_options(*args: Any, **keywords: Any) -> None:
            command(*args, **keywords)

        own = inspect.signature(command, eval_str=True)
        more = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            for name, annotation, default in added
        ]
        kept = [each for each in own.parameters.values() if each.kind is not inspect.Parameter.VAR_KEYWORD]
        parameters = [*kept, *more]
        with_options.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined] # Typer reads it
        with_options.__annotations__ = {each.name: each.annotation for each in parameters} | {"return": None}
        return with_options

    return give
