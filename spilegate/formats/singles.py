"""Patterns that are a dataset each: SimEx and singfel, and libspimage, whose files hold one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from spilegate.errors import InputError
from spilegate.formats import files, masks
from spilegate.formats.facts import DISTANCES, ENERGIES, EV_ANGSTROM, PIXELS, WAVELENGTHS, Facts, Metadata
from spilegate.formats.patterns import EXPECTED, Stack
from spilegate.formats.pixels import of_panels
from spilegate.formats.whole import link_of
from spilegate.records import UInt8

# SimEx: photons, or the intensities they are drawn from; by the master file both are links to files of their own.
DATA, PHOTONS, INTENSITIES, ANGLE = "data", "data", "diffr", "angle"
BEAM, GEOM = "params/beam/photonEnergy", "params/geom"
# libspimage: its name; what tells its files, and flags of images that are none of a detector.
ONE, REAL, IMAGE = "libspimage", "real", ("real", "mask", "num_dimensions", "image_center", "version")
FLAGS = {
    "shifted": "shifted, so that the centre is in a corner", "scaled": "amplitudes", "phased": "complex amplitudes",
}  # fmt: skip


class Singles:
    """Patterns that are datasets of their own, as one stack of them.

    shape, dtype, chunks : as of a dataset; `singles[part]` are some of the patterns
    """

    chunks = None

    def __init__(self, file: h5py.File, names: Sequence[str], size: tuple[int, int], dtype: np.dtype[Any]) -> None:
        self._file, self._names, self.dtype = file, names, dtype
        self.shape = (len(names), *size)

    def __getitem__(self, part: slice) -> NDArray[Any]:
        """Return some of the patterns; OSError if one cannot be read."""
        result = np.zeros((len(self._names[part]), *self.shape[1:]), self.dtype)
        for place, name in enumerate(self._names[part]):
            try:
                result[place] = self._file[name][()].reshape(self.shape[1:])
            except (KeyError, ValueError) as error:
                raise OSError(f"{name}: {error}") from error
        return result


def is_simex(file: h5py.File) -> bool:
    """Tell whether an HDF5 file is SimEx's or singfel's: groups of patterns with numbers, or links to them."""
    group: Any = file.get(DATA)
    if not isinstance(group, h5py.Group) or not files.holds(file, "params"):
        return False
    return any(name.isdecimal() for name in files.names_in(group))


def simex(file: h5py.File, path: Path, means: masks.Means, name: str | None) -> Facts:
    """Return what a file of SimEx or singfel says.

    name : `data`, photons, or `diffr`, the intensities they were drawn from; photons if it is not given
    Raises InputError if links of it lead nowhere, or patterns differ in shape or type.
    """
    if name not in (None, PHOTONS, INTENSITIES):
        raise InputError(f"{path}: --dataset {name}; expected {PHOTONS} (photons) or {INTENSITIES} (intensities)")
    numbers = sorted(
        (each for each in files.names_in(file[DATA]) if each.isdecimal()), key=lambda each: (int(each), each)
    )
    wanted = name or (PHOTONS if f"{DATA}/{numbers[0]}/{PHOTONS}" in file else INTENSITIES)
    names, size, dtype = [], (0, 0), np.dtype(np.uint32)
    for number in numbers:
        if not isinstance(file.get(f"{DATA}/{number}"), h5py.Group):
            why = link_of(file, f"{DATA}/{number}") or "not a group"
            raise InputError(f"{path}: group {f'{DATA}/{number}'!r}: {why}; expected a pattern, {wanted}")
        names.append(f"{DATA}/{number}/{wanted}")
        found = files.dataset(file, names[-1], path, "a pattern, shape (y, x)")
        if number == numbers[0] and found.ndim == 2 and 0 not in found.shape:
            size, dtype = (found.shape[0], found.shape[1]), found.dtype
        if found.shape != size or found.dtype != dtype:
            like = f"{dtype} {size if size[0] else '(y, x)'}"
            raise InputError(
                f"{path}: dataset {names[-1]!r}: {found.dtype} {found.shape}; expected {like}, as the first has"
            )
    if "params" not in file:
        raise InputError(f"{path}: group 'params': {link_of(file, 'params')}; expected photon energy and geometry")
    metadata = Metadata(file, path)
    energy = metadata.number([BEAM], ENERGIES)
    rows, columns = (metadata.number([f"{GEOM}/pixel{axis}"], PIXELS) for axis in ("Height", "Width"))
    return Facts(
        Stack(Singles(file, names, size, dtype), path, f"{len(names)} datasets {wanted!r}", EXPECTED),
        "SimEx",
        wavelength=None if energy is None else EV_ANGSTROM / energy,
        distance_m=metadata.number([f"{GEOM}/detectorDist"], DISTANCES),
        pixel_m=None if rows is None or columns is None else (rows, columns),
        # Its detectors are centred.
        centre=((size[0] - 1) / 2, (size[1] - 1) / 2),
        levels=_levels(metadata, f"{GEOM}/mask", size, means),
        remarks=tuple(metadata.remarks),
    )


def truth(file: h5py.File) -> str:
    """Return what a file of SimEx knows of the truth, in words; nothing if it does not."""
    first = next(name for name in files.names_in(file[DATA]) if name.isdecimal())
    return "orientations" if f"{DATA}/{first}/{ANGLE}" in file else ""


def is_image(file: h5py.File) -> bool:
    """Tell whether an HDF5 file is libspimage's, which holds one image."""
    return all(name in file for name in IMAGE)


