"""`spilegate select`: its files, its refusals, and what is done with its lists."""

import csv
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from command_line import QUICK, QUICK_SELECT, assert_one_line, content, run

from spilegate.commands.choice import picked
from spilegate.errors import InputError
from spilegate.formats import results
from spilegate.formats.record import load_record, save_record
from spilegate.formats.selection import chosen
from spilegate.report.selected_gallery import example_numbers
from spilegate.selection.record import Selection

FILES = {"selection.h5", "selection.csv", "kept.txt", "left_out.txt", "gallery.html", "figures/sizes.png",
         "figures/classes.png"}  # fmt: skip


@pytest.fixture
def copy(selected: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(selected, tmp_path / "copy"))


def numbers(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().splitlines()]


def test_it_writes_lists_table_record_and_pictures(selected: Path, mixed: Path) -> None:
    assert set(content(selected)) == FILES | {"run.log"}
    found, attributes = load_record(selected / "selection.h5", Selection)
    assert attributes["file"] == str(mixed)
    assert len(attributes["digest"]) == 64
    kept, left = numbers(selected / "kept.txt"), numbers(selected / "left_out.txt")
    assert kept == np.flatnonzero(found.kept).tolist()
    assert sorted(kept + left) == list(range(500))
    with (selected / "selection.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["number"]) for row in rows if row["kept"] == "1"] == kept
    assert [int(row["index"]) for row in rows] == list(range(500))
    assert {row["file"] for row in rows} == {str(mixed)}
    assert {row["reason"] for row in rows if row["kept"] == "1"} == {"single particle"}
    for row, shown, compared, diameter, label in zip(
        rows, found.shown, found.compared, found.diameter_angstrom, found.label, strict=True
    ):
        assert bool(row["diameter_angstrom"]) == shown
        assert not shown or float(row["diameter_angstrom"]) == pytest.approx(diameter, rel=1e-5)
        assert bool(row["model_misfit"]) == compared
        assert row["class"] == (str(label) if label >= 0 else "")
    log = (selected / "run.log").read_text()
    assert f"{len(kept)} of 500 patterns kept" in log
    assert "by estimate" in log
    assert f"--select {selected / 'selection.h5'}" in log
    for name in FILES:
        part = results.SELECTION.figures if name.startswith("figures/") else results.SELECTION.files
        assert part.fullmatch(Path(name).name)
    page = (selected / "gallery.html").read_text()
    assert f"{len(kept)} of 500 patterns are proposed" in page
    assert page.count('<figure class="class"') == len(found.class_means)


def test_examples_are_of_all_classes_from_the_surest_on() -> None:
    label = np.array([0, 1, 1, -1, 1, 0])
    single = np.array([0.1, 0.2, 0.9, 1.0, 0.5, 0.8])
    assert example_numbers(label, single).tolist() == [5, 0, 2, 4, 1]


def test_classes_are_chosen_by_hand(copy: Path, mixed: Path) -> None:
    before, _ = load_record(copy / "selection.h5", Selection)
    other = int(before.label[~before.kept & (before.label >= 0)][0])
    result = run("select", mixed, "--output", copy, "--keep", other, "--log", copy / "run.log")
    assert result.exit_code == 0, result.output
    added = np.flatnonzero(before.label == other)
    assert f"{(~before.kept[added]).sum()} patterns added, 0 removed" in result.output
    assert set(numbers(copy / "kept.txt")) == set(np.flatnonzero(before.kept)) | set(added)
    with (copy / "selection.csv").open(newline="") as file:
        assert {row["reason"] for row in csv.DictReader(file) if row["class"] == str(other)} == {"kept by hand"}
    result = run("select", mixed, "--output", copy, "--keep", "none", "--quiet")
    assert result.exit_code == 0, result.output
    assert result.output == ""
    assert numbers(copy / "kept.txt") == np.flatnonzero(before.kept).tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "not empty; expected a new or empty folder; name another one, --force overwrites an earlier selection"),
        (["--keep", "99"], "--keep: class 99; expected 0 to"),
        (["--drop", "one"], "--drop one: expected numbers of classes, such as 0,3, or none"),
        (["--keep", "0", "--force"], "--force: found with --keep or --drop"),
        (["--force", "--diameter-angstrom", "4000"], "found a particle of 4000 angstrom"),
    ],
)
def test_refusals_are_one_line_and_change_nothing(copy: Path, mixed: Path, arguments: list[str], message: str) -> None:
    before = content(copy)
    result = run("select", mixed, "--output", copy, *arguments)
    assert_one_line(result.exit_code, result.stdout, result.stderr, message)
    assert content(copy) == before


