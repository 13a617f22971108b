"""From single-particle X-ray diffraction patterns at unknown orientations to the particle's 3-D density, by M-TIP.

The names below are the front door; each is loaded from its module when it is first used, so importing the package
costs next to nothing and starts nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spilegate.errors import InputError
    from spilegate.evaluation.comparison import compare
    from spilegate.formats.maps import read_map, write_map
    from spilegate.formats.reader import read
    from spilegate.mtip import reconstruct
    from spilegate.reconstruction import Reconstruction
    from spilegate.records import Dataset, State
    from spilegate.settings import Settings
    from spilegate.simulation.experiment import simulate

__version__ = "0.1.0"

__all__ = [
    "Dataset",
    "InputError",
    "Reconstruction",
    "Settings",
    "State",
    "compare",
    "read",
    "read_map",
    "reconstruct",
    "simulate",
    "write_map",
]

_HOME = {
    "Dataset": "records",
    "InputError": "errors",
    "Reconstruction": "reconstruction",
    "Settings": "settings",
    "State": "records",
    "compare": "evaluation.comparison",
    "read": "formats.reader",
    "read_map": "formats.maps",
    "reconstruct": "mtip",
    "simulate": "simulation.experiment",
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
