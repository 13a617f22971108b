"""Draw the pictures of an output folder from the files in it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from spilegate.errors import InputError
from spilegate.formats import record, results, spinifel
from spilegate.geometry.orientations import matrices
from spilegate.kernels.workers import Threads
from spilegate.report import curves, maps, patterns
from spilegate.report.files import CHECKPOINT, FIGURES, SUMMARY, read_curves
from spilegate.report.progress import read_records
from spilegate.report.style import drawing, save
from spilegate.settings import Settings
from spilegate.stages.slicing import slices
from spilegate.state import NEVER, Dataset, State

# Every picture; "patterns" needs the patterns, "fsc" a curve.
NAMES = ("density", "intensity", "orientations", "convergence", "patterns", "fsc")


@dataclass(frozen=True)
class Material:
    """What pictures are drawn from: the folder, the last checkpoint and, where needed, the patterns."""

    folder: Path
    state: State
    dataset: Dataset | None

    @property
    def when(self) -> str:
        """Return which generation this is, for titles."""
        return f"generation {self.state.generation}"

    @property
    def q_range(self) -> tuple[float, float]:
        """Return the |q| between which patterns were merged, as far as known [1/angstrom]."""
        q_last = _q_max(self.folder) or 0.5 / self.state.voxel_angstrom
        if self.dataset is None:
            return 0.0, q_last
        q = np.linalg.norm(self.dataset.q[self.dataset.mask < NEVER], axis=-1)
        return float(q.min()), min(q_last, float(q.max()))


def draw(folder: Path, data: Path | None, names: tuple[str, ...]) -> list[Path]:
    """Draw pictures into `folder/figures` and return their paths.

    data : the patterns, needed for "patterns" and the measured range of "intensity"; None leaves the former out

    Raises InputError if the folder holds no checkpoint or a name is unknown.
    """
    unknown = set(names) - set(NAMES)
    if unknown:
        raise InputError(f"--only {' '.join(sorted(unknown))}: not a picture; expected some of {' '.join(NAMES)}")
    state, attributes = _checkpoint(folder)
    wants_data = data is not None and {"patterns", "intensity"} & set(names)
    material = Material(folder, state, _dataset(data, attributes) if data and wants_data else None)
    target = folder / FIGURES
    target.mkdir(exist_ok=True)
    done = []
    with drawing():
        for name in names:
            for stem, figure in PAINTERS[name](material) if name in PAINTERS else ():
                path = target / f"{stem}.png"
                save(figure, path)
                done.append(path)
    fsc = draw_fsc(folder) if "fsc" in names else None
    return done if fsc is None else [*done, fsc]


def draw_fsc(folder: Path) -> Path | None:
    """Draw the Fourier shell correlation curves that are in a folder; return the picture's path, None without any."""
    found = read_curves(folder)
    if not found:
        return None
    path = folder / FIGURES / "fsc.png"
    path.parent.mkdir(exist_ok=True)
    with drawing():
        save(curves.fsc_figure(found, _q_max(folder), "Fourier shell correlation"), path)
    return path


def _q_max(folder: Path) -> float | None:
    """Return the largest q merged [1/angstrom] from the summary, None before there is one."""
    path = folder / SUMMARY
    return float(results.read_summary(path)["q_max_inverse_angstrom"]) if path.is_file() else None


def _checkpoint(folder: Path) -> tuple[State, dict[str, Any]]:
    """Return the last state of a run and what it was run with."""
    path = folder / CHECKPOINT
    if not path.is_file():
        raise InputError(f"{path}: not found; expected a folder written by spilegate reconstruct")
    state, attributes = record.load_record(path, State)
    return state, attributes


def _dataset(data: Path, attributes: dict[str, Any]) -> Dataset:
    """Read the patterns as the run read them."""
    prepare = Settings.model_validate(json.loads(attributes["settings"])).prepare
    return spinifel.read(data, binning=prepare.binning, q_min=prepare.q_min, q_max=prepare.q_max)


Painted = Iterator[tuple[str, Figure]]


def _of_state(stem: str, index: int) -> str:
    """Return the file name of a state's picture, numbered like its maps."""
    return f"{stem}_{index}" if index else stem


def _density(material: Material) -> Painted:
    """Draw every state's density."""
    densities = material.state.density
    for index, density in enumerate(densities):
        title = f"Density, {material.when}" + (f", state {index}" if len(densities) > 1 else "")
        yield (
            _of_state("density", index),
            maps.density_figure(density, material.state.voxel_angstrom, title),
        )


def _intensity(material: Material) -> Painted:
    """Draw every state's intensity."""
    volumes = material.state.autocorrelation
    for index, volume in enumerate(volumes):
        title = f"Merged intensity, {material.when}" + (f", state {index}" if len(volumes) > 1 else "")
        figure = maps.intensity_figure(volume, material.state.voxel_angstrom, *material.q_range, title)
        yield _of_state("intensity", index), figure


def _orientations(material: Material) -> Painted:
    """Draw where the patterns were taken from."""
    yield (
        "orientations",
        patterns.orientations_figure(material.state.quaternions, f"Orientations, {material.when}"),
    )


def _convergence(material: Material) -> Painted:
    """Draw the figures of merit of every generation."""
    records = read_records(material.folder, material.state.generation)
    yield "convergence", curves.convergence_figure(records, f"Convergence, {material.when}")


def _patterns(material: Material) -> Painted:
    """Draw the best, the median and the worst pattern beside their model slices."""
    state, dataset = material.state, material.dataset
    if dataset is None:
        return
    chosen = patterns.choose(state.distance)
    index = np.array([place for _, place, _ in chosen])
    models = np.empty((len(index), dataset.q.shape[0]), np.float32)
    for kind in np.unique(state.state[index]):
        of_kind = state.state[index] == kind
        rotations = matrices(state.quaternions[index[of_kind]])
        volume = state.autocorrelation[kind]
        models[of_kind] = slices(volume, state.voxel_angstrom, rotations, dataset.q, workers=Threads(1))
    models *= state.scale[index, None].astype(np.float32)
    title = f"Patterns and their model slices, {material.when}"
    yield "patterns", patterns.patterns_figure(dataset, chosen, models, title)


PAINTERS: dict[str, Callable[[Material], Painted]] = {
    "density": _density,
    "intensity": _intensity,
    "orientations": _orientations,
    "convergence": _convergence,
    "patterns": _patterns,
}
