"""`spilegate evaluate`: a reconstruction against the truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spilegate.errors import InputError
from spilegate.formats import maps, results, spinifel
from spilegate.kernels.launch import available_cores
from spilegate.report.console import Output
from spilegate.report.files import SUMMARY, write_curve
from spilegate.state import Float32, Float64

MAPS = (".mrc", ".map", ".ccp4")
MODELS = (".pdb", ".ent", ".cif", ".mmcif", ".pdb.gz", ".ent.gz", ".cif.gz")
PATTERNS = (".h5", ".hdf5")

# The part `evaluation` of the summary before anything is known.
NOT_EVALUATED: dict[str, Any] = {
    "reference": None,
    "resolution_angstrom": None,
    "threshold": 0.5,
    "correlation": None,
    "hand": None,
    "orientation_reference": None,
    "orientation_error_deg": None,
}


@dataclass(frozen=True)
class Reference:
    """The truth: a density with its voxel, the orientations of the patterns, or both; None where not known."""

    density: Float32 | None
    voxel_angstrom: float
    quaternions: Float64 | None


def run(folder: Path, reference: Path, *, threads: int | None, quiet: bool, log: Path | None) -> None:
    """Compare the density and orientations of an output folder with a reference; add `evaluation` to its summary."""
    with Output(quiet=quiet, log=log, folder=folder) as out:
        from spilegate.evaluation.comparison import compare
        from spilegate.evaluation.orientations import orientation_error
        from spilegate.report.pictures import draw_fsc

        workers = threads or available_cores()
        if not folder.is_dir():
            raise InputError(f"{folder}: not a folder; expected one written by spilegate reconstruct")
        summary = results.read_summary(folder / SUMMARY)
        density, voxel = maps.read_map(folder / "density.mrc")
        truth = load_reference(reference, len(density), voxel, threads=workers)
        quaternions = _quaternions(folder, truth)
        measured: dict[str, Any] = {}
        if quaternions is not None and truth.quaternions is not None:
            symmetry = summary.get("settings", {}).get("symmetry", "C1")
            error = orientation_error(quaternions, truth.quaternions, symmetry=symmetry)
            measured["orientation_reference"] = str(reference)
            measured["orientation_error_deg"] = error.figures()
        if truth.density is not None:
            comparison, curve = compare(
                density,
                voxel,
                truth.density,
                truth.voxel_angstrom,
                q_max=float(summary["q_max_inverse_angstrom"]),
                threads=workers,
            )
            measured["reference"] = str(reference)
            measured["resolution_angstrom"] = comparison.resolution_angstrom
            measured["correlation"] = comparison.correlation
            measured["hand"] = comparison.hand
            write_curve(folder, "reference", curve.q, curve.correlation)
        # What this reference says nothing about stays as another one has told it.
        summary["evaluation"] = {**NOT_EVALUATED, **(summary.get("evaluation") or {}), **measured}
        results.write_summary(folder / SUMMARY, summary)
        out.line(_closing({**NOT_EVALUATED, **measured}), "bold green")
        if truth.density is not None:
            out.line(f"picture in {draw_fsc(folder)}")


def load_reference(path: Path, size: int, voxel_angstrom: float, *, threads: int) -> Reference:
    """Read a reference: a map as it is, atoms drawn on the reconstruction's grid, or the truth beside patterns."""
    name = path.name.lower()
    if not path.is_file():
        raise InputError(f"--reference {path}: not found; expected a file: {', '.join((*MAPS, *MODELS, *PATTERNS))}")
    if name.endswith(MAPS):
        density, voxel = maps.read_map(path)
        return Reference(density, voxel, None)
    if name.endswith(MODELS):
        from spilegate.simulation import particle

        return Reference(
            particle.density(particle.read_particle(path), size, voxel_angstrom, threads=threads), voxel_angstrom, None
        )
    if name.endswith(PATTERNS):
        truth = spinifel.read_truth(path)
        if truth.volume is None or truth.voxel_angstrom is None:
            if truth.quaternions is None:
                raise InputError(
                    f"--reference {path}: no dataset 'orientations', nor 'volume' with 'voxel_angstrom'; expected "
                    "patterns with their truth; give a map or atoms"
                )
            return Reference(None, voxel_angstrom, truth.quaternions)
        return Reference(truth.volume, truth.voxel_angstrom, truth.quaternions)
    raise InputError(
        f"--reference {path}: unknown kind of file; expected one that ends in {', '.join((*MAPS, *MODELS, *PATTERNS))}"
    )


def _quaternions(folder: Path, truth: Reference) -> Float64 | None:
    """Return the reconstructed orientations if the truth has as many."""
    if truth.quaternions is None:
        return None
    quaternions = np.asarray(results.read_orientations(folder / "orientations.h5"))
    if len(quaternions) != len(truth.quaternions):
        raise InputError(
            f"--reference: {len(truth.quaternions)} orientations; expected {len(quaternions)}, as in {folder}; "
            "give the file that was reconstructed"
        )
    return quaternions


def _closing(evaluation: dict[str, Any]) -> str:
    """Return the figures in one line."""
    resolution = evaluation["resolution_angstrom"]
    error = evaluation["orientation_error_deg"]
    parts = []
    if evaluation["correlation"] is not None:
        parts = [
            f"correlation {evaluation['correlation']:.4f}",
            f"resolution {'none' if resolution is None else f'{resolution:.2f} Å'} (FSC 0.5)",
            f"hand {evaluation['hand']}",
        ]
    if error is not None:
        parts.append(f"orientation error {error['median']:.2f} degrees (median)")
    return ", ".join(parts)
