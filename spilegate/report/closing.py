"""What a reconstruction came to, in a few rows, as the end of a run shows it."""

from __future__ import annotations

from typing import Any


def rows(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """Return name and value of what a summary says, the most telling first."""
    merits, told = summary["figures_of_merit"], summary["resolution"]
    resolution = told["resolution_angstrom"]
    left, kind = summary["left_out"], "estimated" if summary["diameter_estimated"] else "given"
    found = [
        ("resolution", "none stated" if resolution is None else f"{resolution:.3g} Å"),
        *_evidence(told),
        ("patterns", f"{summary['input']['patterns']}, {sum(left.values())} of them left out"),
        ("diameter", f"{summary['diameter_angstrom']:.1f} Å ({kind})"),
        ("voxel", f"{summary['voxel_angstrom']:.2f} Å, {summary['size']} along an edge"),
        ("generations", f"{summary['generations']}{'' if summary['converged'] else ', not converged'}"),
    ]
    if not summary["converged"]:
        found.append(("", str(summary["convergence"])))
    figures = [
        f"{label} {merits[name]:.3g}"
        for name, label in (("mean_distance", "distance"), ("moved", "moved"), ("phasing_r", "R"))
        if name in merits
    ]
    if figures:
        found.append(("figures", ", ".join(figures)))
    background = summary["background"]
    if background["fraction"]:
        found.append(("background", f"{background['fraction']:.1%} of the counts ({background['source']})"))
    differ = summary["differ"]
    if differ["size"]:
        found.append(("sizes", f"differ by {differ['size']:.1%} (standard deviation)"))
    if differ["centre_pixels"]:
        found.append(("beam", f"moves by {differ['centre_pixels']:.2f} pixels (standard deviation)"))
    found.append(("time, memory", f"{summary['seconds']['total']:.1f} s, {summary['peak_memory_mib']:.0f} MiB"))
    return found


def _evidence(told: dict[str, Any]) -> list[tuple[str, str]]:
    """Return how far each kind of evidence goes, of those that were measured."""
    found = []
    for name, label in (("half_set", "half-set FSC 0.143"), ("held_out", "held-out patterns"), ("prtf", "PRTF 1/e")):
        measured = told[name] is not None and (name != "held_out" or told["half_set"] is not None)
        if measured:
            value = told[name]["resolution_angstrom"]
            found.append((f"  {label}", "nowhere" if value is None else f"to {value:.3g} Å"))
    return found
