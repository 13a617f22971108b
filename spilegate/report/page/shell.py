"""The page around the content: head, style, programs, and what a browser may do with it: nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from spilegate.report.page.markup import text

STATIC = Path(__file__).parent / "static"
VIEWER, LICENCE = "3Dmol-min.js", "3Dmol-LICENSE.txt"
# What the program and the server cut the page at: between them is all that changes while a run goes on.
BEGIN, END = "<!--content-->", "<!--/content-->"
# Where it is said how a run is getting on.
LIVE_LINE = '<p class="live"><span id="live" role="status"></span> <span id="age"></span></p>'
# A page that is served knows which it is, and asks for newer content; a file on its own has nobody to ask.
LIVE, ALONE = 'data-live="{}"', 'data-live=""'


@lru_cache
def static(name: str) -> str:
    """Return one of the files that the page is made of."""
    return (STATIC / name).read_text(encoding="utf-8")


def document(title: str, content: str, *, programs: Sequence[str] = ("page.js",), viewer: bool = True) -> str:
    """Return a whole page.

    content : HTML, what changes while a run goes on, data included; programs : our own, of STATIC; viewer : 3Dmol too
    The browser may run these programs, told by their digests, and no others; it may fetch nothing but newer content
    from where the page itself came from.
    """
    scripts = [*([static(VIEWER)] if viewer else []), *(static(name) for name in programs)]
    allowed = " ".join(f"'sha256-{digest(script)}'" for script in scripts)
    policy = (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'"
    )
    licence = f"<!--\nThis page contains 3Dmol.js:\n{static(LICENCE).replace('--', '- -')}-->\n" if viewer else ""
    return (
        f'<!doctype html>\n<html lang="en" {ALONE}>\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        '<meta name="referrer" content="no-referrer">\n<link rel="icon" href="data:,">\n'
        f"<title>{text(title)}</title>\n<style>{static('page.css')}</style>\n</head>\n<body>\n"
        f'<a class="skip" href="#main">Skip to the content</a>\n{BEGIN}\n{content}\n{END}\n{licence}'
        + "".join(f"<script>{script}</script>\n" for script in scripts)
        + "</body>\n</html>\n"
    )


@lru_cache
def digest(script: str) -> str:
    """Return the digest by which a policy names a program."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")


def waiting(folder: Path) -> str:
    """Return the page that is shown before there is a report in a folder."""
    return document(
        f"{folder.name}: waiting",
        '<header class="verdict"><h1>Waiting for the first generation</h1>'
        f'<p class="said">Nothing to show yet in {text(folder)}. This page fills itself once a run there has ended its '
        "blind start.</p>" + LIVE_LINE + "</header>\n"
        '<main id="main" tabindex="-1"></main>',
    )
