"""Departures from an ideal experiment on the command line: every option reaches the file, bad ones end in one line."""

from pathlib import Path

import numpy as np
import pytest
from command_line import assert_one_line, run
from photons import heap, run_simulation

from spilegate.formats import reader, spinifel


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """PDB files of two states."""
    folder, written = tmp_path_factory.mktemp("models"), []
    for k, name in enumerate(("open", "closed")):
        lines = [
            f"ATOM  {i:5d}  CA  ALA A{i:4d}    {x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00           C"
            for i, (x, y, z) in enumerate(heap(1 + k / 2, name).positions, start=1)
        ]
        written.append(folder / f"{name}.pdb")
        written[-1].write_text("\n".join([*lines, "END", ""]))
    return written


def test_every_option_reaches_the_file(tmp_path: Path, models: list[Path]) -> None:
    path = tmp_path / "data.h5"
    result = run(
        "simulate", "--images", 200, "--pixels", 24, "--resolution-angstrom", 6, "--photons", 3000, "--seed", 2,
        "--states", f"{models[0]}, {models[1]}", "--populations", "0.25,0.75", "--mask", "cross,beamstop",
        "--scale-decades", 1, "--background", 0.2, "--known-background", "--junk", 0.1, "--polarisation", "horizontal",
        "--solid-angle", "--hot-pixels", 2, "--output", path,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    found, dataset = spinifel.read_truth(path), reader.read(path)
    assert found.state is not None
    assert found.scale is not None
    assert found.volumes is not None
    share = np.bincount(found.state + 1) / 200
    assert share[0] == 0.1
    assert share[2] / share[1:].sum() == pytest.approx(0.75, abs=0.1)
    assert np.ptp(np.log10(found.scale)) == pytest.approx(1, abs=0.1)
    assert len(found.volumes) == 2
    assert found.hot_pixels is not None
    assert len(found.hot_pixels) == pytest.approx(400, abs=80)
    assert (dataset.images[tuple(found.hot_pixels.T)] > 0).all()
    assert dataset.background is not None
    assert dataset.background.max() > 0
    assert 0 < (dataset.mask == 2).mean() < 0.5
    again = tmp_path / "again.h5"
    options = [*map(str, ("simulate", "--pdb", models[0], "--images", 30, "--pixels", 24, "--output"))]
    assert run(*options, again).exit_code == 0
    assert run(*options, tmp_path / "polarised.h5", "--polarisation", "vertical").exit_code == 0
    plain, polarised = (reader.read(tmp_path / name).images for name in ("again.h5", "polarised.h5"))
    assert not np.array_equal(plain, polarised)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--pdb", "{0}", "--states", "{0},{1}"], "--pdb and --states: found together"),
        (["--particle", "demo", "--states", "{0},{1}"], "--particle and --states: found together"),
        (["--states", "{0}"], "expected two files or more"),
        (["--states", "{0},nowhere.pdb"], "nowhere.pdb: not found"),
        (["--states", "{0},{1}", "--populations", "0.5"], "populations = 0.5 for 2 states"),
        (["--states", "{0},{1}", "--populations", "half,half"], "--populations: found 'half,half'"),
        (["--populations", "1"], "--populations: found without --states"),
        (["--mask", "cross,hole"], "mask = 'hole'"),
        (["--mask", ""], "mask = ''"),
        (["--polarisation", "round"], "--polarisation"),
        (["--junk", "0.1"], "photons = none"),
        (["--junk", "2"], "junk = 2"),
        (["--background", "-1"], "background = -1"),
        (["--known-background"], "background = 0"),
        (["--scale-decades", "inf"], "scale_decades = inf"),
        (["--hot-pixels", "-1"], "hot_pixels = -1"),
    ],
)
def test_bad_options_end_in_one_line(tmp_path: Path, models: list[Path], options: list[str], message: str) -> None:
    path = tmp_path / "new.h5"
    filled = [option.format(*models) for option in options]
    result = run("simulate", "--images", 30, "--pixels", 16, *filled, "--output", path)
    assert_one_line(result.exit_code, result.stdout, result.stderr, message)
    assert not path.exists()


def test_inspect_names_the_truth_there_is(tmp_path: Path) -> None:
    spinifel.write(tmp_path / "data.h5", run_simulation(junk=0.2))
    result = run("inspect", tmp_path / "data.h5")
    assert result.exit_code == 0
    assert "orientations, volume, truth/state, truth/scale, truth/kind" in result.stdout
