"""What `inspect` says of a file before anything is started, and the command line that it suggests."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from command_line import assert_one_line, run

from spilegate.formats import reader
from spilegate.formats.flat import Flat
from spilegate.geometry import orientations
from spilegate.patterns.prepare import prepare
from spilegate.settings import Settings
from spilegate.simulation.particle import built_in_particle
from spilegate.simulation.scattering import patterns

SIZE, OFF = 40, (2.0, -3.0)
BEAM = ((SIZE - 1) / 2 + OFF[0], (SIZE - 1) / 2 + OFF[1])
PLACED = ["--wavelength-angstrom", "1.0", "--distance-m", "0.1", "--pixel-um", "300"]
KNOWN = ["--diameter-angstrom", "62"]


def facts(*words: object) -> tuple[dict[str, str], str]:
    """What is said by name, and the last line."""
    result = run("inspect", *words)
    assert result.exit_code == 0, result.output
    *lines, last = result.stdout.splitlines()
    return {name: value.strip() for name, value in (line.split(None, 1) for line in lines)}, last


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Patterns and a mask in a file that says nothing else; the beam is not in the middle."""
    path = tmp_path_factory.mktemp("a file") / "run 7.h5"
    detector = Flat((1, SIZE, SIZE), 0.1, (3e-4, 3e-4), BEAM, 1.0)
    rng = np.random.default_rng(2)
    rotations = orientations.matrices(orientations.random_quaternions(100, rng))
    shown = patterns(built_in_particle("demo"), detector.q.reshape(-1, 3), rotations, threads=1)
    with h5py.File(path, "w") as file:
        file["data"] = rng.poisson(shown * (5000 / shown.sum(1).mean())).reshape(-1, SIZE, SIZE).astype("u2")
        mask = np.zeros((SIZE, SIZE), np.uint8)
        mask[:, 4] = 1
        file["mask"] = mask
    return path


def test_speckle_is_what_the_diameter_and_the_pixels_make_it(data: Path) -> None:
    said, _ = facts(data, *KNOWN)
    side = float(said["resolution_side_angstrom"])
    # 40 pixels across the detector, from the outermost centres.
    assert float(said["speckle_pixels"]) == pytest.approx(side * 39 / 2 / 62, rel=0.01)
    assert float(said["speckles_to_edge"]) == pytest.approx(62 / side, rel=0.01)
    assert said["diameter_angstrom"] == "62 (given)"
    assert said["missing"] == "nothing"
    assert re.match(r"row 19\.5, column 19\.5: where positions say \(off by 0\.\d", said["beam_centre"])


def test_a_diameter_that_is_not_given_is_estimated_as_a_run_does_it(data: Path) -> None:
    said, _ = facts(data)
    assert said["diameter_angstrom"] == f"{prepare(reader.read(data), Settings()).diameter_angstrom:.6g} (estimated)"


def test_what_a_file_lacks_is_said_with_the_options_that_supply_it(flat: Path) -> None:
    said, last = facts(flat, "--pixel-um", 300)
    for option in ("--wavelength-angstrom NUMBER", "--distance-m NUMBER"):
        assert option in said["missing"]
        assert option in last
    assert "--pixel-um NUMBER" not in said["missing"]
    assert said["patterns"] == "100"
    assert "does not say the wavelength" in said["usable"]
    assert shlex.split(last)[:5] == ["spilegate", "reconstruct", str(flat), "--output", "out/"]


