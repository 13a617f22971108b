"""The gallery of a selection: counts, clicks, and the list that comes of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from spilegate.commands.configuration import load_settings
from spilegate.formats.selection import chosen
from spilegate.report.gallery import Gallery, of_selection, write_gallery
from spilegate.selection.record import BLANK, DROPLET, REASONS, SINGLE, Selection

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

COUNT, SIZE = 60, 24


@pytest.fixture(scope="module")
def gallery() -> Gallery:
    """Three classes: single particles of two sizes, some of which are left out, doubles, and nothing at all."""
    rng = np.random.default_rng(3)
    member = np.arange(COUNT) % 4 - 1
    row, column = np.mgrid[:SIZE, :SIZE] - SIZE / 2
    rings = 50 * np.exp(-np.hypot(row, column) / 6)[None] * np.array([1.0, 3.0, 0.02])[:, None, None]
    rings[:, SIZE // 2, :] = np.nan
    kept = (member == 0) & (np.arange(COUNT) % 3 > 0)
    diameter = np.where(np.arange(COUNT) // 4 % 2, 600.0, 700.0) + rng.uniform(0, 1, COUNT)
    example_of = np.flatnonzero(member >= 0)[:12]
    return Gallery(
        source="run <42>.h5", means=rings.astype(np.float32), kinds=("single particles", "several", "<empty>"),
        member=member.astype(np.int64), kept=kept, reasons=["" if each else "too few & far" for each in kept],
        single=np.where(member == 0, 0.97, 0.1), diameter_angstrom=diameter, photons=rng.uniform(1e3, 1e5, COUNT),
        examples=rng.poisson(3, (12, SIZE, SIZE)).astype(np.float32), example_of=example_of,
    )  # fmt: skip


@pytest.fixture(scope="module")
def path(gallery: Gallery, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gallery") / "gallery.html"
    write_gallery(path, gallery)
    return path


def saved(page: Page, path: Path) -> list[int]:
    """The numbers in the list that the page makes."""
    with page.expect_download() as download:
        page.locator("#save").click()
    target = path.parent / download.value.suggested_filename
    download.value.save_as(target)
    text = target.read_text(encoding="ascii")
    # What it was made for takes it as it is.
    numbers = chosen(str(target), Path("patterns.h5"), COUNT)
    assert load_settings(None, [f"prepare.use={target}"], {}).prepare.use == ",".join(map(str, numbers))
    assert text == "".join(f"{number}\n" for number in numbers)
    return [int(number) for number in numbers]


def test_clicks_end_in_the_list(browser: Browser, gallery: Gallery, path: Path) -> None:
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text))
    page.goto(path.as_uri())
    kept, member = gallery.kept, gallery.member
    status = page.locator("#chosen")
    assert status.text_content() == f"{kept.sum()} of {COUNT} patterns chosen"
    assert saved(page, path) == np.flatnonzero(kept).tolist()
    # A class that nothing was proposed of is kept as a whole, and dropped again.
    several = page.locator('[data-class="1"]')
    several.locator(".picture").click()
    assert saved(page, path) == np.flatnonzero(kept | (member == 1)).tolist()
    several.get_by_role("button", name="drop", exact=True).click()
    # All of a class, less one pattern that was clicked on.
    first = page.locator('[data-class="0"]')
    first.get_by_role("button", name="all 15").click()
    first.locator("summary").click()
    one = int(str(first.locator("[data-pattern]").first.get_attribute("data-pattern")))
    first.locator("[data-pattern]").first.click()
    expected = (member == 0) & (np.arange(COUNT) != one)
    assert saved(page, path) == np.flatnonzero(expected).tolist()
    # What was chosen is still there when the page is opened again.
    page.reload()
    assert status.text_content() == f"{expected.sum()} of {COUNT} patterns chosen"
    page.locator("#smallest").fill("650")
    large = expected & (gallery.diameter_angstrom > 650)
    assert saved(page, path) == np.flatnonzero(large).tolist()
    page.locator("#reset").click()
    assert saved(page, path) == np.flatnonzero(kept).tolist()
    # By the keyboard alone, and nothing left is no list.
    first.locator(".picture").focus()
    page.keyboard.press("Enter")
    assert status.text_content() == f"0 of {COUNT} patterns chosen"
    assert page.locator("#save").is_disabled()
    assert faults == []
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.close()


def test_it_has_counts_and_escapes_what_it_is_told(gallery: Gallery, path: Path) -> None:
    page = path.read_text(encoding="utf-8")
    assert "run &lt;42&gt;.h5" in page
    assert "<empty>" not in page
    assert "&lt;empty&gt;" in page
    assert "too few &amp; far" in page
    assert "15 patterns, single with 97%" in page
    assert "default-src 'none'" in page
    assert page.count('class="class"') == 3
    assert "$3Dmol" not in page


def test_what_does_not_go_together_is_refused(gallery: Gallery, tmp_path: Path) -> None:
    for change, words in (
        ({"kept": gallery.kept[1:]}, "kept: 59; expected 60"),
        ({"kinds": ("one",)}, "kinds: 1; expected 3"),
        ({"member": gallery.member + 1}, "member: 0 to 3; expected -1 to 2"),
        ({"example_of": gallery.example_of + COUNT}, "example_of: up to"),
        ({"example_of": gallery.example_of[1:]}, "example_of: 11; expected 12"),
    ):
        with pytest.raises(ValueError, match=words):
            write_gallery(tmp_path / "gallery.html", replace(gallery, **change))
    assert not list(tmp_path.iterdir())


def test_a_million_patterns_stay_below_the_limit_and_unknown_sizes_rule_nothing_out(
    gallery: Gallery, tmp_path: Path
) -> None:
    many, nothing = 10**6, np.full(10**6, np.nan)
    large = replace(
        gallery, member=np.resize(gallery.member, many), kept=np.resize(gallery.kept, many), reasons=[""] * many,
        single=nothing, diameter_angstrom=nothing, photons=nothing,
    )  # fmt: skip
    write_gallery(tmp_path / "gallery.html", large)
    page = (tmp_path / "gallery.html").read_text(encoding="utf-8")
    assert len(page) < 12e6
    assert "Diameter from" not in page
    assert "nan" not in page.partition('id="gallery-data"')[0].replace("nanm", "")


def test_a_selection_becomes_a_gallery(tmp_path: Path) -> None:
    values, none = np.linspace(0.1, 0.9, 5), np.zeros(5)
    reason = np.array([SINGLE, SINGLE, DROPLET, BLANK, SINGLE])
    selection = Selection(
        single=values, reason=reason, photons=1000 * values, shown=reason != BLANK, compared=reason == SINGLE,
        diameter_angstrom=np.where(reason == BLANK, 0.0, 500 + values), aspect=none, brightness=values, misfit=none,
        structure=none, model_misfit=none, group=reason, label=np.array([0, 0, 0, -1, 1]),
        class_means=np.random.default_rng(0).uniform(0, 1, (3, 8, 8)).astype(np.float32), class_extent=0.1,
        window_angstrom=np.array([400.0, 600.0]), said="",
    )  # fmt: skip
    examples = np.ones((2, 8, 8), np.float32)
    gallery = of_selection(selection, "run.h5", examples, np.array([0, 3]))
    assert gallery.kinds == ["single particle (67%)", "single particle (100%)", "no patterns"]
    assert gallery.reasons[2:4] == [REASONS[DROPLET], REASONS[BLANK]]
    assert np.isnan(gallery.diameter_angstrom).tolist() == [False, False, False, True, False]
    write_gallery(tmp_path / "gallery.html", gallery)
    page = (tmp_path / "gallery.html").read_text(encoding="utf-8")
    assert "3 of 5 patterns are proposed" in page
    assert page.count('class="class"') == 3
