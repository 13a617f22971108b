"""Memory and time of a run before it starts, against what it is known to do, and what is refused."""

from __future__ import annotations

import re

import numpy as np
import pytest
from command_line import run

from spilegate.errors import InputError
from spilegate.forecast import memory, times
from spilegate.forecast.outline import Outline
from spilegate.forecast.rates import Rates, measure
from spilegate.kernels import host_memory
from spilegate.schedule import START_RING, schedule
from spilegate.settings import Settings
from spilegate.simulation.scattering import detector_q

GIB = 2.0**30
# Of a core like those of scripts/MEASURED.md.
CORE = Rates(
    evaluate=1.5e7, gather=4.8e6, gemm=6.4e10, fft=9e9, memory=2.1e10, host=3e10, call=3.2e-7, step=4e-6,
)  # fmt: skip


def outline(
    diameter: float, resolution: float, *, patterns: int = 1000, side: int = 64, wavelength: float = 1.0,
    photons: float = 20_000.0, half_sets: bool = True, soft: bool = False,
) -> Outline:  # fmt: skip
    """A run with a square detector to a resolution at its sides, nothing masked."""
    length = np.sort(np.linalg.norm(detector_q(side, resolution, wavelength).reshape(-1, 3), axis=1))
    return Outline(
        patterns=patterns, stored=side**2, n_pixel=side**2, matched=length, merged=length, q_first=float(length[0]),
        q_max=1 / resolution, diameter=diameter, photons=photons, soft=soft,
        settings=Settings.model_validate({"resolution": {"half_sets": half_sets}}),
    )  # fmt: skip


# Seconds on two cores and the largest memory [MiB], of runs on a quiet machine (scripts/MEASURED.md).
@pytest.mark.parametrize(
    ("run_of", "seconds", "mib"),
    [
        (outline(62.7, 8.0), 32.0, 854),
        (outline(62.7, 8.0, half_sets=False), 18.5, None),
        (outline(62.7, 8.0, side=128), 61.0, 1030),
        (outline(202.0, 12.7, wavelength=2.7, half_sets=False), 53.5, 1175),
        (outline(202.0, 12.7, wavelength=2.7), 117.0, None),
        (outline(206.0, 12.7, wavelength=2.7, half_sets=False, side=128), 89.0, None),
        (outline(202.0, 12.7, wavelength=2.7, half_sets=False, patterns=4000), 96.0, None),
    ],
)
def test_what_was_measured_is_foreseen_within_a_third(run_of: Outline, seconds: float, mib: float | None) -> None:
    assert times.of_run(run_of, CORE, 2).seconds == pytest.approx(seconds, rel=0.3)
    if mib is not None:
        assert memory.of_run(run_of, 2) / 2**20 == pytest.approx(mib, rel=0.3)


def test_the_generations_are_those_of_the_schedule() -> None:
    found = outline(62.7, 8.0)
    expected = schedule(62.7, 1 / 8.0, found.q_first)
    assert found.plans[: len(expected) - 1] == expected[1:]
    assert [plan.q_match for plan in found.plans].count(1 / 8.0) == 2
    assert found.plans[-1].search_every > 1
    assert len(found.start_plans) == found.settings.start.iterations
    assert outline(62.7, 8.0, patterns=10_000).started == 1250
    assert outline(62.7, 8.0, patterns=10_000, photons=200.0).started == 10_000


def test_more_work_takes_longer() -> None:
    def seconds(**changes: object) -> float:
        return times.of_run(outline(**({"diameter": 62.7, "resolution": 8.0} | changes)), CORE, 1).seconds  # type: ignore[arg-type]

    usual = seconds()
    for changes in ({"patterns": 2000}, {"side": 128}, {"diameter": 125.0}, {"soft": True, "photons": 100.0}):
        assert seconds(**changes) > 1.2 * usual
    assert times.of_run(outline(62.7, 8.0), CORE, 2).seconds < 0.75 * usual


def test_the_machine_is_measured_soon_and_soundly() -> None:
    run_of = outline(62.7, 8.0)
    q = detector_q(64, 8.0, 1.0).reshape(-1, 3)
    found = measure(run_of.load(run_of.plans[-1], last=True), q[np.linalg.norm(q, axis=1) <= run_of.q_max])
    for name in ("evaluate", "gather", "gemm", "fft", "memory", "host", "call", "step"):
        assert 0.05 < getattr(found, name) / getattr(CORE, name) < 20, name


WIDE = outline(62.7, 8.0, patterns=2000, side=256)


@pytest.mark.parametrize(("free", "asked"), [(0.62, "prepare.binning"), (None, "")])
def test_what_cannot_fit_is_refused_with_a_setting_that_works(
    monkeypatch: pytest.MonkeyPatch, free: float | None, asked: str
) -> None:
    needed = memory.of_run(WIDE, 1)
    monkeypatch.setattr(host_memory, "available_bytes", lambda: needed if free is None else free * needed)
    width = 128 / (62.7 / 8.0)
    if free is None:
        memory.check(WIDE, lambda: width, [2, 4], 1)
        return
    with pytest.raises(InputError, match=asked) as error:
        memory.check(WIDE, lambda: width, [2, 4], 1)
    text = str(error.value)
    assert "\n" not in text
    assert f"{needed:.3g} bytes" in text
    factor = int(re.findall(r"prepare\.binning=(\d+) \(which fits\)", text)[0])
    memory.check(memory.binned(WIDE, factor), lambda: width / factor, [], factor)


def test_where_binning_would_average_speckle_data_end_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    large = outline(240.0, 10.0, patterns=500, side=64)
    needed = memory.of_run(large, 1)
    monkeypatch.setattr(host_memory, "available_bytes", lambda: 0.7 * needed)
    width = 32 / 24.0
    with pytest.raises(InputError) as error:
        memory.check(large, lambda: width, [2, 4], 1)
    q_max = float(re.findall(r"prepare\.q_max=([\d.]+) --diameter-angstrom 240 \(which fits\)", str(error.value))[0])
    assert START_RING / 240 < q_max < 0.1
    memory.check(memory.ending_at(large, q_max), lambda: width, [2, 4], 1)
    # What is short by less than an estimate may be wrong is tried.
    monkeypatch.setattr(host_memory, "available_bytes", lambda: 0.8 * needed)
    memory.check(large, lambda: width, [2, 4], 1)


def test_with_hardly_any_memory_there_is_no_setting_that_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_memory, "available_bytes", lambda: 0.1 * GIB)
    with pytest.raises(InputError, match=r"; a machine with more memory$"):
        memory.check(WIDE, lambda: 16.0, [2, 4], 1)


def test_the_command_says_it_before_anything_is_written(
    monkeypatch: pytest.MonkeyPatch, data: object, tmp_path: object
) -> None:
    monkeypatch.setattr(memory, "BASE", 1e15)
    result = run("reconstruct", data, "--output", f"{tmp_path}/out", "--diameter-angstrom", 62)
    assert result.exit_code == 2
    assert "bytes of memory" in result.stderr
    assert not run("inspect", data, "--diameter-angstrom", 62).exit_code