def test_a_centre_that_is_off_is_said_and_mended_by_the_suggested_line(flat: Path) -> None:
    said, last = facts(flat, *PLACED, *KNOWN)
    assert said["beam_centre"].startswith(
        "beam centre looks 3.6 pixels off (row +2.0, column -3.0): --centre 21.5,16.5"
    )
    words = shlex.split(last)
    assert words[words.index("--centre") + 1] == "21.5,16.5"
    assert words[5 : 5 + len(PLACED)] == PLACED
    again, last = facts(*(word for word in words[2:] if word not in ("--output", "out/")))
    assert again["beam_centre"].startswith("row 21.5, column 16.5: where positions say")
    assert last.count("--centre") == 1
    # Another centre than the one given replaces it.
    _, last = facts(flat, *PLACED, *KNOWN, "--centre", "20.5,17")
    assert shlex.split(last).count("--centre") == 1
    found, last = facts(flat, *PLACED, *KNOWN, "--centre", "auto")
    assert "--centre auto" in last
    place = re.fullmatch(r"beam centre found in the patterns: --centre ([\d.]+),([\d.]+)", found["beam_centre"])
    assert place is not None
    np.testing.assert_allclose([float(part) for part in place.groups()], BEAM, atol=0.15)


def test_too_few_patterns_are_described_though_their_centre_cannot_be_found(flat: Path, tmp_path: Path) -> None:
    few = tmp_path / "few.h5"
    with h5py.File(flat) as file, h5py.File(few, "w") as other:
        other["data"] = file["data"][:4]
    found, _ = facts(few, *PLACED, *KNOWN, "--centre", "auto")
    assert found["usable"] == "4 patterns; expected at least 6"
    assert found["taken_for"] == "photons"


def test_the_sense_of_a_mask_is_said(flat: Path, data: Path, tmp_path: Path) -> None:
    said, _ = facts(flat, *PLACED, *KNOWN)
    assert said["mask"] == f"{100 / SIZE:.1f} % never used, 0.0 % merge only"
    assert said["mask_means"] == "0 good, all else bad"
    assert facts(data, *KNOWN)[0]["mask_means"] == "nothing is masked"
    path = Path(shutil.copy(data, tmp_path))
    with h5py.File(path, "r+") as file:
        file["mask"] = np.zeros(file["intensities"].shape[1:], np.uint8)
    assert facts(path, *KNOWN)[0]["mask_means"].startswith("0 use, 1 merge only, 2 never")


def test_the_suggested_line_has_what_was_given_and_bins_what_is_too_fine(data: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    given = ["--set", "matching.method=gemm", "--diameter-angstrom", "30", "--no-half-sets"]
    said, last = facts(data, "--log", log, *given, "--debug")
    assert float(said["speckle_pixels"]) > 8
    expected = ["spilegate", "reconstruct", str(data), "--output", "out/", *given, "--set", "prepare.binning=2"]
    assert shlex.split(last) == expected
    said, last = facts(data, *given, "--set", "prepare.binning=2")
    assert 4 <= float(said["speckle_pixels"]) <= 8
    assert shlex.split(last) == expected


def test_memory_and_time_are_said_and_grow_with_the_patterns_and_without_half_sets_shrink(data: Path) -> None:
    said, _ = facts(data, *KNOWN, "--set", "compute.threads=1")
    assert 0.2 < float(said["memory_gib"]) < 2
    assert 0.05 < float(said["minutes"].split()[0]) < 5
    assert said["minutes"].endswith("(1 threads, 4 generations, half-sets)")
    without, _ = facts(data, *KNOWN, "--set", "compute.threads=1", "--no-half-sets")
    assert float(without["minutes"].split()[0]) < 0.8 * float(said["minutes"].split()[0])


def test_no_estimate_where_there_will_be_no_run(data: Path) -> None:
    said, _ = facts(data, "--diameter-angstrom", "8")
    assert said["minutes"].startswith("no run: this file: the detector ends at")


def png(path: Path) -> tuple[int, int]:
    """Width and height of a picture."""
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG")
    return int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")


def test_a_picture_is_drawn_where_it_is_wanted_and_nothing_is_overwritten(flat: Path, tmp_path: Path) -> None:
    picture = tmp_path / "mean.png"
    _, last = facts(flat, *PLACED, *KNOWN, "--picture", picture)
    assert "--picture" not in last
    assert min(png(picture)) > 500
    assert png(picture)[0] > png(picture)[1]
    before = picture.read_bytes()
    result = run("inspect", flat, *PLACED, "--picture", picture)
    assert_one_line(result.exit_code, result.stdout, result.stderr, "mean.png")
    assert picture.read_bytes() == before
