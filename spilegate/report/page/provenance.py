"""What was done, with which settings, by which version, to which file; and the paragraph for a paper."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from spilegate.report.methods import METHODS
from spilegate.report.page import markup
from spilegate.report.page.content import Content
from spilegate.settings import Settings

# A list of settings is shown so far.
MOST_LETTERS = 60


def section(content: Content) -> str:
    """Return the section of settings, versions and the input."""
    settings = content.material.settings.model_dump(mode="json")
    default = dict(_flat(Settings().model_dump(mode="json")))
    rows = [(name, _short(value), _short(default.get(name))) for name, value in _flat(settings)]
    changed = [row for row in rows if row[1] != row[2]]
    parts = [markup.pairs(_facts(content), "The run")]
    parts.append(
        markup.table(("setting", "value", "default"), changed, "Settings that are not the default")
        if changed else markup.paragraph("All settings are the default.")
    )  # fmt: skip
    everything = markup.details("All settings", markup.table(("setting", "value", "default"), rows))
    notes = [*content.summary["input"]["remarks"], *content.summary["notes"]] if content.summary else []
    said = "".join(f"<li>{markup.text(note)}</li>" for note in notes)
    return markup.section(
        "settings", "Settings and versions", markup.grid(*parts), everything, f"<ul>{said}</ul>" if said else ""
    )


def _facts(content: Content) -> dict[str, object]:
    """Return what identifies the run."""
    summary = content.summary
    if summary is None:
        return {"folder": content.folder.resolve(), "seed": content.material.settings.seed}
    given = summary["input"]
    return {
        "file of patterns": given["file"],
        "digest (SHA-256)": given["digest"],
        "values taken for": given["taken_for"],
        "pixels used": given["pixels"],
        "wavelength": f"{given['wavelength_angstrom']:.4g} Å",
        "seed": summary["seed"],
        "spilegate": summary["version"],
        "computed by": f"{summary['compute']['backend']}, {summary['compute']['processors']}",
        "statistics": summary["statistics"],
        "assignment": summary["assignment"],
        "voxel": f"{summary['voxel_angstrom']:.4g} Å, {summary['size']}³ of them",
    }


def _flat(settings: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the settings by their names, "stage.key"."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def _short(value: Any) -> str:
    """Return a setting as text."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MOST_LETTERS else f"{text[:MOST_LETTERS]}..."


def methods(content: Content) -> str:
    """Return the section with the methods paragraph; nothing before the run's end."""
    path = content.folder / METHODS
    if content.summary is None or not path.is_file():
        return ""
    written = path.read_text(encoding="utf-8", errors="replace")
    return markup.section("methods", "Methods", f'<div class="prose">{"".join(_blocks(written))}</div>')


def _blocks(written: str) -> Iterator[str]:
    """Yield the blocks of a text as `report.methods` writes it, as HTML: headings, paragraphs, a table, a list."""
    for block in re.split(r"\n\s*\n", written.strip()):
        lines = block.splitlines()
        if block.startswith("# "):
            continue
        if block.startswith("## "):
            yield f"<h3>{markup.text(block[3:])}</h3>"
        elif block.startswith("|"):
            rows = [[_inline(cell) for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))] for line in lines]
            cells = [f'<tr><th scope="row">{first}</th><td>{"".join(rest)}</td></tr>' for first, *rest in rows[2:]]
            table = f"<table><tbody>{''.join(cells)}</tbody></table>"
            yield f'<div class="scroll" tabindex="0" role="region" aria-label="Figures for the paper">{table}</div>'
        elif re.match(r"\d+\. ", block):
            yield "<ol>" + "".join(f"<li>{_inline(re.sub(r'^[0-9]+[.] ', '', line))}</li>" for line in lines) + "</ol>"
        else:
            yield f"<p>{_inline(block)}</p>"


def _inline(written: str) -> str:
    """Return a line as HTML; what stands between backticks is code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", markup.text(written.replace("\\|", "|").strip()))