def test_choices_by_hand_want_a_selection_of_the_same_patterns(copy: Path, data: Path, tmp_path: Path) -> None:
    result = run("select", data, "--output", tmp_path / "new", "--keep", "0")
    assert_one_line(result.exit_code, result.stdout, result.stderr, "no selection.h5; expected the selection")
    assert not (tmp_path / "new").exists()
    before = content(copy)
    result = run("select", data, "--output", copy, "--drop", "0")
    assert_one_line(result.exit_code, result.stdout, result.stderr, "and not of the patterns in")
    assert content(copy) == before


def test_too_few_patterns_are_refused(data: Path, tmp_path: Path) -> None:
    few = tmp_path / "few.h5"
    assert run("convert", data, few, "--select", "0:4").exit_code == 0
    result = run("select", few, "--output", tmp_path / "out", *QUICK_SELECT)
    assert_one_line(result.exit_code, result.stdout, result.stderr, "4 patterns; expected at least 6")
    assert not (tmp_path / "out").exists()


def test_convert_takes_a_selection_and_keeps_where_patterns_came_from(
    selected: Path, mixed: Path, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "singles.h5"
    result = run("convert", mixed, out, "--select", selected / "selection.h5")
    assert result.exit_code == 0, result.output
    with h5py.File(out) as file:
        assert file["origin/index"][()].tolist() == numbers(selected / "kept.txt")
    result = run("convert", data, tmp_path / "other.h5", "--select", selected / "selection.h5")
    assert_one_line(result.exit_code, result.stdout, result.stderr, "of 500 patterns; expected a selection of the 120")


def test_what_select_names_is_one_list(selected: Path, mixed: Path, data: Path) -> None:
    kept = numbers(selected / "kept.txt")
    for text in (str(selected / "selection.h5"), str(selected / "kept.txt")):
        choice = picked(text, mixed)
        assert chosen(choice.listed, mixed, 500).tolist() == kept
    assert picked(None, mixed).listed is None
    assert picked("3,10:20", mixed).listed == "3,10:20"
    # By conditions on what the file says.
    with h5py.File(mixed) as file:
        single = np.flatnonzero(file["truth/kind"][()] == 0).tolist()
    assert chosen(picked("truth/kind == 0", mixed).listed, mixed, 500).tolist() == single
    with pytest.raises(InputError, match=r"none of 500 patterns; expected some"):
        picked("truth/kind > 77", mixed)
    with pytest.raises(InputError, match="expected 'Selection'"):
        picked(str(data), mixed)


def test_reconstruct_takes_a_selection_of_its_patterns(selected: Path, mixed: Path, data: Path, tmp_path: Path) -> None:
    result = run("reconstruct", data, "--output", tmp_path / "out", "--select", selected / "selection.h5", *QUICK)
    assert_one_line(result.exit_code, result.stdout, result.stderr, "of 500 patterns; expected a selection of the 120")
    found, attributes = load_record(selected / "selection.h5", Selection)
    other = tmp_path / "other.h5"
    save_record(other, found, attributes | {"digest": "0" * 64})
    result = run("reconstruct", mixed, "--output", tmp_path / "out", "--select", other, *QUICK)
    assert_one_line(result.exit_code, result.stdout, result.stderr, "of other patterns than those of")
    assert not (tmp_path / "out").exists()
    out = tmp_path / "out"
    result = run("reconstruct", data, "--output", out, "--select", "20:110", *QUICK)
    assert result.exit_code == 0, result.output
    _, kept = results.read_assignments(out / "orientations.h5")
    assert kept is not None
    assert not kept[:20].any()
    assert not kept[110:].any()
    assert kept[20:110].mean() > 0.9
