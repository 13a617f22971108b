"""The pictures of a reconstruction in memory; those of a folder are drawn by `report.pictures`, with the same code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from spilegate.errors import InputError
from spilegate.report import curves, maps, patterns
from spilegate.report.style import drawing

if TYPE_CHECKING:
    from spilegate.front.result import Reconstruction


def figure(result: Reconstruction, name: str) -> Figure:
    """Return one of `result.FIGURES`; raises InputError if there is nothing to draw."""
    state, q_last = result.state, result.q_max_inverse_angstrom
    with drawing():
        if name == "density":
            return maps.density_figure(result.density, result.voxel_angstrom, "Density")
        if name == "intensity":
            q_first = float(result.summary["q_min_inverse_angstrom"])
            volume = state.autocorrelation[0]
            return maps.intensity_figure(volume, result.voxel_angstrom, q_first, q_last, "Merged intensity")
        if name == "orientations":
            return patterns.orientations_figure(result.orientations, "Orientations")
        if name == "convergence":
            return curves.convergence_figure(result.records, "Convergence")
        if not result.curves:
            raise InputError("figure 'fsc': no curve was measured; expected half-sets or phasings; see the settings")
        return curves.fsc_figure(result.curves, q_last, "Fourier shell correlation")
