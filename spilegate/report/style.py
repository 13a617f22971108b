"""How every picture looks: fonts, colours that colour-blind readers tell apart, and writing a PNG in one piece."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
from cycler import cycler
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from spilegate.formats import files

# Okabe and Ito's palette, dark to light as far as it goes.
BLUE, VERMILION, GREEN, ORANGE, SKY, PURPLE = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#CC79A7"
GREY = "#6b6b6b"
UNMEASURED = "#c9c9c9"

RC: dict[str, Any] = {
    "figure.dpi": 120,
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=[BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY]),
    "figure.titlesize": 12,
    "figure.titleweight": "bold",
    "image.interpolation": "nearest",
    "legend.frameon": False,
    "lines.linewidth": 1.6,
}


@contextmanager
def drawing() -> Iterator[None]:
    """Draw in this style inside a `with` block."""
    settings: Any = RC
    with mpl.rc_context(settings):
        yield


def colours(name: str, bad: str = UNMEASURED) -> Colormap:
    """Return a colour map in which missing values are grey."""
    return mpl.colormaps[name].with_extremes(bad=bad)


def plain_logarithmic(axis: Axis, subs: tuple[float, ...] = (1.0, 2.0, 5.0)) -> None:
    """Label a logarithmic axis with plain numbers instead of powers of ten.

    subs : which multiples of a power of ten have labels: 0.2, 0.5, 1, 2, 5 ...
    """
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def few_labels(axis: Axis, low: float, top: float) -> None:
    """Label a short logarithmic axis from low to top with plain numbers, about four of them."""
    plain_logarithmic(axis, (1.0, 3.0) if top < 50 * low else (1.0,))


def save(figure: Figure, path: Path) -> None:
    """Write a PNG, whole or not at all, so that a viewer never sees half a picture.

    Raises InputError if the file cannot be written.
    """
    content = BytesIO()
    # Not `savefig`, which lays a figure out and draws it twice, the first time for nothing.
    canvas: Any = FigureCanvasAgg(figure)
    canvas.print_png(content)
    files.replace(path, content.getvalue())