def image(file: h5py.File, path: Path, means: masks.Means) -> Facts:
    """Return what a file of libspimage says of its one pattern; InputError if it is no pattern of a detector."""
    found = files.dataset(file, REAL, path, "a pattern, shape (y, x, 1)")
    size = found.shape[:2]
    if found.ndim not in (2, 3) or found.size != size[0] * size[-1] or 0 in found.shape:
        raise InputError(f"{path}: dataset {REAL!r}: shape {found.shape}; expected a pattern, shape (y, x, 1)")
    for name, what in FLAGS.items():
        flag: Any = file.get(name)
        if isinstance(flag, h5py.Dataset) and flag.size and flag.dtype.kind in "iuf" and flag[()].ravel()[0]:
            raise InputError(f"{path}: {name}: {what}; expected intensities of a detector; write these")
    metadata = Metadata(file, path)
    pixel = metadata.number(["pixel_size"], PIXELS)
    metres = metadata.number(["lambda"], WAVELENGTHS)
    centre: Any = file["image_center"]
    values = centre[()].astype(np.float64).ravel() if getattr(centre, "dtype", np.dtype("O")).kind in "iuf" else []
    inside = len(values) >= 2 and all(0 < value < length for value, length in zip(values, size[::-1], strict=False))
    return Facts(
        Stack(Singles(file, [REAL], (size[0], size[1]), found.dtype), path, f"dataset {REAL!r}", EXPECTED),
        ONE,
        wavelength=None if metres is None else metres * 1e10,
        distance_m=metadata.number(["detector_distance"], DISTANCES),
        pixel_m=None if pixel is None else (pixel, pixel),
        centre=(float(values[1]), float(values[0])) if inside else None,
        levels=_levels(metadata, "mask", (size[0], size[1]), means),
        remarks=tuple(metadata.remarks),
    )


def _levels(metadata: Metadata, name: str, size: tuple[int, int], means: masks.Means) -> UInt8 | None:
    """Return levels (1, y, x) of a mask, None if there is none; 1 is good unless the setting says otherwise."""
    if not isinstance(metadata.file.get(name), h5py.Dataset):
        return None
    found = files.dataset(metadata.file, name, metadata.path, "a mask, 1 for good pixels", kinds="iufb")
    where = f"{metadata.path}: dataset {name!r}"
    values = found[()].reshape(1, *size) if found.shape == (*size, 1) else of_panels(found, (1, *size))
    if values is None:
        raise InputError(f"{where}: shape {found.shape}; expected {size}, as the patterns have")
    return masks.levels_of(values, "good" if means == "auto" else means, where)
