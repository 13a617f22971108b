"""The output folder of a reconstruction: who may write into it, maps, orientations and the summary."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.fft

from spilegate import __version__
from spilegate.errors import InputError
from spilegate.formats import files, locks
from spilegate.formats import origin as origins
from spilegate.formats.locks import Lock
from spilegate.formats.maps import read_map, write_map
from spilegate.formats.star import write_star
from spilegate.kernels import fft
from spilegate.records import Bool, Float32, Float64, Int64, Origin, State

PARTIAL = rf"(\.[0-9a-f]{{16}})?{re.escape(files.PARTIAL)}"
# What a run comes to.
RESULTS = (
    r"(density|intensity|autocorrelation|support|half_[12])(_\d+)?\.mrc|orientations\.(h5|star)|methods\.md"
    r"|(selected(_\d+)?|outliers)\.txt|(fsc_half_set|fsc_half_set_plain|prtf)(_\d+)?\.csv|fsc_half_set(_\d+)?\.xml"
)
OWN_FILES = re.compile(
    rf"({RESULTS}|(checkpoint|findings)\.h5|summary\.json|progress\.jsonl|report\.html|fsc_reference(_\d+)?\.csv)({PARTIAL})?"
)
OWN_FIGURES = re.compile(
    r"((density|intensity|fsc)(_\d+)?|orientations|convergence|patterns|background|outliers)\.png"
    rf"({PARTIAL})?"
)
FIGURES = "figures"


@dataclass(frozen=True)
class Leaves:
    """What a command may leave in its folder and in the folder of its pictures: --force removes that and nothing else.

    remedy : what else than another name to give where the folder is not empty
    """

    files: re.Pattern[str]
    figures: re.Pattern[str]
    remedy: str


SELECTION = Leaves(
    re.compile(rf"(selection\.(h5|csv)|(kept|left_out)\.txt|gallery\.html)({PARTIAL})?"),
    re.compile(rf"(sizes|classes)\.png({PARTIAL})?"),
    "--force overwrites an earlier selection, --keep and --drop change it",
)
# A reconstruction may select single particles first.
RECONSTRUCTION = Leaves(
    re.compile(f"{OWN_FILES.pattern}|{SELECTION.files.pattern}"),
    re.compile(f"{OWN_FIGURES.pattern}|{SELECTION.figures.pattern}"),
    "--force overwrites earlier results, --resume continues them",
)
ORIENTATIONS_EXPECTED = "orientations written by spilegate reconstruct"


def claim_output(path: Path, *, lock: Lock, force: bool, resume: bool, leaves: Leaves = RECONSTRUCTION) -> None:
    """Make sure that this run alone may write into the folder `path`; make it if it does not exist.

    lock : the folder's; it is taken
    force : remove what an earlier run left there, and nothing else; whatever other files there are stay
    resume : leave everything as it is but files that a killed run was writing; the folder must exist
    leaves : what runs of this kind leave

    To be called once all other input has been checked, since `force` loses the earlier results.
    Raises InputError, with nothing changed, if the folder is not empty without `force`, another run has the lock, or it
    cannot be used.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise InputError(f"--output {path}: found a file; expected a folder; name another one")
    if resume and not path.is_dir():
        raise InputError(f"--output {path}: not found; expected the folder of the run to resume; leave out --resume")
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(0, "no permission to write")
        lock.take()
        if not (force or resume) and any(item.name != locks.FILE for item in path.iterdir()):
            raise InputError(
                f"--output {path}: not empty; expected a new or empty folder; name another one, {leaves.remedy}"
            )
        for own in list(_own_files(path, leaves)):
            if force or own.name.endswith(files.PARTIAL):
                own.unlink()
    except OSError as error:
        raise InputError(f"--output {path}: cannot be used ({error.strerror}); check its permissions") from error


def _own_files(path: Path, leaves: Leaves) -> Iterator[Path]:
    """Yield the files in a folder that an earlier run may have written."""
    figures = path / FIGURES
    for folder, names in ((path, leaves.files), (figures, leaves.figures)):
        if folder.is_dir() and (folder is path or not folder.is_symlink()):
            yield from (item for item in folder.iterdir() if item.is_file() and names.fullmatch(item.name))


def intensity_volume(autocorrelation: Float32, *, threads: int) -> Float32:
    """Return the intensity, the Fourier transform of an autocorrelation (M, M, M), centre at M // 2.

    `I(q) = sum_x A(x) exp(-2 pi i q.x)`; its voxel is 1 / (M * voxel of A) [1/angstrom].
    """
    spectrum = scipy.fft.fftn(fft.to_corner(autocorrelation), axes=fft.AXES, workers=threads)
    intensity: Float32 = fft.to_centre(spectrum.real).astype(np.float32)
    return intensity


