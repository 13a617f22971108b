"""Draw the pictures of an output folder from the files in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from matplotlib.figure import Figure

from spilegate.errors import InputError
from spilegate.generation.poses import OUTLYING, wide_limit
from spilegate.geometry.detector import pixel_spacing
from spilegate.patterns.examples import choose, examples, fits
from spilegate.records import Float64
from spilegate.report import background, curves, maps, outliers, patterns
from spilegate.report.assembling import assemble, example
from spilegate.report.files import FIGURES, read_curves
from spilegate.report.material import Material, load, q_max
from spilegate.report.models import model_slices
from spilegate.report.progress import read_records
from spilegate.report.style import drawing, save

# Every picture; "fsc" needs a curve.
NAMES = ("density", "intensity", "orientations", "convergence", "patterns", "background", "outliers", "fsc")
# Those that show something of the patterns; all but "intensity" are left out before the run has ended.
OF_PATTERNS = {"intensity", "patterns", "background", "outliers"}


def draw(folder: Path, names: tuple[str, ...]) -> list[Path]:
    """Draw pictures into `folder/figures` and return their paths.

    Raises InputError if the folder holds no checkpoint or a name is unknown.
    """
    unknown = set(names) - set(NAMES)
    if unknown:
        raise InputError(f"--only {' '.join(sorted(unknown))}: not a picture; expected some of {' '.join(NAMES)}")
    material = load(folder, patterns=bool(OF_PATTERNS & set(names)))
    target = folder / FIGURES
    target.mkdir(exist_ok=True)
    done = []
    with drawing():
        for name in names:
            for stem, figure in PAINTERS[name](material) if name in PAINTERS else ():
                path = target / f"{stem}.png"
                save(figure, path)
                done.append(path)
    return [*done, *(draw_fsc(folder) if "fsc" in names else [])]


def draw_fsc(folder: Path) -> list[Path]:
    """Draw the curves over shells that are in a folder, a picture for every state; return their paths."""
    found: list[dict[str, tuple[Float64, Float64]]] = []
    while state := read_curves(folder, len(found)):
        found.append(state)
    done = []
    for index, state in enumerate(found):
        path = folder / FIGURES / f"{_of_state('fsc', index)}.png"
        path.parent.mkdir(exist_ok=True)
        title = "Fourier shell correlation" + (f", state {index}" if len(found) > 1 else "")
        with drawing():
            save(curves.fsc_figure(state, q_max(folder), title), path)
        done.append(path)
    return done


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
    state, found = material.state, material.findings
    if found is None:
        return
    chosen = choose(state.distance, found.weight > 0)
    models = model_slices(state, found, [place for _, place, _ in chosen])
    title = f"Patterns and their model slices, {material.when}"
    yield "patterns", patterns.patterns_figure(found, chosen, models, title)


def _background(material: Material) -> Painted:
    """Draw the background, if there is one."""
    found, dark = material.findings, material.state.background
    if found is None or not dark.any():
        return
    title = f"Background {'estimated' if found.background_estimated else 'of the file'}, {material.when}"
    spacing = pixel_spacing(found.q[found.merged])
    picture = assemble(found, dark)
    used = found.merged & (material.q_length <= material.q_range[1])
    figure = background.background_figure(found.mean, dark, material.q_length, used, spacing, picture, title)
    yield "background", figure


def _outliers(material: Material) -> Painted:
    """Draw which patterns were left out and why, if outliers were looked for."""
    found, state = material.findings, material.state
    if found is None or not material.settings.matching.outliers:
        return
    how = fits(state, found.scale, OUTLYING, wide_limit(state.distance))
    middle, chosen = examples(how)
    named = [(f"pattern {index}, distance {state.distance[index]:.2g}", int(index)) for index in chosen]
    if named and middle is not None:
        named.insert(0, (f"usual: pattern {middle}, {state.distance[middle]:.2g}", middle))
    shown = [(name, assemble(found, example(found, index))) for name, index in named]
    yield "outliers", outliers.outliers_figure(how, shown, material.when)


PAINTERS: dict[str, Callable[[Material], Painted]] = {
    "density": _density,
    "intensity": _intensity,
    "orientations": _orientations,
    "convergence": _convergence,
    "patterns": _patterns,
    "background": _background,
    "outliers": _outliers,
}
