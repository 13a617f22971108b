"""What is said of a run in `methods.md`: all that it did, and nothing that it did not."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest

from spilegate.report.methods import METHODS, SOURCES, methods, write_methods

Summary = dict[str, Any]


@pytest.fixture
def summary(finished: Path) -> Summary:
    """That of a run without half-sets."""
    found: Summary = json.loads((finished / "summary.json").read_text())
    return copy.deepcopy(found)


def with_halves(summary: Summary) -> Summary:
    """The same with half-sets."""
    found = summary["resolution"]
    found["verdict"] = "Resolution 14 Å (half-set FSC 0.143 of 60 + 59 patterns to 14 Å)."
    found["half_set"] = {"resolution_angstrom": 14.0, "threshold": 0.143, "patterns": [60, 59]}
    found["held_out"]["resolution_angstrom"], found["resolution_angstrom"] = 15.0, 16.0
    for shell in found["shells"]:
        shell["half_set_fsc"] = shell["half_set_fsc_plain"] = 0.9
    return summary


def table(text: str) -> dict[str, str]:
    """The rows of the table."""
    rows = re.findall(r"^\| (.+?) \| (.+) \|$", text, re.MULTILINE)
    return dict(rows[1:] if rows[0][0] == "quantity" else rows)


def test_a_finished_run_leaves_its_methods(finished: Path, summary: Summary) -> None:
    assert (finished / METHODS).read_text() == methods({**summary, "evaluation": None})


def test_the_figures_are_those_of_the_summary(summary: Summary) -> None:
    text = methods(summary)
    rows = table(text)
    assert rows["patterns"] == rows["patterns used"] == "120"
    assert rows["photons per pattern"] == "not counts"
    assert rows["wavelength"] == f"{summary['input']['wavelength_angstrom']:.5g} Å"
    assert rows["largest diameter"] == f"{summary['diameter_angstrom']:.4g} Å, estimated"
    assert rows["seed"] == "5"
    assert rows["generations"].split(",")[0] == str(summary["generations"])
    assert rows["settings that are not the default"].startswith("start.iterations = 4; phasing.cycles = 2; ")
    assert "1 panel of 40 x 40 pixels, 1600 of them not masked" in text
    assert summary["resolution"]["verdict"] in text
    assert summary["convergence"] in text
    assert "after it patterns were matched to slices of the model by squared distances" in text


def test_sources_are_numbered_as_they_are_cited(summary: Summary) -> None:
    for made in (summary, with_halves(copy.deepcopy(summary))):
        body, _, listed = methods(made).partition("## References")
        cited = [int(number) for found in re.findall(r"\[([\d, ]+)\]", body) for number in found.split(", ")]
        assert sorted(set(cited)) == list(range(1, max(cited) + 1))
        assert list(dict.fromkeys(cited)) == sorted(set(cited))
        lines = re.findall(r"^(\d+)\. (.+)$", listed, re.MULTILINE)
        assert [int(number) for number, _ in lines] == sorted(set(cited))
        assert {source for _, source in lines} <= set(SOURCES.values())


CLAIMS: dict[str, tuple[str, dict[str, Any]]] = {
    "were left out before orientations were sought": ("left_out", {"before": 3, "since": 0}),
    "1 of them was left out since they fit no orientation": ("left_out", {"before": 0, "since": 1}),
    "5 pixels that are hot": ("hot_pixels", {"in_all_patterns": 5, "in_single_patterns": 0}),
    "7 values of single patterns, hot or missing, were": (
        "hot_pixels",
        {"in_all_patterns": 0, "in_single_patterns": 7},
    ),
    "as given with the data, makes 12.0%": ("background", {"source": "file", "fraction": 0.12}),
    "differ in brightness, makes 12.0%": ("background", {"source": "estimated", "fraction": 0.12}),
    "on these data: a; b\\nc.": ("input", {"remarks": ["a", "b\nc"]}),
    "on these data: 5 of 120 patterns left out.": ("", {"notes": ["5 of 120 patterns left out"]}),
    "polarised horizontally": ("settings.prepare", {"polarisation": "horizontal"}),
    "solid angles": ("settings.prepare", {"solid_angle": True}),
    "2 x 2 pixels summed": ("settings.prepare", {"binning": 2}),
    "The point group D3 was imposed": ("settings", {"symmetry": "D3"}),
    "HIO [3]": ("settings.phasing", {"method": "hio"}),
    "Å, was given": ("", {"diameter_estimated": False}),
    "the run had not converged: why": ("", {"converged": False, "convergence": "why"}),
    "by its probability [3] from photon statistics": ("", {"assignment": "soft", "statistics": "poisson"}),
    "of 12345 photons on average": ("input", {"photons_per_pattern": 12345.4}),
    "sorted into 2 states": ("", {"populations": [0.7, 0.3]}),
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_what_a_run_did_is_said_and_no_more(claim: str, summary: Summary) -> None:
    assert claim not in methods(summary)
    where, changes = CLAIMS[claim]
    part = summary
    for key in filter(None, where.split(".")):
        part = part[key]
    part.update(changes)
    if "populations" in changes:
        summary["resolution"]["other_states"] = [copy.deepcopy(summary["resolution"])]
        summary["looks"] *= 2
    assert claim in methods(summary)


def test_what_is_not_so_any_more_is_not_said(summary: Summary) -> None:
    text = methods(summary)
    assert "No background was taken off." in text
    assert "No symmetry was imposed" in text
    assert "orientations were refined" in text
    summary["background"]["source"] = "file"
    summary["settings"]["symmetry"] = "I"
    summary["settings"]["matching"]["refine_iterations"] = 0
    text = methods(summary)
    assert "No background" not in text
    assert "No symmetry" not in text
    assert "refined" not in text


def test_half_sets_are_spoken_of_only_where_there_are_some(summary: Summary) -> None:
    text = methods(summary)
    for word in ("half-map", "half_1", "fsc_half_set", "even", "foreseen", SOURCES["half"], SOURCES["fsc"]):
        assert word not in text.replace(summary["resolution"]["verdict"], ""), word
    assert table(text)["resolution stated"] == "none"
    text = methods(with_halves(summary))
    assert "The 60 even and the 59 odd patterns" in text
    assert "`half_1.mrc` and `half_2.mrc`" in text
    rows = table(text)
    assert (rows["half-set FSC 0.143"], rows["held-out patterns foreseen"]) == ("14 Å", "15 Å")
    assert rows["resolution stated"] == "16 Å"
    for shell in summary["resolution"]["shells"]:
        shell["half_set_fsc_plain"] = 0.0
    assert "half_1" not in methods(summary)


def test_without_a_prtf_none_is_spoken_of(summary: Summary) -> None:
    assert SOURCES["prtf"] in methods(summary)
    summary["resolution"]["prtf"] = None
    text = methods(summary).replace(summary["resolution"]["verdict"], "")
    assert "phase retrieval" not in text
    assert "PRTF" not in text


def test_names_cannot_break_the_page(summary: Summary, tmp_path: Path) -> None:
    summary["input"]["file"] = "folder/a|b`c\n# caf\udce9.h5"
    summary["settings"]["prepare"]["use"] = ",".join(str(number) for number in range(0, 4000, 2))
    write_methods(tmp_path, summary)
    text = (tmp_path / METHODS).read_text(encoding="utf-8")
    assert "\n# caf" not in text
    row = next(line for line in text.splitlines() if line.startswith("| file of the patterns"))
    assert len(re.findall(r"(?<!\\)\|", row)) == 3
    assert max(len(line) for line in text.splitlines() if line.startswith("|")) < 400
