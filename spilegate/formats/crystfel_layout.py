"""Where in the data the pixels of CrystFEL's panels are: axes of their own for modules, or one below the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from spilegate.errors import InputError
from spilegate.formats.crystfel_grammar import visible
from spilegate.formats.crystfel_panels import Panel

Index = tuple[int | slice, ...]
Axes = tuple[str | int, ...]
# Panels reach to more than this part of the data: otherwise they are of another detector, or of binned pixels.
LEAST = 0.5
SLAB, MODULES = ("ss", "fs"), ("index", "ss", "fs")


def indices(panels: Sequence[Panel], shape: tuple[int, ...], path: Path) -> list[Index]:
    """Return the index of every panel's pixels (ss, fs) in a pattern of a shape, which lacks the axis of patterns.

    Raises InputError if panels do not fit it.
    """
    axes = [tuple(value for value in panel.dims if value != "%") for panel in panels]
    kinds = {tuple(value if isinstance(value, str) else "index" for value in each) for each in axes}
    if len(kinds) > 1:
        raise misfit(path, "panels of data with different axes", "the same dim lines for all but for indices")
    kind = kinds.pop()
    lasts = [
        [value if isinstance(value, int) else panel.max_ss if value == "ss" else panel.max_fs for value in each]
        for panel, each in zip(panels, axes, strict=True)
    ]
    extent = tuple(1 + max(of_axis) for of_axis in zip(*lasts, strict=True))
    if len(shape) == len(extent) and all(there >= needed for there, needed in zip(shape, extent, strict=True)):
        _check_reach(extent, shape, [len(set(of_axis)) > 1 for of_axis in zip(*axes, strict=True)], kind, path)
        return [_index(panel, each, panel.min_ss) for panel, each in zip(panels, axes, strict=True)]
    if kind == SLAB and len(shape) == 3 and extent == (shape[0] * shape[1], shape[2]):
        return [_of_module(panel, shape, path) for panel in panels]
    if kind == MODULES and shape == (extent[0] * extent[1], extent[2]):
        return [
            _index(panel, SLAB, int(each[0]) * extent[1] + panel.min_ss)
            for panel, each in zip(panels, axes, strict=True)
        ]
    raise misfit(path, f"panels reach to {extent} of patterns of shape {shape}", "panels of the same detector")


def modules(panels: Sequence[Panel], rows: int) -> int:
    """Return how many modules panels reach to; rows : of one, where they are one below the other in the data.

    0 if the axes of their data are none of modules.
    """
    axes = {tuple(value for value in panel.dims if value != "%") for panel in panels}
    if axes == {SLAB}:
        return -(-(1 + max(panel.max_ss for panel in panels)) // rows)
    numbers = [value for each in axes for value in each[:1] if isinstance(value, int) and each[1:] == SLAB]
    return 1 + max(numbers) if len(numbers) == len(axes) else 0


def _check_reach(extent: tuple[int, ...], shape: tuple[int, ...], several: list[bool], kind: Axes, path: Path) -> None:
    """Raise InputError if panels reach to too small a part of a pattern; several : axes on which indices differ.

    An axis on which all panels have the same index may have any length: what else is there are other data.
    """
    counted = [number for number, name in enumerate(kind) if name != "index" or several[number]]
    part = math.prod(extent[number] / shape[number] for number in counted)
    if part <= LEAST:
        raise misfit(
            path,
            f"panels reach to {extent} of patterns of shape {shape}, {100 * part:.0f} % of them",
            "more than half, as panels of the same detector do whose pixels are not binned otherwise; panels that are "
            "not to be used may be there with no_index = 1",
        )


def _of_module(panel: Panel, shape: tuple[int, ...], path: Path) -> Index:
    """Return the index of a panel of modules one below the other in a pattern that has them as an axis."""
    module, last = panel.min_ss // shape[1], panel.max_ss // shape[1]
    if module != last:
        raise misfit(
            path,
            f"panel {visible(panel.name)!r} is in modules {module} to {last} of patterns of shape {shape}",
            "every panel in one module",
        )
    return _index(panel, (module, *SLAB), panel.min_ss - module * shape[1])


def _index(panel: Panel, axes: Axes, first: int) -> Index:
    """Return the index of a panel's pixels; first : of them along ss."""
    ranges = {"ss": slice(first, first + panel.shape[0]), "fs": slice(panel.min_fs, panel.max_fs + 1)}
    return tuple(ranges[value] if isinstance(value, str) else value for value in axes)


def misfit(path: Path, found: str, expected: str) -> InputError:
    """Return that the panels of a file are not those of the patterns, in words."""
    return InputError(f"{path}: {found}; expected {expected}; give the geometry that belongs to the patterns")
