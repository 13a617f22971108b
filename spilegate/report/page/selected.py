"""What was told of the patterns before a run: single particles or not, their sizes and their 2-D classes."""

from __future__ import annotations

from collections import Counter

import numpy as np

from spilegate.errors import InputError
from spilegate.formats import record
from spilegate.report.page import markup, raster
from spilegate.report.page.content import Content
from spilegate.report.page.histograms import histogram
from spilegate.selection.record import BY_HAND, REASONS, Selection
from spilegate.selection.written import RECORD

# Classes shown, those first that have most patterns.
MOST_CLASSES = 12


def parts(content: Content) -> list[str]:
    """Return what a selection in the run's folder shows, if there is one of it: why, how large, and which classes."""
    path = content.folder / RECORD
    if not path.is_file():
        return []
    try:
        found, _ = record.load_record(path, Selection)
    except InputError:
        return []
    count, kept = len(found.single), found.kept
    # By numbers, not in words one by one: there may be a million.
    told = np.bincount(found.reason[~kept & (found.hand == 0)], minlength=len(REASONS))
    why = Counter({reason: int(number) for reason, number in zip(REASONS, told, strict=True) if number})
    why += Counter({BY_HAND[-1]: int((found.hand < 0).sum())})
    rows = [("single particles", int(kept.sum()), f"{100 * kept.mean():.3g} %")]
    rows += [(reason, number, f"{100 * number / count:.3g} %") for reason, number in why.most_common()]
    table = markup.table(("selected before", "patterns", "part"), rows, "Selection of single particles", numbers=True)
    sizes = np.where(found.diameter_angstrom > 0, found.diameter_angstrom, np.nan)
    low, high = found.window_angstrom
    note = markup.paragraph(
        f"{found.purity:.0%} ± {found.purity_error:.0%} of those kept are expected to be single particles, and "
        f"{found.lost:.0%} of the single particles to be lost. 95 % of them are {low:.3g} to {high:.3g} Å wide. "
        "Classes and patterns can be kept or dropped by clicks in gallery.html, beside this page."
    )
    histograms = (
        histogram(sizes, kept, "Sizes, by the spheroid that fits each", "diameter [Å]", logarithmic=False),
        histogram(found.photons, kept, "Photons", "photons per pattern", logarithmic=True),
    )
    return [f"<h3>Selection</h3>{note}", markup.grid(table, *histograms), markup.grid(*_classes(found), kind="narrow")]


def _classes(found: Selection) -> list[str]:
    """Return the means of the classes, those first that have most patterns."""
    number = np.bincount(found.label[found.label >= 0], minlength=len(found.class_means))
    kept = np.bincount(found.label[(found.label >= 0) & found.kept], minlength=len(found.class_means))
    scale = raster.Scale(0.0, 1.0, "magma")
    figures = []
    for k in np.argsort(-number, kind="stable")[:MOST_CLASSES]:
        alt = f"Mean of class {k}, {number[k]} patterns"
        picture = raster.image(found.class_means[k].astype(np.float64), scale, alt)
        figures.append(markup.figure(picture, f"Class {k}: {number[k]} patterns", f"{kept[k]} kept"))
    return figures if len(number) > 1 else []
