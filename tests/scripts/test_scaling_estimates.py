"""What the model of scaling makes of its counts: seconds, bytes, and what more processors or patterns change."""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))

import scaling_machines as machines  # noqa: E402
import scaling_model as model  # noqa: E402

from spilegate.forecast import counts  # noqa: E402


def test_one_processor_does_everything_once() -> None:
    load = counts.full_radius(10_000, 128, 8.0)
    found = model.estimate(load, machines.GPU_NODE, 1)
    for term in counts.terms(load, device=True):
        expected = sum(machines.GPU_NODE.seconds(name, amount) for name, amount in term.amounts.items())
        assert found.seconds[term.name] == pytest.approx(expected, rel=1e-12)
    assert found.moved == 0
    points = counts.merge_points(load) / machines.GPU_NODE.gather
    assert found.parts["merge: pixels"]["gather"] == pytest.approx(points, rel=1e-12)


@pytest.mark.parametrize("name", ["GPU_NODE", "THIS_MACHINE"])
def test_more_processors_divide_work_and_add_communication(name: str) -> None:
    machine, load = getattr(machines, name), counts.full_radius(10**6, 128, 8.0)
    found = [model.estimate(load, machine, 4**power) for power in range(7)]
    divided = {term.name for term in counts.terms(load, device=True) if term.place == "patterns"}
    for fewer, more in pairwise(found):
        assert more.moved >= fewer.moved
        assert more.processor_bytes <= fewer.processor_bytes
        for term in fewer.seconds:
            if "every rank" in term:
                assert more.seconds[term] >= fewer.seconds[term]
            elif term in divided:
                assert more.seconds[term] <= fewer.seconds[term]
    # Four processors of a rank share its Python, one a rank does not.
    gain = found[0].seconds["merge: pixels"] / found[1].seconds["merge: pixels"]
    assert gain == pytest.approx(4.0, rel=0.01)
    assert found[0].seconds["match: state on every host"] == found[-1].seconds["match: state on every host"]


def test_more_patterns_take_longer_and_more_memory() -> None:
    loads = [counts.full_radius(10**power, 128, 8.0) for power in range(3, 9)]
    found = [model.estimate(load, machines.GPU_NODE, 64) for load in loads]
    for fewer, more in pairwise(found):
        assert more.total > fewer.total
        assert more.host_bytes > fewer.host_bytes
        assert more.processor_bytes > fewer.processor_bytes
    assert found[-1].too_small(machines.GPU_NODE) == ["processor memory"]
    assert not found[0].too_small(machines.GPU_NODE)


def test_processors_beyond_the_blocks_idle() -> None:
    load = counts.full_radius(10_000, 128, 8.0)
    at_most, beyond = (model.estimate(load, machines.GPU_NODE, n) for n in (load.blocks, 8 * load.blocks))
    assert beyond.seconds["merge: pixels"] == at_most.seconds["merge: pixels"]
    assert beyond.processor_bytes == at_most.processor_bytes


def test_large_volumes_are_divided_and_transposed() -> None:
    whole = counts.full_radius(10_000, 128, 8.0)
    split = replace(whole, split_voxels=1)
    one, two = (model.estimate(load, machines.GPU_NODE, 64) for load in (whole, split))
    assert two.seconds["phase: iterations"] < one.seconds["phase: iterations"] / 10
    assert two.moved > one.moved
