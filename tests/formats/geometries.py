"""Geometry files of CrystFEL for tests: two small panels, what may be bad of them, and who writes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

# Two panels of 2 x 3 pixels of 1 mm, one below the other.
TOP = """
clen = 0.1
photon_energy = 10000
res = 1000
fs = x
ss = -y
"""
A = """
a/min_fs = 0
a/max_fs = 2
a/min_ss = 0
a/max_ss = 1
a/corner_x = -1.5
a/corner_y = 4
"""
B = """
b/min_fs = 0
b/max_fs = 2
b/min_ss = 2
b/max_ss = 3
b/corner_x = -1.5
b/corner_y = -1
"""
BOTH = TOP + A + B
SHAPE = (4, 3)
Write = Callable[[str], Path]

# Lines and the pixels that they make bad, as #.
BAD = {
    "": ["...", "...", "...", "..."],
    "a/no_index = 1": ["###", "###", "...", "..."],
    "a/no_index = True": ["###", "###", "...", "..."],
    "a/no_index = false\nb/no_index = 0": ["...", "...", "...", "..."],
    "b/max_fs = 1": ["...", "...", "..#", "..#"],
    "bad1/min_fs = 1\nbad1/max_fs = 2\nbad1/min_ss = 1\nbad1/max_ss = 3\nbad1/panel = b": ["...", "...", ".##", ".##"],
    # Bounds that are missing are 0; a region of no panel is one of the data.
    "bad1/min_fs = 0\nbad1/max_ss = 2": ["#..", "#..", "#..", "..."],
    # Corners of pixels are at x = -1.5, -0.5, 0.5 and y = 4, 3, -1, -2; bounds are not included.
    "badx/min_x = -1.5\nbadx/max_x = 0\nbadx/min_y = -2\nbadx/max_y = 3.5": ["...", ".#.", ".#.", "..."],
    "badx/min_x = -9\nbadx/max_x = 9\nbadx/min_y = 3.9\nbadx/max_y = 4.1\nbadx/panel = b": ["###", "...", "...", "..."],
    "badx/min_x = -9\nbadx/max_x = 9\nbadx/min_y = 3": ["...", "...", "...", "..."],
    "badx/min_x = -9\nbadx/max_x = 9\nbadx/min_y = 5.9\nbadx/max_y = 6.1\ndetector_shift_y = 2 mm": [
        "###",
        "...",
        "...",
        "...",
    ],
}


def writer(folder: Path) -> Write:
    """Return a function that writes a geometry file."""

    def of_text(text: str) -> Path:
        path = folder / "detector.geom"
        path.write_bytes(text.encode())
        return path

    return of_text


def modules(first: str = "dim1 = 0", second: str = "dim1 = 1", shared: str = "dim0 = %\ndim2 = ss\ndim3 = fs") -> str:
    """Return two modules of 2 x 3 pixels, on an axis of their own."""
    b = B.replace("min_ss = 2", "min_ss = 0").replace("max_ss = 3", "max_ss = 1")
    return f"{TOP}{shared}\n{first}{A}{second}{b}"
