"""What `spilegate inspect` says of the memory and the time of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from spilegate.errors import InputError
from spilegate.forecast import memory, times
from spilegate.forecast.outline import of_look
from spilegate.forecast.rates import measure
from spilegate.formats import pixels
from spilegate.formats.looking import Looked
from spilegate.kernels import host_memory
from spilegate.kernels.launch import available_cores
from spilegate.kernels.memory import GIB
from spilegate.patterns.checks import check_diameter
from spilegate.patterns.outlook import Particle, spacing
from spilegate.settings import Settings


@dataclass(frozen=True)
class Forecast:
    """What a run will take: facts for the user; remedy : words of a command line that make it fit, if it does not."""

    facts: dict[str, Any]
    remedy: tuple[str, ...] = ()


def forecast(looked: Looked, particle: Particle, settings: Settings, finer: int) -> Forecast:
    """Return the memory and the time of a reconstruction on this machine, with these settings.

    The machine is measured meanwhile, for about a second.
    finer : by what pixels are to be binned further
    """
    if particle.diameter is None:
        return Forecast(dict.fromkeys(("memory_gib", "minutes"), f"not known: {particle.how}"))
    run = memory.binned(of_look(looked, particle.diameter, settings), finer)
    width = 1 / (particle.diameter * spacing(looked))
    try:
        check_diameter(
            particle.diameter, q_min=run.q_first, q_max=run.q_max, longest=particle.diameter * width / 2,
            source="this file", given=settings.prepare.diameter_angstrom is not None,
        )  # fmt: skip
    except InputError as error:
        return Forecast(dict.fromkeys(("memory_gib", "minutes"), f"no run: {error}"))
    threads = settings.compute.threads or available_cores()
    needed, free = memory.of_run(run, threads), host_memory.available_bytes()
    remedy: tuple[str, ...] = ()
    how = f" with prepare.binning={finer * looked.binning}" if finer > 1 else ""
    said = f"{needed / GIB:.2g}{how}"
    if memory.of_run(run, 1) > free:
        remedy = memory.remedy(run, free, width, pixels.divisors(looked.shape), looked.binning)
        said += f" ({free / GIB:.2g} free; {' '.join(remedy) or 'another machine'} will do)"
    q = looked.q[np.linalg.norm(looked.q, axis=-1) <= run.q_max][:: finer**2]
    plans = run.plans
    found = times.of_run(run, measure(run.load(plans[-1], last=True), q), threads)
    halves = "half-sets" if settings.resolution.half_sets else "no half-sets"
    return Forecast(
        {
            "memory_gib": said,
            "minutes": f"{found.seconds / 60:.2g}{how} ({threads} threads, {len(plans) + 1} generations, {halves})",
        },
        remedy,
    )
