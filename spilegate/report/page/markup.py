"""HTML made of escaped text: tables, figures, sections."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence

from spilegate.report.terminal import printable


def text(value: object) -> str:
    """Return a value as text that stands for itself in HTML, in attributes as well."""
    return html.escape(" ".join(printable(line) for line in str(value).splitlines()), quote=True)


def section(ident: str, title: str, *parts: str) -> str:
    """Return a section with a heading; parts : HTML. An empty string if there are none."""
    inner = "\n".join(part for part in parts if part)
    if not inner:
        return ""
    heading = f'<h2 id="{ident}-title">{text(title)}</h2>'
    return f'<section id="{ident}" aria-labelledby="{ident}-title">\n{heading}\n{inner}\n</section>'


def paragraph(words: str) -> str:
    """Return a paragraph of plain text."""
    return f"<p>{text(words)}</p>"


def grid(*parts: str, kind: str = "") -> str:
    """Return parts side by side, as many as there is room for; kind : "wide", "narrow" or nothing."""
    inner = "\n".join(part for part in parts if part)
    return f'<div class="grid {kind}">\n{inner}\n</div>' if inner else ""


def figure(inner: str, title: str, caption: str = "") -> str:
    """Return a figure with a title above it and a caption below; inner : HTML."""
    below = f'<p class="caption">{text(caption)}</p>' if caption else ""
    return f"<figure>\n<figcaption>{text(title)}</figcaption>\n{inner}\n{below}</figure>"


def table(head: Sequence[str], rows: Iterable[Sequence[object]], caption: str = "", *, numbers: bool = False) -> str:
    """Return a table whose first column names its rows; numbers : the others are numbers, set to the right."""
    above = f"<caption>{text(caption)}</caption>" if caption else ""
    heads = "".join(f'<th scope="col">{text(cell)}</th>' for cell in head)
    body = "\n".join(
        f'<tr><th scope="row">{text(first)}</th>{"".join(f"<td>{text(cell)}</td>" for cell in rest)}</tr>'
        for first, *rest in rows
    )
    kind = ' class="numbers"' if numbers else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{text(caption or head[0])}"><table{kind}>{above}'
        f"<thead><tr>{heads}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
    )


def pairs(values: Mapping[str, object], caption: str = "") -> str:
    """Return names and values as a table of two columns."""
    return table(("", ""), values.items(), caption).replace(
        "<thead><tr>" + '<th scope="col"></th>' * 2 + "</tr></thead>\n", ""
    )


def details(summary: str, inner: str, *, opened: bool = False) -> str:
    """Return something that opens when asked for; inner : HTML."""
    return f"<details{' open' if opened else ''}><summary>{text(summary)}</summary>\n{inner}\n</details>"


def legend(items: Iterable[tuple[str, str, bool]]) -> str:
    """Return a legend; items : what a line is called, its colour's name, whether it is dashed."""
    entries = "".join(
        f'<li><span class="swatch{" dashed" * dashed}" style="--colour:var(--{colour})"></span>{text(name)}</li>'
        for name, colour, dashed in items
    )
    return f'<ul class="legend">{entries}</ul>' if entries else ""