def remove_left_over(folder: Path, written: Collection[str]) -> None:
    """Remove results of an earlier run, half-sets' for one, that have not been written by this one, by names."""
    for own in list(_own_files(folder, RECONSTRUCTION)):
        if re.fullmatch(RESULTS, own.name) and own.name not in written:
            own.unlink()


def write_results(
    folder: Path,
    state: State,
    source: Path,
    *,
    half_maps: Float32 | None = None,
    origin: Origin | None = None,
    place: Int64 | None = None,
    threads: int,
) -> set[str]:
    """Write maps, orientations and lists of patterns into a folder that `claim_output` has granted.

    For state 0: `density.mrc` (voxel in angstrom), `autocorrelation.mrc` and `support.mrc` (the same), `intensity.mrc`
    (voxel in 1/angstrom: MRC has no unit for it), `half_1.mrc` and `half_2.mrc` of half-sets, `selected.txt`; for state
    k > 0 the same with `_k`. `orientations.h5`, `orientations.star` and `outliers.txt` are for all.

    source : the file of the patterns; origin : what each of them came from
    half_maps : (2, K, M, M, M), zeros for a state that a half lacks; place : see `write_star`
    Returns the names of the files.
    Raises InputError if a file cannot be written.
    """
    folder = Path(folder)
    size, edge = state.density.shape[-1], state.voxel_angstrom
    written = {"orientations.h5", "orientations.star"}
    for k, (density, autocorrelation) in enumerate(zip(state.density, state.autocorrelation, strict=True)):
        maps = {
            "density": (density, edge, "electron density"),
            "autocorrelation": (autocorrelation, edge, "autocorrelation"),
            "intensity": (
                intensity_volume(autocorrelation, threads=threads), 1 / (size * edge), "intensity, voxel in 1/angstrom"
            ),
            "support": (state.support[k], edge, "support of the density, 0 or 1"),
        }  # fmt: skip
        for half, of_half in enumerate(() if half_maps is None else half_maps[:, k], 1):
            if of_half.any():
                maps[f"half_{half}"] = (of_half, edge, f"density of half-set {half}, over that of all")
        for name, (volume, voxel, what) in maps.items():
            label = f"spilegate {__version__}: {what}, state {k}"
            write_map(folder / f"{name}{_of(k)}.mrc", volume, voxel, force=True, label=label)
            written.add(f"{name}{_of(k)}.mrc")
    write_orientations(folder / "orientations.h5", state, origin, force=True)
    write_star(folder / "orientations.star", state, source, origin, halves=half_maps is not None, place=place)
    return written | write_lists(folder, state)


def _of(state: int) -> str:
    """Return what the names of a state's files end in: nothing for state 0."""
    return f"_{state}" if state else ""


def write_lists(folder: Path, state: State) -> set[str]:
    """Write which patterns each state has, `selected.txt`, `selected_1.txt` ..., and which none: `outliers.txt`.

    Numbers from 0, one on a line, as `prepare.use` and `prepare.leave_out` read them; an empty file for none.
    Returns the names of the files.
    Raises InputError if a file cannot be written.
    """
    kept = state.weight > 0
    chosen = {f"selected{_of(k)}.txt": kept & (state.state == k) for k in range(len(state.density))}
    chosen["outliers.txt"] = ~kept
    for name, patterns in chosen.items():
        text = "".join(f"{number}\n" for number in np.flatnonzero(patterns).tolist())
        files.replace(folder / name, text.encode())
    return set(chosen)


def write_orientations(path: Path, state: State, origin: Origin | None = None, *, force: bool = False) -> None:
    """Write what is known of every pattern.

    `quaternions` (N_IMG, 4), `scale`, `weight`, `distance` and `state`, (N_IMG,) each; `size` (N_IMG,) and `shift`
    (N_IMG, 2) where patterns differ in these; and, as NeXus has it, a group of
    links to them, of which browsers show the distances. What patterns came from, if that is known, is in `origin`.

    Raises InputError if the file exists and `force` is not set, or cannot be written.
    """
    meaning = {
        "quaternions": "unit quaternions (w, x, y, z); the rotation takes the particle frame of density.mrc to the "
        "laboratory frame: a pattern samples the intensity at R^T q",
        "scale": "of mean 1; pattern = scale * slice of the model + background",
        "weight": "1 for a pattern of the particle, 0 for an outlier, which was left out",
        "distance": "misfit of the slice: 0 is perfect, 1 no better than the mean of all patterns",
        "state": "conformation, from 0",
    }
    if len(state.size):
        meaning["size"] = "of the particle, over that of density.mrc: a pattern samples at size R^T (q - shift)"
        meaning["shift"] = "of the beam, along q_x and q_y, in 1/angstrom"
    with files.replacing_hdf5(Path(path), force=force) as file:
        file.attrs.update(NX_class="NXroot", default="entry", creator="spilegate", creator_version=__version__)
        entry = file.create_group("entry")
        entry.attrs.update(NX_class="NXentry", default="patterns")
        entry["title"] = "Orientations of single-particle diffraction patterns"
        patterns = entry.create_group("patterns")
        patterns.attrs.update(NX_class="NXdata", signal="distance")
        for name, text in meaning.items():
            found = file.create_dataset(name, data=getattr(state, name))
            # All are numbers without a unit, which NeXus says by an empty one.
            unit = "1/angstrom" if name == "shift" else ""
            found.attrs.update(meaning=text, long_name=name, units=unit, target=f"/{name}")
            patterns[name] = found
        if origin is not None and origin.values:
            origins.write(file.create_group(origins.GROUP), origin)


