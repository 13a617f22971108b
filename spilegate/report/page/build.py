"""Build `report.html` of an output folder from what the run wrote there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from spilegate.formats import files
from spilegate.report.files import REPORT
from spilegate.report.page import (
    agreement,
    course,
    density,
    markup,
    measured_part,
    provenance,
    shell,
    sorting,
    spheres,
)  # fmt: skip
from spilegate.report.page.content import Content, read
from spilegate.report.terminal import printable

# What comes after the density, in this order.
PARTS: tuple[tuple[str, Callable[[Content], str]], ...] = (
    ("Resolution", agreement.section),
    ("Orientations", spheres.orientations),
    ("Patterns used and left out", sorting.section),
    ("Best and worst patterns", measured_part.fitting),
    ("Convergence", course.convergence),
    ("Background", measured_part.background),
    ("Timings", course.timings),
    ("Settings and versions", provenance.section),
    ("Methods", provenance.methods),
)


def write(folder: Path) -> tuple[Path, bool]:
    """Write `report.html` of a folder; return its path and whether it is that of a run that has ended.

    Raises InputError if the folder holds no checkpoint, a file cannot be read, or the page cannot be written.
    """
    content = read(folder)
    files.replace(folder / REPORT, page(content).encode("utf-8", "backslashreplace"))
    return folder / REPORT, content.summary is not None


def page(content: Content) -> str:
    """Return the page."""
    body, data = density.section(content)
    parts = [body, *(_shown(name, part, content) for name, part in PARTS)]
    idents = [part.split('id="', 1)[1].split('"', 1)[0] for part in parts if part]
    contents = "".join(f'<li><a href="#{ident}">{ident.capitalize()}</a></li>' for ident in idents)
    # No part of the data may end their element.
    safe = data.replace("<", r"\u003c")
    inner = (
        f'{_head(content)}\n<nav aria-label="Contents"><ul>{contents}</ul></nav>\n<main id="main" tabindex="-1">\n'
        + "\n".join(part for part in parts if part)
        + f"\n</main>\n{_foot(content)}\n"
        + f'<script type="application/json" id="densities">{safe}</script>'
    )
    return shell.document(f"{printable(content.folder.resolve().name)}: {_verdict(content)}", inner)


def _shown(name: str, part: Callable[[Content], str], content: Content) -> str:
    """Return a section; where the summary is of another version, what it lacks."""
    try:
        return part(content)
    except (KeyError, TypeError, IndexError) as error:
        words = f"Cannot be shown: summary.json is not as this version writes it ({type(error).__name__}: {error})."
        return markup.section(name.lower().replace(" ", "-"), name, markup.paragraph(words))


def _verdict(content: Content) -> str:
    """Return the verdict, or how far the run is."""
    if content.summary is not None:
        return str(content.summary.get("resolution", {}).get("verdict", "No verdict in summary.json."))
    return (
        f"Generation {content.state.generation} of about {content.generations}: no verdict yet. A resolution is stated "
        "once two halves of the patterns have been reconstructed by themselves."
    )


def _head(content: Content) -> str:
    """Return the top of the page: verdict and key figures."""
    cards = "".join(
        f"<div><dt>{markup.text(name)}</dt><dd>{markup.text(value)}</dd></div>"
        for name, value in _cards(content).items()
    )
    what = content.summary["input"]["file"] if content.summary else str(content.folder.resolve())
    kind = "running" if content.summary is None else (
        "stated" if content.summary["resolution"]["resolution_angstrom"] else "none"
    )  # fmt: skip
    return (
        f'<header class="verdict {kind}" data-generation="{content.state.generation}">\n'
        f'<p class="what">spilegate &middot; {markup.text(what)}</p>\n<h1>{markup.text(_verdict(content))}</h1>\n'
        f'<dl class="cards">{cards}</dl>\n{shell.LIVE_LINE}\n</header>'
    )


def _cards(content: Content) -> dict[str, str]:
    """Return the key figures."""
    state, summary = content.state, content.summary
    kept = int((state.weight > 0).sum())
    cards = {"patterns kept": f"{kept} of {len(state.weight)}", "generations": str(state.generation)}
    if summary is None:
        return {**cards, "generations": f"{state.generation} of about {content.generations}"}
    resolution = summary["resolution"]["resolution_angstrom"]
    photons = summary["input"]["photons_per_pattern"]
    return {
        "resolution": f"{resolution:.3g} Å" if resolution else "none",
        **cards,
        "converged": "yes" if summary["converged"] else "no",
        "diameter": f"{summary['diameter_angstrom']:.3g} Å",
        "data to": f"{1 / summary['q_max_inverse_angstrom']:.3g} Å",
        **({"photons per pattern": f"{photons:,.0f}" if photons >= 100 else f"{photons:.3g}"} if photons else {}),
        "time": _clock(summary["seconds"]["total"]),
    }


def _clock(seconds: float) -> str:
    """Return a time in the unit that suits it."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _foot(content: Content) -> str:
    """Return the end of the page."""
    made: Any = content.summary and content.summary["version"]
    words = f"Made by spilegate{f' {made}' if made else ''} from the files in {content.folder.resolve()}"
    viewer = "Surfaces are drawn by 3Dmol.js (BSD licence, in the source of this page)."
    return f"<footer><p>{markup.text(words)}. {viewer}</p></footer>"
