"""`spilegate evaluate`: a reconstruction against the truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spilegate.errors import InputError
from spilegate.formats import maps, results, spinifel
from spilegate.formats import summary as summaries
from spilegate.formats.locks import Lock
from spilegate.kernels.launch import available_cores
from spilegate.records import Float32, Float64, Int64
from spilegate.report.console import Output
from spilegate.report.files import SUMMARY, write_curve

if TYPE_CHECKING:
    from spilegate.evaluation.states import Match

MAPS = (".mrc", ".map", ".ccp4")
MODELS = (".pdb", ".ent", ".cif", ".mmcif", ".pdb.gz", ".ent.gz", ".cif.gz")
PATTERNS = (".h5", ".hdf5")

# Where so many patterns are off by half a turn about the beam, and else by less than that [degrees], they do not tell.
HALF_TURNED, TOLD = 0.1, 30.0

# The part `evaluation` of the summary before anything is known.
NOT_EVALUATED: dict[str, Any] = {
    "reference": None,
    "resolution_angstrom": None,
    "threshold": 0.5,
    "correlation": None,
    "hand": None,
    "orientation_reference": None,
    "orientation_error_deg": None,
    "states": None,
    "state_accuracy": None,
    "junk_found": None,
    "good_lost": None,
    "size_error": None,
    "centre_error_pixels": None,
}


@dataclass(frozen=True)
class Reference:
    """The truth: densities of one or more states with their voxel, what is known of the patterns, or both.

    densities : one (M, M, M) per state, none where not known
    quaternions : (N_IMG, 4) orientations; state : (N_IMG,) state of every pattern, -1 for junk; None where not known
    size : (N_IMG,), centre : (N_IMG, 2), how patterns see the particle, see `formats.truth.Truth`; None where not known
    pixel : width of a pixel [1/angstrom]
    notes : what was not taken as it is in the file
    """

    densities: list[Float32]
    voxel_angstrom: float
    quaternions: Float64 | None = None
    state: Int64 | None = None
    size: Float64 | None = None
    centre: Float64 | None = None
    pixel: float = 1.0
    notes: tuple[str, ...] = ()


def run(
    folder: Path, reference: Path, *, assembly: str | None, threads: int | None, quiet: bool, log: Path | None
) -> None:
    """Compare the density and orientations of an output folder with a reference; add `evaluation` to its summary."""
    with Output(quiet=quiet, log=log, folder=folder) as out, Lock(folder, str(folder)) as lock:
        from spilegate.evaluation.states import match_states
        from spilegate.report.pictures import draw_fsc

        workers = threads or available_cores()
        if not folder.is_dir():
            raise InputError(f"{folder}: not a folder; expected one written by spilegate reconstruct")
        lock.take()
        if lock.missing:
            out.line(lock.missing)
        known, summary = summaries.read(folder / SUMMARY)
        densities, voxel = results.read_densities(folder)
        truth = load_reference(reference, len(densities[0]), voxel, assembly=assembly, threads=workers)
        for note in truth.notes:
            out.line(note, "yellow")
        measured = _of_patterns(folder / "orientations.h5", truth, reference, known.settings.symmetry)
        if truth.densities:
            q_max = known.q_max_inverse_angstrom
            matches = match_states(
                densities, voxel, truth.densities, truth.voxel_angstrom, q_max=q_max, threads=workers
            )
            first = matches[0].comparison
            measured["reference"] = str(reference)
            measured["resolution_angstrom"] = first.resolution_angstrom
            measured["correlation"] = first.correlation
            measured["hand"] = first.hand
            if len(densities) > 1 or len(truth.densities) > 1:
                measured["states"] = [_state_figures(match) for match in matches]
            for state, match in enumerate(matches):
                write_curve(folder, "reference", match.curve.q, match.curve.correlation, state)
        # What this reference says nothing about stays as another one has told it.
        summary["evaluation"] = {**NOT_EVALUATED, **(known.evaluation or {}), **measured}
        results.write_summary(folder / SUMMARY, summary)
        out.line(_closing({**NOT_EVALUATED, **measured}), "bold green")
        if truth.densities:
            out.line(f"picture in {', '.join(map(str, draw_fsc(folder)))}")


def _state_figures(match: Match) -> dict[str, Any]:
    """Return what `summary.json` says of a reconstructed state."""
    return {
        "correlation": match.comparison.correlation,
        "resolution_angstrom": match.comparison.resolution_angstrom,
        "true_state": match.true_state,
    }


def _of_patterns(path: Path, truth: Reference, reference: Path, symmetry: str) -> dict[str, Any]:
    """Return the figures of orientations, states and junk, as far as truth and results have them.

    path : the orientations found; raises InputError if they are of other patterns than the truth
    """
    from spilegate.evaluation.states import orientation_figures, rejection, seen_figures, state_accuracy

    figures: dict[str, Any] = {}
    known = truth.quaternions if truth.quaternions is not None else truth.state
    if known is None:
        return figures
    quaternions = np.asarray(results.read_orientations(path))
    if len(quaternions) != len(known):
        raise InputError(
            f"--reference: {len(known)} orientations; expected {len(quaternions)}, as in {path.parent}; "
            "give the file that was reconstructed"
        )
    found, kept = results.read_assignments(path)
    true = np.zeros(len(known), np.int64) if truth.state is None else truth.state
    good = true >= 0
    if truth.quaternions is not None and good.any():
        figures["orientation_reference"] = str(reference)
        figures["orientation_error_deg"] = orientation_figures(
            quaternions[good], truth.quaternions[good], found[good], symmetry=symmetry
        )
    if truth.state is not None and good.any() and (found.max() > 0 or true.max() > 0):
        figures["state_accuracy"] = state_accuracy(found[good], true[good])
    seen = results.read_seen(path)
    if seen is not None and good.any():
        size, centre = (None if each is None else each[good] for each in (truth.size, truth.centre))
        figures |= seen_figures(seen[0][good], seen[1][good], size, centre, truth.pixel)
    if truth.state is not None and kept is not None:
        figures["junk_found"], figures["good_lost"] = rejection(kept, ~good)
    return figures


def load_reference(
    path: Path, size: int, voxel_angstrom: float, *, assembly: str | None = None, threads: int
) -> Reference:
    """Read a reference: a map as it is, atoms drawn on the reconstruction's grid, or the truth beside patterns."""
    name = path.name.lower()
    if assembly is not None and not name.endswith(MODELS):
        raise InputError(f"--assembly: found with {path}; expected a file of atoms, {', '.join(MODELS)}; leave it out")
    if not path.is_file():
        raise InputError(f"--reference {path}: not found; expected a file: {', '.join((*MAPS, *MODELS, *PATTERNS))}")
    if name.endswith(MAPS):
        from spilegate.evaluation.comparison import as_reference

        density, voxel = maps.read_map(path)
        density, said = as_reference(density, (size | 1) * voxel_angstrom / voxel)
        return Reference([density], voxel, notes=tuple(f"{path}: {note}" for note in said))
    if name.endswith(MODELS):
        from spilegate.simulation import particle

        atoms = particle.read_particle(path, assembly)
        density = particle.density(atoms, size, voxel_angstrom, threads=threads)
        return Reference([density], voxel_angstrom, notes=atoms.notes)
    if name.endswith(PATTERNS):
        return _beside_patterns(path, voxel_angstrom)
    raise InputError(
        f"--reference {path}: unknown kind of file; expected one that ends in {', '.join((*MAPS, *MODELS, *PATTERNS))}"
    )


