"""The page in a browser: it turns, its threshold and slices move, it fits its window, and it is renewed in time."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from spilegate.formats import record
from spilegate.records import State
from spilegate.report.drawing import Drawing
from spilegate.report.live.server import Server
from spilegate.report.live.watched import Watched

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page

# Seconds after its checkpoint in which a generation has to be seen.
IN_TIME = 5.0


class Looker:
    """A page in a browser, and what went wrong with it or left it."""

    def __init__(self, browser: Browser, **context: Any) -> None:
        self.page: Page = browser.new_page(**context)
        self.faults: list[str] = []
        self.requests: list[str] = []
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", self._said)
        self.page.on("request", lambda request: self.requests.append(request.url))

    def _said(self, message: ConsoleMessage) -> None:
        # The driver's own remark on pictures being taken of it.
        if message.type in {"error", "warning"} and "GPU stall" not in message.text:
            self.faults.append(message.text)

    def surface(self) -> bytes:
        """A picture of the surface."""
        self.page.wait_for_timeout(100)
        return self.page.locator("#surface").screenshot()

    def slice(self) -> str:
        """The pixels of the slice."""
        return str(self.page.locator("#slice").evaluate("canvas => canvas.toDataURL()"))

    def slide(self, ident: str, value: int) -> None:
        """Move a slider."""
        self.page.locator(f"#{ident}").fill(str(value))


@pytest.fixture
def looker(browser: Browser) -> Iterator[Looker]:
    looker = Looker(browser, viewport={"width": 1440, "height": 900})
    yield looker
    looker.page.close()


def test_the_surface_turns_and_its_threshold_and_the_slices_move(looker: Looker, looked_at: Path) -> None:
    page = looker.page
    page.goto((looked_at / "report.html").as_uri())
    first = looker.surface()
    box = page.locator("#surface").bounding_box()
    assert box
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 90, y + 30, steps=4)
    page.mouse.up()
    turned = looker.surface()
    assert turned != first
    looker.slide("threshold", 60)
    higher = looker.surface()
    assert higher != turned
    assert page.locator("#threshold-out").text_content() == "60 %"
    page.locator("#surface").focus()
    for key in ("ArrowLeft", "ArrowUp", "+"):
        page.keyboard.press(key)
    by_key = looker.surface()
    assert by_key != higher
    page.locator("#view-reset").click()
    looker.slide("threshold", 25)
    page.mouse.move(0, 0)
    assert looker.surface() == first
    middle = looker.slice()
    looker.slide("position", 5)
    assert looker.slice() != middle
    page.get_by_label("x", exact=True).check()
    assert "x = " in str(page.locator("#position-out").text_content())
    assert looker.faults == []
    assert [url for url in looker.requests if not url.startswith(("file:", "data:", "blob:"))] == []


@pytest.mark.parametrize("width", [1440, 390])
def test_it_fits_its_window_and_prints(browser: Browser, looked_at: Path, width: int) -> None:
    looker = Looker(browser, viewport={"width": width, "height": 844}, color_scheme="dark")
    page = looker.page
    page.goto((looked_at / "report.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.emulate_media(color_scheme="light")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != dark
    pages = page.pdf(format="A4").count(b"/Type /Page\n")
    assert 2 <= pages <= 14
    page.emulate_media(media="print")
    picture = page.locator("#surface-print")
    assert picture.evaluate("async image => { await image.decode(); return image.naturalWidth; }") > 100
    assert page.locator("details:not([open])").count() == 0
    assert looker.faults == []
    page.close()


def test_the_keyboard_reaches_everything_that_can_be_used(looker: Looker, looked_at: Path) -> None:
    page = looker.page
    page.goto((looked_at / "report.html").as_uri())
    reached = []
    for _ in range(24):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.getAttribute('href')"))
    for name in ("#main", "#density", "#methods", "surface", "threshold", "view-reset", "spin", "position"):
        assert name in reached, reached
    unnamed = "input:not([aria-label])"
    for field in page.locator(unnamed).all():
        assert field.evaluate("field => field.labels.length > 0")


def test_a_generation_is_seen_in_time_and_what_was_chosen_stays(
    looker: Looker, looked_at: Path, tmp_path: Path
) -> None:
    folder, page = tmp_path / "out", looker.page
    state, attributes = record.load_record(looked_at / "checkpoint.h5", State)
    with Server(Watched(folder), "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
        # There is no folder yet.
        page.goto(f"http://localhost:{server.port}/")
        assert "Waiting" in str(page.locator("h1").text_content())
        folder.mkdir()
        for name in ("findings.h5", "progress.jsonl"):
            shutil.copy(looked_at / name, folder)
        (folder / ".spilegate.lock").touch()
        with Drawing(folder) as drawing:
            for generation in range(state.generation - 2, state.generation + 1):
                now = replace(state, generation=generation, history=state.history[: generation - 1])
                record.save_record(folder / "checkpoint.h5", now, attributes)
                began = time.perf_counter()
                drawing.begin(last=False)
                page.locator(f"header[data-generation='{generation}']").wait_for(timeout=20_000)
                took = time.perf_counter() - began
                # The first one waits for the program that draws to be loaded; in a run that is done before.
                assert took < IN_TIME or generation == state.generation - 2, took
                looker.slide("threshold", 40)
                page.locator("#timings").scroll_into_view_if_needed()
                page.locator("#live", has_text="Live: generation").wait_for(timeout=5000)
            place = page.evaluate("window.scrollY")
            (folder / "summary.json").write_bytes((looked_at / "summary.json").read_bytes())
            assert drawing.finish() == ""
            page.locator("header.verdict.none, header.verdict.stated").wait_for(timeout=10_000)
        assert page.locator("#threshold-out").text_content() == "40 %"
        assert page.evaluate("window.scrollY") == pytest.approx(place, abs=50)
        assert page.evaluate("document.activeElement.id") in {"threshold", ""}
        server.shutdown()
    assert looker.faults == []
    assert {url.split("/")[2] for url in looker.requests if url.startswith("http")} == {f"localhost:{server.port}"}
