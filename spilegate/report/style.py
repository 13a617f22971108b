"""How every picture looks: fonts, colours that colour-blind readers tell apart, and writing a PNG in one piece."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import ScaledTranslation

from spilegate.formats import files

# Okabe and Ito's palette, dark to light as far as it goes.
BLUE, VERMILION, GREEN, ORANGE, SKY, PURPLE = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#CC79A7"
GREY = "#6b6b6b"
UNMEASURED = "#c9c9c9"

RC: dict[str, Any] = {
    "figure.dpi": 120,
    # At half the size, on a slide of four, letters are still 6 points high.
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.labelsize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=[BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY]),
    "figure.titlesize": 14,
    "figure.titleweight": "bold",
    "image.interpolation": "nearest",
    "legend.fontsize": 11,
    "legend.frameon": False,
    "lines.linewidth": 2.0,
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


def legend_below(ax: Axes, columns: int = 2, inches: float = 0.6) -> None:
    """Put the legend below the axes and what is written there, where it hides no data.

    inches : from the axes to the legend
    """
    figure = ax.get_figure(root=True)
    if figure is None:
        return
    down = ScaledTranslation(0, -inches, figure.dpi_scale_trans)
    ax.legend(
        loc="upper center", bbox_to_anchor=(0.5, 0.0), bbox_transform=ax.transAxes + down, ncols=columns,
        borderaxespad=0.0, columnspacing=1.4, handlelength=1.8,
    )  # fmt: skip


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
