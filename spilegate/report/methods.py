"""What a paper has to say of a run, `methods.md`: sentences, a table and references, each of them true of that run.

All of it is made from what `summary.json` holds, so that it can be checked against it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spilegate.formats import files
from spilegate.report.terminal import printable
from spilegate.settings import Settings

METHODS = "methods.md"
SOURCES = {
    "mtip": "J. J. Donatelli, J. A. Sethian, P. H. Zwart, Proc. Natl. Acad. Sci. USA 114:7222 (2017)",
    "spinifel": "H.-Y. Chang, E. Slaughter, S. Mirchandaney, J. Donatelli, C. H. Yoon, Scaling and acceleration of "
    "three-dimensional structure determination for single-particle imaging experiments with SpiniFEL (2021)",
    "emc": "N.-T. D. Loh, V. Elser, Phys. Rev. E 80:026705 (2009)",
    "raar": "D. R. Luke, Inverse Problems 21:37 (2005)",
    "hio": "J. R. Fienup, Appl. Opt. 21:2758 (1982)",
    "shrinkwrap": "S. Marchesini et al., Phys. Rev. B 68:140101 (2003)",
    "fsc": "M. van Heel, Ultramicroscopy 21:95 (1987)",
    "half": "P. B. Rosenthal, R. Henderson, J. Mol. Biol. 333:721 (2003)",
    "outlines": "S. Chen et al., Ultramicroscopy 135:24 (2013)",
    "prtf": "H. N. Chapman et al., J. Opt. Soc. Am. A 23:1179 (2006)",
}
STATISTICS = {"gaussian": "squared distances", "poisson": "photon statistics"}
# Longer settings, lists of patterns, are cut in the table.
MOST_LETTERS = 60

Summary = Mapping[str, Any]


class References:
    """Sources, numbered in the order in which they are first cited."""

    def __init__(self) -> None:
        self._cited: list[str] = []

    def cite(self, *names: str) -> str:
        """Return the numbers of some of SOURCES, as "[1, 2]"."""
        self._cited += [name for name in names if name not in self._cited]
        return f"[{', '.join(str(self._cited.index(name) + 1) for name in names)}]"

    def lines(self) -> list[str]:
        """Return the list of all that were cited."""
        return [f"{number}. {SOURCES[name]}" for number, name in enumerate(self._cited, 1)]


def write_methods(folder: Path, summary: Summary) -> None:
    """Write `methods.md` into an output folder. Raises InputError if that cannot be."""
    files.replace(folder / METHODS, methods(summary).encode(errors="backslashreplace"))


def methods(summary: Summary) -> str:
    """Return the text for a summary as `report.summary` makes it."""
    references = References()
    paragraphs = [
        _data(summary), _reconstruction(summary, references), _resolution(summary, references), _files(summary)
    ]  # fmt: skip
    lines = ["# Methods", *(line for text in paragraphs for line in ("", text))]
    lines += ["", "| quantity | value |", "|---|---|"]
    lines += [f"| {name} | {_cell(value)} |" for name, value in _table(summary).items()]
    lines += ["", "## References", "", *references.lines()]
    return "\n".join(lines) + "\n"


def _data(summary: Summary) -> str:
    """Return what was measured and what was used of it."""
    given, prepare, left = summary["input"], summary["settings"]["prepare"], summary["left_out"]
    photons, binning = given["photons_per_pattern"], prepare["binning"]
    counted = "" if photons is None else f" of {_photons(photons)} photons on average on the pixels used"
    said = [
        f"{given['patterns']} diffraction patterns{counted} were read from {_name(summary)} ({given['taken_for']})."
    ]
    if left["before"]:
        said.append(f"{_were(left['before'])} left out before orientations were sought.")
    if left["since"]:
        said.append(f"{_were(left['since'])} left out since they fit no orientation of the model.")
    binned = f", {binning} x {binning} pixels summed into one," if binning > 1 else ""
    said.append(
        f"The detector{binned} has {_detector(summary)}; its pixels lie on the Ewald sphere of a wavelength of "
        f"{given['wavelength_angstrom']:.4g} Å, and were used from q = {summary['q_min_inverse_angstrom']:.4g} to "
        f"{summary['q_max_inverse_angstrom']:.4g} 1/Å (q = 1/d), to a resolution of "
        f"{1 / summary['q_max_inverse_angstrom']:.3g} Å at the edge."
    )
    if prepare["polarisation"] != "none":
        said.append(f"What pixels see of a beam that is polarised {prepare['polarisation']}ly was taken into account.")
    if prepare["solid_angle"]:
        said.append("The solid angles of the pixels were taken into account.")
    hot, background = summary["hot_pixels"], summary["background"]
    if hot["in_all_patterns"]:
        said.append(f"{hot['in_all_patterns']} pixels that are hot in all patterns, or in many, were left out.")
    if hot["in_single_patterns"]:
        values = f"{hot['in_single_patterns']} values of single patterns, hot or missing,"
        said.append(f"{values} were replaced by what is expected there.")
    if background["source"] == "none":
        said.append("No background was taken off.")
    else:
        origin = {"file": "as given with the data", "estimated": "found from how patterns differ in brightness"}
        amplitude = ""
        if summary["differ"]["background"]:
            origin["estimated"] = "found from what of the mean pattern is no function of |q|"
            amplitude = (
                f", with an amplitude of its own in every pattern ({summary['differ']['background']:.0%} apart),"
            )
        said.append(
            f"A background common to all patterns, {origin[background['source']]}{amplitude or ','} makes "
            f"{background['fraction']:.1%} of the counts of the mean pattern."
        )
    if summary["differ"]["size"]:
        said.append(
            f"The particle's size differs between patterns, by {summary['differ']['size']:.1%} (standard deviation of "
            "its logarithm); every pattern's was refined with its orientation."
        )
    if summary["differ"]["centre_pixels"]:
        said.append(
            f"The beam's place differs between patterns, by {summary['differ']['centre_pixels']:.2f} pixels (standard "
            "deviation, each axis); every pattern's was refined with its orientation."
        )
    if remarks := [*given["remarks"], *summary["notes"]]:
        said.append(f"Remarks of the program on these data: {printable('; '.join(remarks))}.")
    return " ".join(said)


def _reconstruction(summary: Summary, references: References) -> str:
    """Return how the density was found."""
    settings, merits, states = summary["settings"], summary["figures_of_merit"], len(summary["populations"])
    method, compared = settings["phasing"]["method"], STATISTICS[summary["statistics"]]
    found = "estimated from the patterns" if summary["diameter_estimated"] else "given"
    said = [
        f"The electron density was reconstructed with spilegate {summary['version']} by multi-tiered iterative phasing "
        f"(M-TIP) {references.cite('mtip', 'spinifel')}, blind: no orientation, density or model was given. The "
        f"largest diameter of the particle, {summary['diameter_angstrom']:.4g} Å, was {found}. The first generation "
        f"found orientations by annealed soft assignment from random ones. In each of the "
        f"{summary['generations'] - 1} generations after it"
    ]
    if summary["assignment"] == "soft":
        probable = f"each by its probability {references.cite('emc')} from {compared}"
        said.append(f"patterns were assigned to all orientations at once, {probable},")
    else:
        said.append(f"patterns were matched to slices of the model by {compared},")
        if settings["matching"]["refine_iterations"]:
            said.append("orientations were refined,")
    said.append(
        "and patterns were merged into an autocorrelation, which was phased by error reduction and "
        f"{method.upper()} {references.cite(method)} with positivity and a shrink-wrap support "
        f"{references.cite('shrinkwrap')}."
    )
    if states > 1:
        said.append(f"Patterns were sorted into {states} states, each with a density of its own.")
    if settings["symmetry"] == "C1":
        said.append("No symmetry was imposed but Friedel's law.")
    else:
        imposed = "was imposed on the merged intensity, not on the density that was phased from it."
        said.append(f"The point group {settings['symmetry']} {imposed}")
    if "phasings" in merits and "phasing_r" in merits:
        said.append(
            f"The last generation made {merits['phasings']:.0f} phasings{' of each state' if states > 1 else ''}, the "
            f"best of which has an R factor of {merits['phasing_r']:.3g}{' or less' if states > 1 else ''}."
        )
    ended = "the last changed nothing that counts" if summary["converged"] else "the run had not converged"
    said.append(f"After {summary['generations']} generations {ended}: {summary['convergence']}.")
    return " ".join(said)


def _resolution(summary: Summary, references: References) -> str:
    """Return how far the density can be trusted, and what that rests on."""
    found = summary["resolution"]
    half_set, prtf = found["half_set"], found["prtf"]
    said = [f"The run's own verdict: {found['verdict']}"]
    if half_set:
        first, second = half_set["patterns"]
        said.append(
            f"The {first} even and the {second} odd patterns were reconstructed as well, each from its own blind "
            "start; of all patterns these runs knew what was found before the first generation, such as the diameter, "
            "how far out their start went and how well it explained them, and nothing of their model. The densities "
            f"were aligned, and their Fourier shell correlation {references.cite('fsc')} was held against "
            f"{half_set['threshold']:g} {references.cite('half')} once what their supports contribute was taken off "
            f"(after {references.cite('outlines')}). Patterns count as foreseen where the model of either half agrees "
            "with the other half's patterns, oriented by their inner part, by "
            f"{found['held_out']['threshold_deviations']:g} standard deviations."
        )
    if prtf:
        said.append(
            f"The phase retrieval transfer function {references.cite('prtf')}, of {prtf['phasings']} phasings from "
            "random densities, was held against 1/e."
        )
    said.append("No B factor was applied, and no mask but the support that phasing found.")
    return " ".join(said)


def _files(summary: Summary) -> str:
    """Return which files to deposit."""
    found = summary["resolution"]
    names = ["the density `density.mrc`", "the mask `support.mrc`"]
    if found["half_set"]:
        # A state that one of the halves lacks has no half-maps.
        if any(shell["half_set_fsc_plain"] for shell in found["shells"]):
            names.append("the half-maps `half_1.mrc` and `half_2.mrc`, each as it was phased inside its own support")
        names.append("their FSC `fsc_half_set.xml`")
    names.append("the orientations `orientations.star`")
    several = "; of further states the files that have their number" if len(summary["populations"]) > 1 else ""
    return f"For deposition: {', '.join(names)}{several}."


def _table(summary: Summary) -> dict[str, str]:
    """Return the rows of the table: quantity to value."""
    given, left = summary["input"], summary["left_out"]
    photons, merits = given["photons_per_pattern"], summary["figures_of_merit"]
    found = "estimated" if summary["diameter_estimated"] else "given"
    rows = {
        "file of the patterns": f"{_name(summary)}, SHA-256 {given['digest'][:16]}...",
        "patterns": f"{given['patterns']}",
        "patterns used": f"{given['patterns'] - len(summary['outliers'])}",
        "left out before orientations were sought": f"{left['before']}",
        "left out since, fitting no orientation": f"{left['since']}",
        "photons per pattern": "not counts" if photons is None else _photons(photons),
        "wavelength": f"{given['wavelength_angstrom']:.5g} Å",
        "detector": _detector(summary),
        "q (1/d)": f"{summary['q_min_inverse_angstrom']:.4g} to {summary['q_max_inverse_angstrom']:.4g} 1/Å",
        "resolution at the edge": f"{1 / summary['q_max_inverse_angstrom']:.3g} Å",
        "largest diameter": f"{summary['diameter_angstrom']:.4g} Å, {found}",
        "symmetry imposed": summary["settings"]["symmetry"],
        "voxels": f"{summary['size']} along an edge, of {summary['voxel_angstrom']:.4g} Å",
        "generations": f"{summary['generations']}, {'' if summary['converged'] else 'not '}converged",
    }
    for name, label in (("mean_distance", "mean distance of patterns to slices"), ("phasing_r", "R factor of phasing")):
        if name in merits:
            rows[label] = f"{merits[name]:.3g}"
    states = [summary["resolution"], *summary["resolution"]["other_states"]]
    for k, state in enumerate(states):
        of = f" of state {k}" if len(states) > 1 else ""
        if len(states) > 1:
            rows[f"part of the patterns{of}"] = f"{summary['populations'][k]:.1%}"
        if state["half_set"]:
            rows[f"half-set FSC {state['half_set']['threshold']:g}{of}"] = _angstrom(state["half_set"])
        if state["prtf"]:
            rows[f"PRTF 1/e{of}"] = _angstrom(state["prtf"])
        rows[f"resolution stated{of}"] = _angstrom(state, "none")
    if states[0]["half_set"]:
        rows["held-out patterns foreseen"] = _angstrom(states[0]["held_out"])
    for k, group in enumerate(summary["looks"]):
        if group:
            rows[f"point group of the intensity{f', state {k}' if len(states) > 1 else ''}"] = group["name"]
    changed = _changed(summary["settings"], Settings().model_dump(mode="json"))
    rows["settings that are not the default"] = "; ".join(changed) or "none"
    rows["seed"] = f"{summary['seed']}"
    rows["software"] = f"spilegate {summary['version']}, {summary['compute']['backend']}"
    return rows


def _changed(settings: Mapping[str, Any], default: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return the settings that differ from the default ones, but for the seed and what changes no result."""
    found: list[str] = []
    for name, value in settings.items():
        if isinstance(value, Mapping) and name != "compute":
            found += _changed(value, default[name], f"{prefix}{name}.")
        elif name not in ("seed", "compute") and value != default[name]:
            text = str(value)
            text = text if len(text) <= MOST_LETTERS else f"{text[:MOST_LETTERS]}..."
            found.append(printable(f"{prefix}{name} = {text}"))
    return found


def _name(summary: Summary) -> str:
    """Return the name of the file of patterns, without its folders."""
    return f"`{printable(Path(summary['input']['file']).name).replace('`', '')}`"


def _detector(summary: Summary) -> str:
    """Return the detector's panels and pixels in words."""
    panels, y, x = summary["input"]["panel_shape"]
    each = f"{panels} {'panel' if panels == 1 else 'panels'} of {y} x {x} pixels"
    return f"{each}, {summary['input']['pixels']} of them not masked"


def _photons(number: float) -> str:
    """Return a number of photons, three digits of it or all before the point."""
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"


def _were(number: int) -> str:
    """Return how many of them were, or was."""
    return f"{number} of them {'was' if number == 1 else 'were'}"


def _angstrom(kind: Mapping[str, Any], nowhere: str = "nowhere") -> str:
    """Return the resolution of some evidence, or that there is none."""
    value = kind["resolution_angstrom"]
    return nowhere if value is None else f"{value:.3g} Å"


def _cell(text: str) -> str:
    """Return a text for a cell of a table."""
    return text.replace("|", "\\|")
