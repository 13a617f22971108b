"""Single particles told from everything else without labels; by hand, classes of them kept and dropped."""

from dataclasses import fields, replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from command_line import QUICK_SELECT

from spilegate.commands.configuration import load_settings
from spilegate.commands.selecting import some
from spilegate.errors import InputError
from spilegate.formats.reader import read
from spilegate.formats.record import load_record
from spilegate.kernels.workers import Threads
from spilegate.records import Dataset
from spilegate.selection import by_hand
from spilegate.selection.choosing import select
from spilegate.selection.record import ASKED, BLANK, DROPLET, REASONS, SINGLE, Selection
from spilegate.simulation.conditions import BLANK as NOTHING
from spilegate.simulation.conditions import DROPLET as BALL


@pytest.fixture(scope="module")
def found(selected: Path) -> Selection:
    return load_record(selected / "selection.h5", Selection)[0]


@pytest.fixture(scope="module")
def kind(mixed: Path) -> np.ndarray:
    """What every pattern shows: 0 for a single particle."""
    with h5py.File(mixed) as file:
        return file["truth/kind"][()]


def test_singles_are_found_blind(found: Selection, kind: np.ndarray) -> None:
    kept, single = found.kept, kind == 0
    purity = single[kept].mean()
    assert purity > 0.94
    assert kept[single].mean() > 0.95
    assert abs(found.purity - purity) < 0.03
    assert abs(found.lost - (~kept[single]).mean()) < 0.03
    assert (found.reason[kind == NOTHING] == BLANK).all()
    assert not found.shown[kind == NOTHING].any()
    assert (found.reason[kind == BALL] == DROPLET).mean() > 0.4
    # The window is of the particle: it holds its spheroids, and few droplets of other sizes.
    low, high = found.window_angstrom
    inside = (found.diameter_angstrom >= low) & (found.diameter_angstrom <= high)
    assert inside[single].mean() > 0.9
    assert inside[kind == BALL].mean() < 0.5


def test_probabilities_and_classes_are_of_what_is_seen(found: Selection, kind: np.ndarray) -> None:
    assert found.single[kind == 0].mean() > 0.9
    assert found.single[kind != 0].mean() < 0.1
    mixed_up = 0.0
    for number in range(len(found.class_means)):
        members = kind[found.label == number] == 0
        assert len(members) >= 3
        mixed_up += min(members.sum(), (~members).sum())
    assert mixed_up / (found.label >= 0).sum() < 0.15


def test_threads_change_no_bit(found: Selection, mixed: Path) -> None:
    settings = load_settings(None, [*QUICK_SELECT[1::2], "compute.threads=1"], {})
    dataset = read(mixed, **settings.prepare.reading)
    again = select(dataset, settings, lambda numbers: some(dataset, numbers, Threads(1)))
    for field in fields(Selection):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(found, field.name), err_msg=field.name)


def test_some_patterns_keep_what_they_lack_and_came_from(mixed: Path) -> None:
    dataset = read(mixed)
    lacking = replace(dataset, missing_pattern=np.array([2, 5, 5, 9]), missing_pixel=np.array([1, 2, 3, 4]))
    few = some(lacking, np.array([2, 3, 9]), Threads(1))
    np.testing.assert_array_equal(few.images, dataset.images[[2, 3, 9]])
    assert few.missing_pattern.tolist() == [0, 2]
    assert few.missing_pixel.tolist() == [1, 4]
    assert few.origin.values["index"].tolist() == [2, 3, 9]
    # The same as is read of the file.
    own: Dataset = read(mixed, which=np.array([2, 3, 9, 10, 11, 12]))
    np.testing.assert_array_equal(own.images[:3], few.images)
    assert own.origin.values["index"].tolist() == [2, 3, 9, 10, 11, 12]


def made(count: int = 12) -> Selection:
    """Three classes of which the first is kept; two patterns of no class, of which one was left out as asked."""
    label = np.repeat([0, 1, 2, -1], [4, 3, 3, 2])
    reason = np.where(label == 0, SINGLE, DROPLET)
    reason[[4, 11]] = ASKED
    zero = np.zeros(count)
    return Selection(
        single=np.where(label == 0, 0.9, 0.2), reason=reason, photons=zero, shown=label >= 0,
        compared=np.zeros(count, np.bool_), diameter_angstrom=zero + 50, aspect=zero + 1, brightness=zero, misfit=zero,
        structure=zero, model_misfit=zero, group=label, label=label, class_means=np.zeros((3, 8, 8), np.float32),
        class_extent=0.1, window_angstrom=np.array([40.0, 60.0]), said="",
    )  # fmt: skip


def test_classes_are_kept_and_dropped_by_hand() -> None:
    first = made()
    second = by_hand.changed(first, [1], None)
    assert np.flatnonzero(second.kept).tolist() == [0, 1, 2, 3, 5, 6]
    assert second.words()[4:7] == ["left out as asked", "kept by hand", "kept by hand"]
    assert second.purity == pytest.approx((4 * 0.9 + 2 * 0.2) / 6)
    third = by_hand.changed(second, [2], [0])
    assert np.flatnonzero(third.kept).tolist() == [5, 6, 7, 8, 9]
    assert "3 patterns added, 4 removed; 5 of 12 kept" in by_hand.said(second, third)[0]
    assert not list(third.faults())
    # What was found stays known.
    back = by_hand.changed(third, [], [])
    np.testing.assert_array_equal(back.kept, first.kept)
    assert back.words()[0] == REASONS[SINGLE]


@pytest.mark.parametrize(
    ("keep", "drop", "message"),
    [
        ([3], None, "--keep: class 3; expected 0 to 2"),
        ([1], [1], "found class 1 in both"),
        (None, [0, 1, 2], "no pattern would be left"),
    ],
)
def test_choices_that_make_no_sense_are_refused(keep: list[int] | None, drop: list[int] | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        by_hand.changed(made(), keep, drop)


def test_numbers_of_classes_are_read() -> None:
    assert by_hand.numbers_of(" 0, 3", "--keep") == [0, 3]
    assert by_hand.numbers_of("None", "--keep") == []
    assert by_hand.numbers_of(None, "--keep") is None
    for text in ("", "1-3", "-1", "a", "²"):
        with pytest.raises(InputError, match="expected numbers of classes"):
            by_hand.numbers_of(text, "--drop")
