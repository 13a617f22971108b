"""The page of a gallery: counts, sizes, a card for every class, and the data that its program chooses from."""

from __future__ import annotations

import base64
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from spilegate.records import Float32, Float64, UInt8
from spilegate.report.assembling import log_range
from spilegate.report.page import markup, raster
from spilegate.report.page.histograms import histogram

if TYPE_CHECKING:
    from spilegate.report.gallery import Gallery

# Values of patterns are sent in so many steps, logarithmic; 255 stands for none.
STEPS = 255
# How a class can be chosen, and what its button says.
CHOICES = (("proposed", "proposed"), ("all", "all"), ("none", "drop"))


def content(gallery: Gallery) -> str:
    """Return what is between the page's head and its program."""
    count, kept = len(gallery.kept), int(gallery.kept.sum())
    # Classes whose patterns are kept come first, large ones before small ones.
    of_class = np.bincount(gallery.member[(gallery.member >= 0) & gallery.kept], minlength=len(gallery.means))
    order = np.lexsort((-gallery.counts, -of_class))
    cards = "\n".join(_card(gallery, int(k), int(of_class[k])) for k in order)
    return (
        '<header class="verdict"><p class="what">spilegate &middot; '
        f"{markup.text(gallery.source)}</p>\n<h1>{kept} of {count} patterns are proposed; click on what to keep or drop"
        f"</h1>\n{_toolbar(gallery)}</header>\n"
        f'<main id="main" tabindex="-1">\n{_overview(gallery)}\n'
        f'<section id="classes" aria-labelledby="classes-title"><h2 id="classes-title">Classes</h2>\n'
        f'<div class="grid cards-of-classes">\n{cards}\n</div></section>\n</main>\n{_foot(gallery)}\n'
        f'<script type="application/json" id="gallery-data">{_data(gallery)}</script>'
    )


def _toolbar(gallery: Gallery) -> str:
    """Return the count of what is chosen, the range of diameters and the button that makes the list."""
    known = gallery.diameter_angstrom[np.isfinite(gallery.diameter_angstrom)]
    sizes = ""
    if len(known) and known.max() > known.min():
        low, high = np.floor(known.min()), np.ceil(known.max())
        sizes = "".join(
            f'<label>{said} <input type="number" id="{ident}" min="{low:g}" max="{high:g}" step="any" '
            f'value="{value:g}">'
            " Å</label>"
            for ident, said, value in (("smallest", "Diameter from", low), ("largest", "to", high))
        )
    return (
        '<div class="controls toolbar" role="group" aria-label="Choice">'
        '<p id="chosen" role="status" aria-live="polite"></p>'
        f"{sizes}"
        '<button type="button" id="reset">As proposed</button>'
        '<button type="button" id="save" class="main">Save the list</button></div>'
    )


def _overview(gallery: Gallery) -> str:
    """Return why patterns are left out, and how large and how bright they are."""
    count = len(gallery.kept)
    why = Counter(reason or "left out" for reason, kept in zip(gallery.reasons, gallery.kept, strict=True) if not kept)
    rows = [("all", count, "100 %"), ("proposed", count - why.total(), _part(count - why.total(), count))]
    rows += [(reason, number, _part(number, count)) for reason, number in why.most_common()]
    table = markup.table(("patterns", "number", "part"), rows, "Proposed and left out", numbers=True)
    sizes = histogram(gallery.diameter_angstrom, gallery.kept, "Sizes", "diameter [Å]", logarithmic=False)
    photons = histogram(gallery.photons, gallery.kept, "Photons", "photons per pattern", logarithmic=True)
    return markup.section("overview", "Overview", markup.grid(table, sizes, photons))


def _part(number: int, count: int) -> str:
    """Return a number as a part of all."""
    return f"{100 * number / max(count, 1):.3g} %"


