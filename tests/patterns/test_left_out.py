"""Patterns that are left out, by the user or for what they are: through a whole run, from the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from command_line import QUICK, run

from spilegate.commands.configuration import load_settings
from spilegate.errors import InputError


def test_a_run_says_which_frames_it_does_not_use_and_keeps_their_places(tmp_path: Path, data: Path) -> None:
    path, listed, folder = tmp_path / "frames.h5", tmp_path / "bad.txt", tmp_path / "out"
    shutil.copy(data, path)
    with h5py.File(path, "r+") as file:
        images = file["intensities"][()]
        images[3] = images[8] = 0
        images[5] = np.random.default_rng(0).random(images[5].shape) * 1e-4 * images.mean()
        file["intensities"][...] = images
    listed.write_text("10\n12:14\n")
    result = run("reconstruct", path, "--output", folder, *QUICK, "--set", f"prepare.leave_out={listed}")
    assert result.exit_code == 0, result.output
    said = " ".join(result.output.split())
    count = len(images)
    for text in ("3 of {} patterns (the first: number 10,", "2 of {} patterns (the first: number 3,"):
        assert text.format(count) in said
    with h5py.File(folder / "orientations.h5") as file:
        weight = file["weight"][()]
    assert len(weight) == count
    assert not weight[[3, 8, 10, 12, 13]].any()
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["settings"]["prepare"]["leave_out"] == "10,12:14"
    assert {3, 8, 10, 12, 13} <= set(summary["outliers"])


def test_a_list_may_be_numbers_toml_or_a_file(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_text("1, 2\n 5:9\n\n")
    config = tmp_path / "settings.toml"
    config.write_text("[prepare]\nuse = [3, '10:20']\n")
    assert load_settings(config, [], {}).prepare.use == "3,10:20"
    for text, expected in (("7", "7"), ("3,10:", "3,10:"), (str(path), "1,2,5:9"), ("none", None), ("[4, 5]", "4,5")):
        assert load_settings(None, [f"prepare.leave_out={text}"], {}).prepare.leave_out == expected


@pytest.mark.parametrize("content", [None, "", "3.5\n", "a b"])
def test_a_list_that_cannot_be_read_is_refused(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "list.txt"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match="expected numbers") as caught:
        load_settings(None, [f"prepare.leave_out={path}"], {})
    assert "\n" not in str(caught.value)
