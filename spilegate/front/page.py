"""How things show themselves in a notebook: a table and a small picture, all text escaped, in light and dark."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spilegate.formats import files

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TABLE = "border-collapse:collapse;margin:.3em 0"
CELL = "text-align:left;padding:.1em 1.2em .1em 0;border:0"


@dataclass(frozen=True, repr=False)
class Picture:
    """A picture that a notebook shows where it is a cell's last value.

    figure : matplotlib's, to change before it is shown or saved
    """

    figure: Figure

    @property
    def png(self) -> bytes:
        """Return it as the bytes of a PNG file."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        canvas: Any = FigureCanvasAgg(self.figure)
        content = BytesIO()
        canvas.print_png(content)
        return content.getvalue()

    def save(self, path: str | Path) -> Path:
        """Write it as a PNG file, replacing an older one, and return its path.

        Raises InputError if it cannot be written.
        """
        files.replace(Path(path), self.png)
        return Path(path)

    def __repr__(self) -> str:
        """Say how large it is."""
        width, height = self.figure.get_size_inches() * self.figure.dpi
        return f"<picture of {width:.0f} x {height:.0f} pixels; .save(path), .figure>"

    def _repr_png_(self) -> bytes:
        """Return what a notebook shows."""
        return self.png


def page(title: str, facts: Mapping[str, Any], picture: Picture | None = None, what: str = "") -> str:
    """Return HTML: a line, a picture and a table of facts.

    what : the picture shows, for who cannot see it
    """
    rows = "".join(
        f'<tr><th scope="row" style="{CELL}">{escape(name)}</th><td style="{CELL}">{escape(str(value))}</td></tr>'
        for name, value in facts.items()
        if value not in (None, "", ())
    )
    shown = ""
    if picture is not None:
        data = b64encode(picture.png).decode("ascii")
        shown = f'<img style="max-width:100%;background:white" alt="{escape(what)}" src="data:image/png;base64,{data}">'
    return (
        f'<div><p style="margin:.3em 0"><b>{escape(title)}</b></p>{shown}'
        f'<table style="{TABLE}"><tbody>{rows}</tbody></table></div>'
    )
