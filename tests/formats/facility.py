"""Runs of European XFEL as EXtra-data's mock files lay them out, with photons in them, and their virtual CXI."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import extra_geom
import h5py
import numpy as np
from extra_data import RunDirectory
from extra_data.components import AGIPD1M, JUNGFRAU
from extra_data.tests.mockdata import write_file
from extra_data.tests.mockdata.detectors import AGIPDModule
from extra_data.tests.mockdata.jungfrau import JUNGFRAUModule

MODULES, SIZE = 16, (512, 128)
DISTANCE, ENERGY = 0.7, 6000.0
PLACED: dict[str, Any] = {"distance_m": DISTANCE, "photon_energy_ev": ENERGY}


def photons(trains: Sequence[int], module: int) -> np.ndarray:
    """Return frames of a module, float32; trains : how many frames each has."""
    return tiled(np.random.default_rng(module), 0.05 + 0.02 * module, (sum(trains), *SIZE))


def tiled(rng: np.random.Generator, mean: float, shape: tuple[int, ...]) -> np.ndarray:
    """Return photons, float32, whose rows are alike from 32 to 32 of them: drawn, and compressed, sooner."""
    few = rng.poisson(mean, (*shape[:-2], 32, shape[-1])).astype(np.float32)
    return np.concatenate([few] * (shape[-2] // 32), axis=-2)


def fill(path: Path, values: dict[str, np.ndarray]) -> None:
    """Write values into datasets of a file's one source, in place of those that were never written."""
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file["INSTRUMENT"].visit(lambda name: names.append(name) if name.count("/") == 3 else None)
        source = next(name.rpartition("/")[0] for name in names if name.endswith(("/image", "/data")))
        for name, array in values.items():
            place = f"INSTRUMENT/{source}/{name}"
            del file[place]
            file.create_dataset(place, data=array, chunks=(1, *array.shape[1:]), compression="lzf")


def agipd_run(
    folder: Path, trains: Sequence[int] = (3, 3), lacking: dict[int, Sequence[int]] | None = None,
    modules: Sequence[int] = range(MODULES), raw: bool = False, dtype: str = "f4",
    detector: str = "SPB_DET_AGIPD1M-1",
) -> Path:  # fmt: skip
    """Write a run of AGIPD 1M. trains : frames of each; lacking : of some modules other such numbers."""
    folder.mkdir()
    for module in modules:
        counts = (lacking or {}).get(module, trains)
        path = folder / f"{'RAW' if raw else 'CORR'}-R0001-AGIPD{module:02}-S00000.h5"
        part = "DET" if raw else "CORR"
        device = AGIPDModule(
            f"{detector}/{part}/{module}CH0", frames_per_train=np.array(counts, np.uint64), raw=raw,
            channel_name="xtdf" if raw else "output",
        )  # fmt: skip
        write_file(path, [device], ntrains=len(counts), chunksize=len(counts), format_version="1.2")
        if raw:
            fill(path, {"image/data": np.zeros((int(sum(counts)), 2, *SIZE), np.uint16)})
        else:
            # Those that a module lacks are not the last ones only.
            frames = photons(trains, module)
            kept = np.concatenate([np.arange(all_of) < of_it for all_of, of_it in zip(trains, counts, strict=True)])
            mask = np.zeros((int(sum(counts)), *SIZE), np.uint32)
            mask[:, 0, :2] = 1 << 3, 1 << 20
            fill(path, {"image/data": frames[kept].astype(dtype), "image/mask": mask})
    return folder


def jungfrau_run(folder: Path, trains: int = 1) -> Path:
    """Write a run of a JUNGFRAU of two modules, 16 memory cells a train."""
    folder.mkdir()
    for module in (1, 2):
        path = folder / f"CORR-R0001-JNGFR{module:02}-S00000.h5"
        device = JUNGFRAUModule(f"FXE_XAD_JF1M/DET/JNGFR{module:02}")
        write_file(path, [device], ntrains=trains, chunksize=1, format_version="1.0")
        frames = tiled(np.random.default_rng(module), 0.1, (trains, 16, 512, 1024))
        fill(path, {"data/adc": frames, "data/mask": np.zeros(frames.shape, np.uint32)})
    return folder


def virtual_cxi(run: Path, path: Path, detector: type = AGIPD1M, **options: Any) -> Path:
    """Return the virtual CXI that EXtra-data makes of a run."""
    with contextlib.redirect_stdout(io.StringIO()):
        detector(RunDirectory(run), **options).write_virtual_cxi(str(path))
    return path


def virtual_cxi_of_jungfrau(run: Path, path: Path) -> Path:
    """Return the virtual CXI that EXtra-data makes of a run of JUNGFRAU."""
    return virtual_cxi(run, path, JUNGFRAU)


def geometry(path: Path, clen: float | None = None) -> tuple[Path, np.ndarray]:
    """Write a geometry of AGIPD 1M; return it and the positions of its pixels [m], less the distance."""
    quadrants = [(-525, 625), (-550, -10), (520, -160), (542.5, 475)]
    detector = extra_geom.AGIPD_1MGeometry.from_quad_positions(quadrants)
    detector.write_crystfel_geom(str(path), dims=("frame", "modno", "ss", "fs"), clen=clen)
    return path, detector.get_pixel_positions(centre=True)
