"""What is said about the resolution, from evidence that is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from spilegate.evaluation.fsc import fourier_shell_correlation, resolution_angstrom
from spilegate.geometry.fourier import frequency_radius
from spilegate.reconstruction import Certainty, HeldOut
from spilegate.resolution import verdict

DIAMETER = 100.0
Q = np.arange(1, 21) / 200
GOOD, BAD = 20.0, 0.7


def falling(crossing_q, threshold, q=Q):
    """A curve that meets its threshold at `crossing_q`."""
    return np.clip(1 - (1 - threshold) * q / crossing_q, -0.1, 1)


def held_out(*deviations):
    edges = np.array([0.025, 0.04, 0.06, 0.08, 0.1])[: len(deviations) + 1]
    return HeldOut(edges[:-1], edges[1:], np.array(deviations))


def certainty(half_set_q=0.07, prtf_q=0.08, bands=(GOOD,) * 4, **changes):
    found = Certainty(
        members=np.array([999]),
        q=Q,
        voxels=2 * np.pi * np.arange(1.0, 21) ** 2,
        half_set_fsc=falling(half_set_q, 0.143)[None],
        half_set_fsc_plain=falling(1.2 * half_set_q, 0.143)[None],
        patterns=(500, 499),
        missing="",
        held_out=held_out(*bands),
        prtf=falling(prtf_q, 1 / np.e)[None],
        phasings=5,
    )
    return replace(found, **changes)


def test_a_resolution_is_stated_with_what_it_rests_on():
    found = verdict.summarise(certainty(), DIAMETER)
    assert found["verdict"] == (
        "Resolution 14.3 Å (half-set FSC 0.143 of 500 + 499 patterns to 14.3 Å; held-out patterns foreseen to 10 Å; "
        "PRTF 1/e of 5 phasings to 12.5 Å; density inside its own support, no sharpening)."
    )
    assert found["resolution_angstrom"] == pytest.approx(1 / 0.07)
    assert found["half_set"]["resolution_angstrom"] == pytest.approx(1 / 0.07)
    assert found["prtf"]["resolution_angstrom"] == pytest.approx(1 / 0.08)
    assert len(found["shells"]) == 20
    assert found["shells"][4]["q"] == 1 / found["shells"][4]["resolution_angstrom"] == Q[4]
    assert found["shells"][4]["half_set_fsc"] == pytest.approx(1 - 0.857 * Q[4] / 0.07)
    assert found["other_states"] == []


def test_the_evidence_that_ends_first_decides():
    assert verdict.stated_angstrom(certainty(prtf_q=0.05), 0, DIAMETER) == pytest.approx(20)
    assert verdict.stated_angstrom(certainty(bands=(GOOD, BAD, GOOD, GOOD)), 0, DIAMETER) == pytest.approx(25)
    everywhere = certainty(1e9, 1e9)
    assert verdict.stated_angstrom(everywhere, 0, DIAMETER) == pytest.approx(10)
    assert "Resolution 10 Å, the edge of the data (" in verdict.verdict(everywhere, 0, DIAMETER)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (
            certainty(half_set_q=0.02),
            "the two halves do not agree beyond the particle's outline (they part at",
        ),
        (certainty(half_set_fsc=np.zeros((1, 20))), "the two halves do not agree anywhere"),
        (certainty(prtf=np.zeros((1, 20))), "the phasings do not agree anywhere"),
        (certainty(bands=(BAD, GOOD, GOOD, GOOD)), "the halves of the patterns do not foresee each other"),
        (certainty(bands=()), "the halves of the patterns do not foresee each other"),
        (certainty(1e9, 1e9, bands=(3.9,) * 4), "the halves of the patterns do not foresee each other"),
    ],
)
def test_no_resolution_where_any_evidence_is_lacking(found, said):
    summary = verdict.summarise(found, DIAMETER)
    assert summary["verdict"].startswith("No resolution: ")
    assert said in summary["verdict"]
    assert summary["resolution_angstrom"] is None


def test_phases_alone_state_nothing():
    alone = certainty(half_set_fsc=np.empty((0, 20)), missing="not asked for", patterns=(0, 0), bands=())
    summary = verdict.summarise(alone, DIAMETER)
    assert summary["verdict"] == (
        "No resolution stated: no half-sets (not asked for); PRTF 1/e of 5 phasings to 12.5 Å, which noise can do as "
        "well."
    )
    assert summary["resolution_angstrom"] is summary["half_set"] is None
    assert verdict.verdict(replace(alone, prtf=np.empty((0, 20))), 0, DIAMETER) == (
        "No resolution stated: no half-sets (not asked for)."
    )


def test_every_state_has_a_verdict():
    half_sets, transfer = np.stack([falling(0.07, 0.143), np.zeros(20)]), np.stack([falling(0.08, 1 / np.e)] * 2)
    members = np.array([600, 399])
    two = certainty(half_set_fsc=half_sets, half_set_fsc_plain=half_sets, prtf=transfer, members=members)
    summary = verdict.summarise(two, DIAMETER)
    assert summary["verdict"].startswith("State 0: Resolution 14.3 Å (")
    assert summary["verdict"].endswith("State 1: No resolution: the two halves do not agree anywhere.")
    assert [state["resolution_angstrom"] for state in summary["other_states"]] == [None]


def test_a_state_without_patterns_has_no_resolution_whatever_its_curves():
    curves = {
        name: np.repeat(getattr(certainty(), name), 2, 0) for name in ("half_set_fsc", "half_set_fsc_plain", "prtf")
    }
    summary = verdict.summarise(certainty(members=np.array([999, 0]), **curves), DIAMETER)
    assert "State 1: No resolution: no pattern is in this state" in summary["verdict"]
    assert summary["resolution_angstrom"] == pytest.approx(1 / 0.07)
    assert [state["resolution_angstrom"] for state in summary["other_states"]] == [None]


def test_states_of_which_nothing_was_measured_are_there_all_the_same():
    nothing = dict.fromkeys(("half_set_fsc", "half_set_fsc_plain", "prtf"), np.empty((0, 20)))
    summary = verdict.summarise(certainty(members=np.array([5, 4]), missing="not asked for", **nothing), DIAMETER)
    assert summary["verdict"].count("No resolution stated: no half-sets") == 2
    (other,) = summary["other_states"]
    assert (other["half_set"], other["prtf"], len(other["shells"])) == (None, None, 20)


def test_halves_with_known_noise_part_where_they_should():
    """Signal of power s(q) and independent noise of power 1 in every shell: FSC = s / (s + 1), 0.143 at s = 1/6."""
    size, voxel = 61, 2.0
    rng = np.random.default_rng(0)
    q = frequency_radius(size, half=True) / voxel
    signal, *noise = np.fft.rfftn(rng.standard_normal((3, size, size, size)), axes=(1, 2, 3))
    power = np.exp(-((q / 0.1) ** 2))
    halves = [np.fft.irfftn(np.sqrt(power) * signal + n, (size,) * 3, axes=(0, 1, 2)).astype(np.float32) for n in noise]
    curve = fourier_shell_correlation(*halves, voxel, threads=1)
    expected = 1 / (1 + np.exp((curve.q / 0.1) ** 2))
    assert np.abs((curve.correlation - expected) * np.sqrt(curve.count)).max() < 4
    where = 0.1 * np.sqrt(np.log(6))
    assert resolution_angstrom(curve, 0.143) == pytest.approx(1 / where, rel=0.05)
