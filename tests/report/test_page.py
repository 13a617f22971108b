"""The page of a run: what is in it, that it stands alone, and that nothing of what it shows can act."""

import base64
import json
import re
import shutil
import zlib
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from spilegate.errors import InputError
from spilegate.formats import record
from spilegate.formats.results import OWN_FILES
from spilegate.records import State
from spilegate.report.page import build, raster, shell, svg, volume
from spilegate.report.page.content import read
from spilegate.report.sphere import density_at, directions_of, map_points, to_plane
from spilegate.selection.record import DROPLET, REASONS, SINGLE, Selection
from spilegate.selection.written import RECORD

LIMIT = 12e6
EVIL = '<script>alert(1)</script>"onerror=x'


class Outline(HTMLParser):
    """The elements of a page, and the text outside of scripts and style."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002 - as the parser calls it
        self._inside = ""

    def handle_data(self, data: str) -> None:
        self.text += data if self._inside not in {"script", "style"} else ""


@pytest.fixture(scope="module")
def page(looked_at: Path) -> str:
    return (looked_at / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def outline(page: str) -> Outline:
    return Outline(page)


def test_it_has_the_verdict_and_a_section_for_everything(page: str, outline: Outline, looked_at: Path) -> None:
    summary = json.loads((looked_at / "summary.json").read_text(encoding="utf-8"))
    assert f"<h1>{shell.text(summary['resolution']['verdict'])}</h1>" in page
    sections = [attrs["id"] for tag, attrs in outline.elements if tag == "section"]
    assert sections == ["density", "resolution", "orientations", "patterns", "fits", "convergence", "background",
                        "timings", "settings", "methods"]  # fmt: skip
    for words in ("Fourier shell correlation", "FSC against the reference", "PRTF", "Directional correlation",
                  "Local resolution at z = 0", "Intensities of half-sets", "Beam direction", "Best: pattern",
                  "Worst: pattern", "Seconds by stage", summary["input"]["digest"], "References"):  # fmt: skip
        assert words in page, words
    assert "Cannot be shown" not in page
    assert len(page.encode()) < LIMIT


def test_it_fetches_nothing_and_runs_only_its_own_programs(page: str, outline: Outline) -> None:
    for tag, attrs in outline.elements:
        assert tag not in {"iframe", "object", "embed", "form", "base"}
        for name in ("src", "href", "action", "data"):
            assert (attrs.get(name) or "#").startswith(("#", "data:")), (tag, attrs)
        assert not [name for name in attrs if name.startswith("on")], (tag, attrs)
    policy = next(attrs["content"] for tag, attrs in outline.elements if tag == "meta" and "http-equiv" in attrs)
    assert policy
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert len(scripts) == 2
    allowed = policy.split("script-src ")[1].split(";")[0].split()
    assert allowed == [f"'sha256-{shell.digest(script)}'" for script in scripts]
    assert "Redistributions in binary form" in page


def test_what_files_say_is_shown_and_never_obeyed(tmp_path: Path, looked_at: Path) -> None:
    folder = tmp_path / "<b>out"
    shutil.copytree(looked_at, folder)
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    summary["input"]["file"] = summary["resolution"]["verdict"] = summary["convergence"] = EVIL
    summary["input"]["remarks"] = [EVIL]
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    (folder / "methods.md").write_text(f"# Methods\n\n{EVIL}\n\n| a | b |\n|---|---|\n| {EVIL} | `{EVIL}` |\n")
    written = build.write(folder)[0].read_text(encoding="utf-8")
    assert "<script>alert" not in written
    assert "<b>out" not in written
    outline = Outline(written)
    assert outline.text.count("alert(1)") >= 6
    assert not [attrs for _, attrs in outline.elements if "onerror" in attrs]


def test_everything_has_a_name_for_those_who_do_not_see(outline: Outline) -> None:
    elements = outline.elements
    for tag, attrs in elements:
        if tag == "img" and attrs["id" if "id" in attrs else "alt"] != "surface-print":
            assert attrs["alt"], attrs
        if (tag == "svg" and "aria-hidden" not in attrs) or tag == "canvas":
            assert attrs["role"] == "img", attrs
            assert attrs["aria-label"]
    idents = [attrs["id"] for _, attrs in elements if "id" in attrs]
    assert len(idents) == len(set(idents))
    tags = [tag for tag, _ in elements]
    assert [tags.count(tag) for tag in ("h1", "main", "header", "nav", "footer")] == [1] * 5
    assert dict(elements)["html"]["lang"] == "en"


def test_before_the_end_it_shows_what_there_is(tmp_path: Path, looked_at: Path) -> None:
    for name in ("checkpoint.h5", "findings.h5", "progress.jsonl", "summary.json"):
        shutil.copy(looked_at / name, tmp_path)
    state, attributes = record.load_record(tmp_path / "checkpoint.h5", State)
    # A summary of another generation is of an earlier run.
    earlier = replace(state, generation=state.generation - 1, history=state.history[:-1])
    record.save_record(tmp_path / "checkpoint.h5", earlier, attributes)
    path, ended = build.write(tmp_path)
    assert not ended
    page = path.read_text(encoding="utf-8")
    assert f'data-generation="{earlier.generation}"' in page
    assert "no verdict yet" in page
    assert 'id="convergence"' in page
    assert 'id="resolution"' not in page
    assert len(page) < 1.2e6
    blank = replace(earlier, density=np.zeros_like(state.density), weight=np.zeros_like(state.weight))
    record.save_record(tmp_path / "checkpoint.h5", blank, attributes)
    assert "Nothing has been phased yet" in build.write(tmp_path)[0].read_text(encoding="utf-8")


def test_several_states_are_all_there_and_stay_small(tmp_path: Path, looked_at: Path) -> None:
    for name in ("checkpoint.h5", "progress.jsonl"):
        shutil.copy(looked_at / name, tmp_path)
    state, attributes = record.load_record(tmp_path / "checkpoint.h5", State)
    many = {name: np.repeat(getattr(state, name), 6, axis=0) for name in ("density", "support", "autocorrelation")}
    record.save_record(tmp_path / "checkpoint.h5", replace(state, **many), attributes)
    page = build.write(tmp_path)[0].read_text(encoding="utf-8")
    assert page.count("<option") == 6
    assert len(page) < 3e6


def test_a_summary_of_another_version_costs_its_sections_only(tmp_path: Path, looked_at: Path) -> None:
    shutil.copytree(looked_at, tmp_path / "out")
    path = tmp_path / "out" / "summary.json"
    summary = json.loads(path.read_text(encoding="utf-8"))
    del summary["left_out"], summary["background"]
    path.write_text(json.dumps(summary), encoding="utf-8")
    page = build.write(tmp_path / "out")[0].read_text(encoding="utf-8")
    assert page.count("Cannot be shown: summary.json is not as this version writes it") == 2
    with pytest.raises(InputError, match=r"checkpoint\.h5: not found"):
        build.write(tmp_path)
    assert OWN_FILES.fullmatch("report.html")


def test_a_selection_in_the_folder_is_shown(tmp_path: Path, looked_at: Path) -> None:
    shutil.copytree(looked_at, tmp_path / "out")
    count = len(read(looked_at).state.weight)
    reason = np.where(np.arange(count) % 4 == 0, DROPLET, SINGLE)
    values, none = np.linspace(0.1, 0.9, count), np.zeros(count)
    selection = Selection(
        single=values, reason=reason, photons=1000 * values, shown=none < 1, compared=none < 1,
        diameter_angstrom=500 + 100 * values, aspect=none, brightness=values, misfit=none, structure=none,
        model_misfit=none, group=reason, label=np.arange(count) % 3,
        class_means=np.random.default_rng(0).uniform(0, 1, (3, 8, 8)).astype(np.float32), class_extent=0.1,
        window_angstrom=np.array([510.0, 590.0]), said="",
    )  # fmt: skip
    record.save_record(tmp_path / "out" / RECORD, selection, {})
    page = build.write(tmp_path / "out")[0].read_text(encoding="utf-8")
    stated = f"{selection.purity:.0%} ± {selection.purity_error:.0%} of those kept"
    for words in (stated, f"{selection.lost:.0%} of the single particles", "510 to 590 Å wide", REASONS[DROPLET],
                  "Class 2: 40 patterns", "Sizes, by the spheroid that fits each"):  # fmt: skip
        assert words in page, words
    (tmp_path / "out" / RECORD).write_bytes(b"something else")
    assert "Class 2" not in build.write(tmp_path / "out")[0].read_text(encoding="utf-8")


# --- its parts --------------------------------------------------------------------------------------------------------


def test_a_density_keeps_its_places_when_it_is_cut_and_refined(looked_at: Path) -> None:
    state = read(looked_at).state
    (box,) = volume.boxes(state.density, state.support, state.voxel_angstrom, final=True)
    middle = ndimage.center_of_mass(state.density[0])
    inside = np.array(ndimage.center_of_mass(box.values)) * box.step_angstrom + box.origin_angstrom
    size = len(state.density[0])
    expected = (np.array(middle) - size // 2) * state.voxel_angstrom
    np.testing.assert_allclose(inside, expected, atol=0.15 * state.voxel_angstrom)
    assert box.values.max() == volume.LEVELS
    big = np.repeat(np.repeat(np.repeat(state.density[0], 5, 0), 5, 1), 5, 2)
    coarse = volume.boxed(big, big > 0, state.voxel_angstrom / 5, volume.SMALL)
    assert max(coarse.values.shape) <= volume.SMOOTH


def test_a_picture_has_the_colours_of_its_values() -> None:
    values = np.array([[0.0, 0.5], [1.0, np.nan]])
    content = raster.png(raster.Scale(0.0, 1.0).levels(values), "viridis")
    assert content.startswith(b"\x89PNG")
    body = content[content.index(b"IDAT") + 4 :]
    rows = zlib.decompress(body)
    assert [*rows] == [0, 0, 127, 0, 254, raster.LEVELS]
    colours = raster.palette("viridis")
    assert colours[[0, 127, 254]].tolist() == [[68, 1, 84], [33, 145, 140], [253, 231, 37]]
    assert raster.Scale(1.0, 100.0, logarithmic=True).levels(np.array([0.1, 10.0, 1e9])).tolist() == [0, 127, 254]
    assert base64.b64encode(content).decode() in raster.image(values, raster.Scale(0.0, 1.0), "x")


def test_large_pictures_are_means_of_blocks() -> None:
    values = np.full((900, 31), 2.0)
    values[:450] = np.nan
    small = raster.reduced(values)
    assert small.shape == (300, 11)
    assert np.isnan(small[:150]).all()
    assert (small[150:] == 2).all()


def test_axes_have_few_round_marks() -> None:
    assert [label for _, label in svg.Axis("", 0.0, 0.131).marks()] == ["0", "0.05", "0.1"]
    assert [label for _, label in svg.Axis("", 1e-5, 2e-2, logarithmic=True).marks()][-1] == "0.01"
    marks = svg.Axis("", 0.16, 0.8, logarithmic=True).marks()
    assert [label for _, label in marks] == ["0.2", "0.3", "0.4", "0.5", "0.6", "0.8"]
    for low, high in ((0, 1), (-3.3, 12), (1e-9, 2e-9), (5, 5e6)):
        assert 2 <= len(svg.Axis("", low, high).marks()) <= 8
    chart = svg.chart([svg.Line([1, 2], [float("nan"), 1.0], "<a>"), svg.Line([1, 2], [1.0, 2.0], "b")],
                      svg.Axis("x", 0, 3), svg.Axis("y", 0, 3), "<what>")  # fmt: skip
    assert "<a>" not in chart
    assert "&lt;what&gt;" in chart
    assert "nan" not in chart


def test_the_map_of_the_sphere_keeps_areas_and_places() -> None:
    points = map_points(60)
    known = points[np.isfinite(points[..., 0])]
    np.testing.assert_allclose(np.linalg.norm(known, axis=1), 1)
    # Pixels of equal area: the mean of a square is a third.
    np.testing.assert_allclose((known**2).mean(axis=0), 1 / 3, atol=0.01)
    x, y = to_plane(known)
    rows, columns = np.nonzero(np.isfinite(points[..., 0]))
    np.testing.assert_allclose(x, ((columns + 0.5) / 60 - 1) * 2, atol=0.02)
    np.testing.assert_allclose(y, 1 - (rows + 0.5) / 30, atol=0.02)
    there = directions_of(np.array([0.3]), np.array([0.2]))
    assert density_at(there, np.repeat(there, 50, axis=0))[0] > 3