def _card(gallery: Gallery, k: int, kept: int) -> str:
    """Return the card of a class: its mean, what is known of it, three buttons, and examples."""
    count, name = int(gallery.counts[k]), f"Class {k}"
    alt = f"{name}, mean of {count} patterns: {gallery.kinds[k]}"
    # Of nothing that is proposed, there is nothing to go back to.
    numbers, off = {"proposed": f" {kept}", "all": f" {count}", "none": ""}, {"proposed": not kept}
    buttons = "".join(
        f'<button type="button" data-choice="{choice}" aria-pressed="false"{" disabled" * off.get(choice, False)}>'
        f"{said}{numbers[choice]}</button>"
        for choice, said in CHOICES
    )
    single = gallery.single[gallery.member == k]
    certain = f", single with {np.nanmean(single):.0%}" if np.isfinite(single).any() else ""
    examples = "".join(_example(gallery, int(row)) for row in np.flatnonzero(gallery.member[gallery.example_of] == k))
    more = markup.details("Patterns", f'<div class="examples">{examples}</div>') if examples else ""
    return (
        f'<figure class="class" data-class="{k}"><button type="button" class="picture" aria-label="{markup.text(alt)}; '
        f'keep or drop">{_mean(gallery, k)}</button>\n<figcaption>{name}: {markup.text(gallery.kinds[k])}'
        f'</figcaption><p class="caption">{count} patterns{certain}</p>\n<div class="choice" role="group" '
        f'aria-label="{name}">{buttons}</div>\n{more}</figure>'
    )


def _example(gallery: Gallery, row: int) -> str:
    """Return a pattern to click on."""
    index = int(gallery.example_of[row])
    facts = [f"{gallery.photons[index]:.3g} photons" if np.isfinite(gallery.photons[index]) else "",
             f"{gallery.diameter_angstrom[index]:.3g} Å" if np.isfinite(gallery.diameter_angstrom[index]) else "",
             str(gallery.reasons[index])]  # fmt: skip
    said = ", ".join(fact for fact in facts if fact)
    return (
        f'<button type="button" class="pattern" data-pattern="{index}" aria-pressed="false" '
        f'aria-label="Pattern {index}: {markup.text(said)}" title="Pattern {index}: {markup.text(said)}">'
        f"{_picture(gallery.examples[row], '')}<span>{index}</span></button>"
    )


def _mean(gallery: Gallery, k: int) -> str:
    """Return the picture of a class."""
    values = gallery.means[k]
    if gallery.logarithms:
        return raster.image(values.astype(np.float64), raster.Scale(0.0, 1.0, "magma"), "")
    return _picture(values, "")


def _picture(values: Float32, alt: str) -> str:
    """Return a picture of a pattern on a logarithmic scale of its own."""
    low, top = log_range(values[np.isfinite(values)])
    return raster.image(values.astype(np.float64), raster.Scale(low, top, "magma", logarithmic=True), alt)


def _data(gallery: Gallery) -> str:
    """Return what the program chooses from, as JSON; nothing in it can end its element."""
    diameters, low, high = _steps(gallery.diameter_angstrom)
    data: dict[str, Any] = {
        "source": gallery.source,
        "member": _coded(
            gallery.member.astype("<i2") if len(gallery.means) < 1 << 15 else gallery.member.astype("<i4")
        ),
        "wide": len(gallery.means) >= 1 << 15,
        "kept": _coded(gallery.kept.astype(np.uint8)),
        "diameter": _coded(diameters),
        "diameter_range": [low, high],
    }
    return json.dumps(data, separators=(",", ":")).replace("<", r"\u003c")


def _steps(values: Float64) -> tuple[UInt8, float, float]:
    """Return values in STEPS logarithmic steps between their smallest and largest, STEPS for none, and these two."""
    known = np.isfinite(values) & (values > 0)
    if not known.any():
        return np.full(len(values), STEPS, np.uint8), 1.0, 1.0
    low, high = float(values[known].min()), float(values[known].max())
    part = np.log(np.where(known, values, low) / low) / (np.log(high / low) or 1.0)
    return np.where(known, (part * (STEPS - 1)).round(), STEPS).astype(np.uint8), low, high


def _coded(array: Any) -> str:
    """Return an array's bytes in base64."""
    return base64.b64encode(array.tobytes()).decode("ascii")


def _foot(gallery: Gallery) -> str:
    """Return what to type with the list."""
    command = f"spilegate reconstruct {gallery.source} --output DIR --select selected.txt"
    return (
        "<footer><p>The list has the number of a pattern on each line, counted from 0. To reconstruct these alone: "
        f"<code>{markup.text(command)}</code></p></footer>"
    )