def read_orientations(path: Path) -> Float64:
    """Return the quaternions (N_IMG, 4) float64 that `write_orientations` wrote.

    Raises InputError if the file is missing, damaged, or another one.
    """
    path = Path(path)
    with files.open_hdf5(path, ORIENTATIONS_EXPECTED) as file:
        found = files.dataset(file, "quaternions", path, ORIENTATIONS_EXPECTED)
        values: Float64 = found[()].astype(np.float64)
    if values.ndim != 2 or values.shape[1] != 4 or not np.isfinite(values).all():
        raise InputError(f"{path}: dataset 'quaternions': shape {values.shape}; expected finite (patterns, 4)")
    return values


def read_assignments(path: Path) -> tuple[Int64, Bool | None]:
    """Return the state (N_IMG,) int64 of every pattern, and which were kept, (N_IMG,) bool: those of a weight above 0.

    State 0 where the file has no dataset `state`; None where it has no `weight`.
    Raises InputError if the file is missing, damaged, or another one.
    """
    path = Path(path)
    count = len(read_orientations(path))
    with files.open_hdf5(path, ORIENTATIONS_EXPECTED) as file:
        state = _per_pattern(file, path, "state", count) if "state" in file else np.zeros(count)
        weight = _per_pattern(file, path, "weight", count) if "weight" in file else None
    if (state < 0).any():
        raise InputError(f"{path}: dataset 'state': {state.min():g}; expected conformations, from 0")
    return state.astype(np.int64), None if weight is None else weight > 0


def read_seen(path: Path) -> tuple[Float64, Float64] | None:
    """Return sizes (N_IMG,) and shifts (N_IMG, 2) [1/angstrom] of patterns, None where the file has none.

    Raises InputError if the file is missing, damaged, or another one.
    """
    path = Path(path)
    count = len(read_orientations(path))
    with files.open_hdf5(path, ORIENTATIONS_EXPECTED) as file:
        if "size" not in file or "shift" not in file:
            return None
        size = _per_pattern(file, path, "size", count)
        shift = files.dataset(file, "shift", path, ORIENTATIONS_EXPECTED)[()].astype(np.float64)
    if shift.shape != (count, 2) or not np.isfinite(shift).all() or not (size > 0).all():
        raise InputError(f"{path}: datasets 'size', 'shift': expected positive sizes, and finite shifts ({count}, 2)")
    return size, shift


def _per_pattern(file: h5py.File, path: Path, name: str, count: int) -> Float64:
    """Return a dataset with one finite number for each pattern."""
    values: Float64 = files.dataset(file, name, path, ORIENTATIONS_EXPECTED)[()].astype(np.float64)
    if values.shape != (count,) or not np.isfinite(values).all():
        raise InputError(f"{path}: dataset {name!r}: shape {values.shape}; expected finite ({count},)")
    return values


def read_densities(folder: Path) -> tuple[list[Float32], float]:
    """Return the density (M, M, M) of every state that `write_results` wrote, and their voxel [angstrom].

    Raises InputError if the first is missing or any of them cannot be read.
    """
    first, voxel = read_map(folder / "density.mrc")
    densities = [first]
    while (path := folder / f"density_{len(densities)}.mrc").is_file():
        densities.append(read_map(path)[0])
    return densities, voxel


def write_summary(path: Path, mapping: Mapping[str, Any]) -> None:
    """Write a summary as JSON in the order given, replacing an older one.

    NumPy scalars and arrays become numbers and lists; numbers that JSON has no word for (nan, inf) become null.
    Raises InputError if the file cannot be written.
    """
    text = json.dumps(_plain(mapping), indent=2, allow_nan=False, ensure_ascii=False)
    # Bytes of a file name that are no letters become codes, which JSON has too.
    files.replace(Path(path), f"{text}\n".encode(errors="backslashreplace"))


def _plain(value: Any) -> Any:
    """Return a value made of what JSON knows."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_summary(path: Path) -> dict[str, Any]:
    """Return a summary. Raises InputError if it is missing or not a JSON object."""
    path = Path(path)
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; expected the summary of a finished reconstruction") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({error}); expected the summary of a reconstruction") from error
    if not isinstance(summary, dict):
        raise InputError(f"{path}: {type(summary).__name__}; expected a JSON object, the summary of a reconstruction")
    return summary