def _beside_patterns(path: Path, voxel_angstrom: float) -> Reference:
    """Return the truth in a file of patterns; voxel_angstrom stands in where it holds no density."""
    truth = spinifel.read_truth(path)
    densities = list(truth.volumes) if truth.volumes is not None else []
    if not densities and truth.volume is not None:
        densities = [truth.volume]
    if truth.voxel_angstrom is not None and densities:
        pixel = 1.0 if truth.centre is None else spinifel.pixel_width(path)
        return Reference(
            densities, truth.voxel_angstrom, truth.quaternions, truth.state, truth.size, truth.centre, pixel
        )
    if truth.quaternions is None:
        raise InputError(
            f"--reference {path}: no dataset 'orientations', nor 'volume' with 'voxel_angstrom'; expected "
            "patterns with their truth; give a map or atoms"
        )
    return Reference([], voxel_angstrom, truth.quaternions, truth.state)


def _orientations(error: dict[str, float]) -> str:
    """Return the error of orientations in words, as far as patterns can tell these."""
    # Of patterns that are oriented at random some lie near after half a turn, too: that is nothing to excuse.
    if error.get("half_turned", 0) < HALF_TURNED or error["median_up_to_half_turn"] > TOLD:
        return f"orientation error {error['median']:.2f} degrees (median)"
    return (
        f"orientation error {error['median_up_to_half_turn']:.2f} degrees (median) up to half a turn about the beam, "
        f"which these patterns do not tell: {error['half_turned']:.0%} of them are turned"
    )


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
        parts.append(_orientations(error))
    if evaluation["states"] is not None:
        each = ", ".join(
            f"{state['correlation']:.4f} (true state {state['true_state']})" for state in evaluation["states"]
        )
        parts.append(f"correlations of the states {each}")
    parts += [
        f"{what} {evaluation[name]:.1%}"
        for name, what in (
            ("state_accuracy", "patterns in the right state"),
            ("junk_found", "junk found"),
            ("good_lost", "good patterns lost"),
        )
        if evaluation[name] is not None
    ]
    if evaluation["size_error"] is not None:
        size = evaluation["size_error"]
        parts.append(f"sizes {size['rms']:.1%} off (they differ by {size['spread']:.1%})")
    if evaluation["centre_error_pixels"] is not None:
        parts.append(f"beam centres {evaluation['centre_error_pixels']:.3f} pixels off")
    return ", ".join(parts)
