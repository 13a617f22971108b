"""From single-particle X-ray diffraction patterns at unknown orientations to the particle's 3-D density, by M-TIP.

>>> import spilegate as sg
>>> simulation = sg.simulate("demo", images=100, pixels=28, resolution_angstrom=20, photons=50000)
>>> simulation.save(folder / "run.h5").name
'run.h5'

`folder` is a `pathlib.Path`. With patterns of your own begin here; in a notebook everything shows itself:

>>> data = sg.read(folder / "run.h5")
>>> data
<Dataset ...run.h5: 100 patterns of 784 pixels to 14.2 Å, 5...e+04 photons in each>
>>> quick = {"start.iterations": 4, "phasing.cycles": 2, "phasing.starts": 1, "convergence.most_generations": 3}
>>> result = sg.reconstruct(data, quick, callback=print)
generation 1 of ...
>>> result.verdict
'Resolution ... Å... (half-set FSC 0.143 of 50 + 50 patterns to ... Å; ...).'
>>> result.density.shape, round(result.voxel_angstrom, 1)  # (x, y, z), the centre voxel at M // 2
((15, 15, 15), 8.3)
>>> out = result.save(folder / "saved", pictures=False)
>>> sg.evaluate(result, simulation)
<Evaluation: correlation 0.9..., resolution ... Å (FSC 0.5), hand ..., orientation error ...>

Leave out `quick`, and everything follows from the patterns: sizes, grids, generations. `sg.Dataset.from_arrays` takes
NumPy arrays, `sg.load(folder)` a finished run, `result.figure("fsc")` draws. What is wrong with an input raises
`sg.InputError`, one line that says what was found, what was expected and what to do.

Units are in the names: `voxel_angstrom`, `q_max_inverse_angstrom` with `|q| = 1/d` (no 2 pi). An orientation is a unit
quaternion (w, x, y, z) whose matrix takes the particle to the laboratory. Shapes: N_IMG patterns, N_PIX pixels, K
conformations, M voxels along an edge.

`spilegate --help` is the command line, `scripts/tutorial.ipynb` a tutorial, `scripts/REFERENCE.md` has the settings.
Every name is loaded from its module when it is first used: importing the package starts nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spilegate.errors import InputError
    from spilegate.evaluation.comparison import compare
    from spilegate.formats.maps import read_map, write_map
    from spilegate.front.comparing import Evaluation, evaluate
    from spilegate.front.dataset import Dataset, read
    from spilegate.front.following import Generation
    from spilegate.front.result import Reconstruction, load
    from spilegate.front.running import reconstruct
    from spilegate.front.simulating import Simulation, simulate
    from spilegate.records import State
    from spilegate.settings import Settings

__version__ = "0.1.0"

__all__ = [
    "Dataset",
    "Evaluation",
    "Generation",
    "InputError",
    "Reconstruction",
    "Settings",
    "Simulation",
    "State",
    "compare",
    "evaluate",
    "load",
    "read",
    "read_map",
    "reconstruct",
    "simulate",
    "write_map",
]

_HOME = {
    "Dataset": "front.dataset",
    "Evaluation": "front.comparing",
    "Generation": "front.following",
    "InputError": "errors",
    "Reconstruction": "front.result",
    "Settings": "settings",
    "Simulation": "front.simulating",
    "State": "records",
    "compare": "evaluation.comparison",
    "evaluate": "front.comparing",
    "load": "front.result",
    "read": "front.dataset",
    "read_map": "formats.maps",
    "reconstruct": "front.running",
    "simulate": "front.simulating",
    "write_map": "formats.maps",
}


def __getattr__(name: str) -> Any:
    """Load a name of the front door from its module (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'spilegate' has no attribute {name!r}")
    value = getattr(import_module(f"spilegate.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the front door."""
    return [*__all__, "__version__"]
