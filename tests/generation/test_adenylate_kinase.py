"""The open and the closed form of adenylate kinase, mixed, are told apart blind."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from photons import blind, correlation, measured, settings

from spilegate.evaluation.states import state_accuracy
from spilegate.mtip import reconstruct
from spilegate.reconstruction import Reconstruction
from spilegate.simulation.experiment import Simulation
from spilegate.simulation.particle import read_particle

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))

import real_photons  # noqa: E402


@pytest.fixture(scope="module")
def mixed() -> Simulation:
    """Patterns of either form, half of them each."""
    first, second = (read_particle(real_photons.adenylate_kinase(form)) for form in ("open", "closed"))
    return measured(first, others=(second,), images=400, populations=(0.5, 0.5))


@pytest.fixture(scope="module")
def run(mixed: Simulation) -> Reconstruction:
    return reconstruct(blind(mixed), settings(matching={"states": 2}))


def test_patterns_are_in_the_right_state(run: Reconstruction, mixed: Simulation) -> None:
    assert mixed.hidden is not None
    assert state_accuracy(run.state.state, mixed.hidden.state) >= 0.95
    assert np.bincount(run.state.state, minlength=2) / len(run.state.state) == pytest.approx(0.5, abs=0.08)


def test_both_densities_are_found_and_differ(run: Reconstruction, mixed: Simulation) -> None:
    assert mixed.hidden is not None
    order = (0, 1) if (run.state.state == mixed.hidden.state).mean() > 0.5 else (1, 0)
    for k, true_k in enumerate(order):
        own, other = (correlation(run, mixed, k, t) for t in (true_k, 1 - true_k))
        assert own > 0.95
        assert own > other + 0.02


def test_the_script_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(real_photons, "find_spec", {}.get)
    monkeypatch.setattr(sys, "argv", ["real_photons.py", "--output", "nowhere"])
    with pytest.raises(SystemExit) as ended:
        real_photons.parse_options()
    assert ended.value.code == 2
    assert "adk_open.pdb of the package MDAnalysisTests not found; pip install" in capsys.readouterr().err


def test_the_script_takes_them_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    def parsed(*words: str) -> tuple[object, object]:
        monkeypatch.setattr(sys, "argv", ["real_photons.py", "--output", "nowhere", *words])
        options = real_photons.parse_options()
        return options.pdb, options.other

    opened, closed = (real_photons.adenylate_kinase(form) for form in ("open", "closed"))
    assert parsed() == (opened, None)
    assert parsed("--case", "states") == (opened, closed)
    assert parsed("--case", "states", "--pdb", "a.pdb", "--other", "b.pdb") == ("a.pdb", "b.pdb")
