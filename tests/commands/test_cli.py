"""The command line, end to end: what it does, and how every kind of bad input ends."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from command_line import SMALL, assert_one_line, content, process, run

import spilegate
from spilegate.commands.configuration import load_settings, setting_paths
from spilegate.errors import InputError
from spilegate.settings import Settings

# --- help, version, entry points -------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["", "reconstruct", "simulate", "evaluate", "inspect"])
def test_help(command: str) -> None:
    result = run(*filter(None, [command]), "--help")
    assert result.exit_code == 0
    assert "Usage" in result.stdout
    if command:
        plain = re.sub(r"\x1b\[[0-9;]*m", "", result.stdout)
        assert all(option in plain for option in ("--quiet", "--log", "--debug"))


def test_without_a_command_help_is_shown() -> None:
    result = run()
    assert result.exit_code == 0
    assert "reconstruct" in result.stdout


def test_version() -> None:
    assert run("--version").stdout == f"spilegate {spilegate.__version__}\n"


def test_main_by_path_runs_from_any_folder_without_being_installed(tmp_path: Path) -> None:
    # -S and -I-like isolation would hide the dependencies too; an unrelated folder and no installed `spilegate` in
    # the way are what a launcher gives. Modules named like ours must not shadow or be shadowed.
    (tmp_path / "settings.py").write_text("raise RuntimeError('shadowed')\n")
    done = process("--version", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"spilegate {spilegate.__version__}\n")


def test_running_the_module_and_the_installed_command_do_the_same(tmp_path: Path) -> None:
    for command in ([sys.executable, "-m", "spilegate"], [str(Path(sys.executable).parent / "spilegate")]):
        done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True, cwd=tmp_path)
        assert done.stdout == f"spilegate {spilegate.__version__}\n"


# --- settings --------------------------------------------------------------------------------------------------------


def test_later_settings_win(tmp_path: Path) -> None:
    config = tmp_path / "run.toml"
    config.write_text('seed = 3\n[matching]\nmethod = "gemm"\nstates = 2\n[prepare]\nq_min = 0.01\n[phasing]\n')
    settings = load_settings(
        config,
        ["matching.states=4", "matching.method=polar", "merging.tolerance=1e-3", "prepare.q_max=none"],
        {"--seed": ("seed", 7), "--diameter-angstrom": ("prepare.diameter_angstrom", None)},
    )
    assert (settings.seed, settings.matching.method, settings.matching.states) == (7, "polar", 4)
    assert (settings.prepare.q_min, settings.prepare.q_max, settings.merging.tolerance) == (0.01, None, 1e-3)


def test_every_setting_can_be_set() -> None:
    for path, field in setting_paths(Settings):
        settings = load_settings(None, [f"{path}={str(field.default).lower()}"], {})
        assert settings == Settings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[matchin]\nstates = 1\n", "did you mean 'matching.states'"),
        ("[foo]\n", "unknown setting 'foo'"),
        ("seed = \n", "not valid TOML"),
        ("[matching]\nstates = 0\n", "found 0; expected greater than or equal to 1"),
        ('[matching]\nmethod = "grid"\n', "found 'grid'; expected 'polar' or 'gemm'"),
        ("matching = 3\n", "unknown setting 'matching'"),
    ],
)
def test_bad_configuration(tmp_path: Path, text: str, message: str) -> None:
    config = tmp_path / "run.toml"
    config.write_text(text)
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        load_settings(config, [], {})
    assert str(config) in str(caught.value)


# --- bad input -------------------------------------------------------------------------------------------------------

RECONSTRUCT = ["reconstruct", "{data}", "--output", "{new}"]
BAD = {
    "missing file": (["reconstruct", "nowhere.h5", "--output", "{new}"], "nowhere.h5"),
    "not HDF5": (["reconstruct", "{text}", "--output", "{new}"], "HDF5"),
    "truncated": (["reconstruct", "{truncated}", "--output", "{new}"], "truncated.h5"),
    "missing dataset": (["reconstruct", "{empty}", "--output", "{new}"], "intensities"),
    "broken": (["reconstruct", "{broken}", *RECONSTRUCT[2:], "--set", "prepare.broken_pixels=always"], "=ever"),
    "a folder": (["reconstruct", "{folder}", "--output", "{new}"], "folder"),
    "output not empty": (["reconstruct", "{data}", "--output", "{folder}"], "--force"),
    "output is a file": (["reconstruct", "{data}", "--output", "{text}"], "text.txt"),
    "resume and force": ([*RECONSTRUCT, "--resume", "--force"], "--force"),
    "unknown key": ([*RECONSTRUCT, "--set", "matching.metod=gemm"], "did you mean 'matching.method'?"),
    "key in the wrong stage": ([*RECONSTRUCT, "--set", "phasing.tolerance=1"], "did you mean 'merging.tolerance'?"),
    "no value": ([*RECONSTRUCT, "--set", "matching.method"], "expected stage.key=value"),
    "value out of range": ([*RECONSTRUCT, "--set", "merging.tolerance=2"], "merging.tolerance: found 2"),
    "bad shorthand": ([*RECONSTRUCT, "--diameter-angstrom", "-5"], "--diameter-angstrom"),
    "infinite diameter": ([*RECONSTRUCT, "--diameter-angstrom", "inf"], "--diameter-angstrom"),
    "no configuration": ([*RECONSTRUCT, "--config", "nowhere.toml"], "nowhere.toml"),
    "binary configuration": ([*RECONSTRUCT, "--config", "{data}"], "not valid TOML"),
    "unknown option": ([*RECONSTRUCT, "--see", "1"], "--seed"),
    "unknown command": (["reconstrukt"], "reconstruct"),
    "missing option": (["reconstruct", "{data}"], "--output"),
    "missing argument": (["reconstruct", "--output", "{new}"], "DATA"),
    "not a number": ([*RECONSTRUCT, "--seed", "many"], "--seed"),
    "negative seed": ([*RECONSTRUCT, "--seed", "-1"], "--seed"),
    "log in no folder": ([*RECONSTRUCT, "--log", "nowhere/run.log"], "--log"),
    "log is a folder": ([*RECONSTRUCT, "--log", "{folder}"], "--log"),
    "simulate: exists": (["simulate", "--output", "{text}"], "--force"),
    "simulate: no folder": (["simulate", *SMALL, "--output", "nowhere/data.h5"], "nowhere"),
    "simulate: both": (["simulate", "--output", "{new}", "--pdb", "{text}", "--particle", "x"], "--particle"),
    "simulate: no such particle": (["simulate", "--output", "{new}", "--particle", "nothing"], "nothing"),
    "simulate: no such file": (["simulate", "--output", "{new}", "--pdb", "nowhere.pdb"], "nowhere.pdb"),
    "simulate: no atoms": (["simulate", "--output", "{new}", "--pdb", "{text}"], "text.txt"),
    "simulate: photons": (["simulate", "--output", "{new}", "--photons", "-3"], "--photons"),
    "simulate: photons nan": (["simulate", "--output", "{new}", "--photons", "nan"], "--photons"),
    "simulate: resolution": (["simulate", "--output", "{new}", "--resolution-angstrom", "0"], "--resolution-angstrom"),
    "simulate: wavelength": (["simulate", "--output", "{new}", "--wavelength-angstrom", "nan"], "wavelength"),
    "simulate: images": (["simulate", "--output", "{new}", "--images", "0"], "--images"),
    "evaluate: no folder": (["evaluate", "nowhere", "--reference", "{data}"], "nowhere"),
    "evaluate: no summary": (["evaluate", "{folder}", "--reference", "{data}"], "summary.json"),
    "evaluate: no reference": (["evaluate", "{finished}", "--reference", "nowhere.mrc"], "nowhere.mrc"),
    "evaluate: other kind": (["evaluate", "{finished}", "--reference", "{text}"], "unknown kind of file"),
    "evaluate: not a map": (["evaluate", "{finished}", "--reference", "{fake_map}"], "fake.mrc"),
    "evaluate: no truth": (["evaluate", "{finished}", "--reference", "{blind}"], "blind.h5"),
    "inspect: missing": (["inspect", "nowhere.h5"], "nowhere.h5"),
    "inspect: not HDF5": (["inspect", "{text}"], "HDF5"),
}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory, data: Path, finished: Path) -> dict[str, Path]:
    """Files and folders that are bad in their own ways."""
    folder = tmp_path_factory.mktemp("bad")
    (folder / "folder").mkdir()
    (folder / "folder" / "precious.txt").write_text("precious")
    (folder / "text.txt").write_text("not what you expect\n")
    (folder / "fake.mrc").write_text("not a map\n")
    (folder / "truncated.h5").write_bytes(data.read_bytes()[:-3000])
    h5py.File(folder / "empty.h5", "w").close()
    for name in ("broken", "blind"):
        (folder / f"{name}.h5").write_bytes(data.read_bytes())
    with h5py.File(folder / "broken.h5", "r+") as file:
        images = file["intensities"][...]
        images.flat[7] = np.nan
        del file["intensities"]
        file["intensities"] = images
    with h5py.File(folder / "blind.h5", "r+") as file:
        del file["orientations"], file["volume"]
    return {
        "data": data,
        "finished": finished,
        "new": folder / "new",
        "folder": folder / "folder",
        "text": folder / "text.txt",
        "fake_map": folder / "fake.mrc",
        **{name: folder / f"{name}.h5" for name in ("truncated", "empty", "broken", "blind")},
    }


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_overwrites_nothing(
    name: str, places: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments, expected = BAD[name]
    monkeypatch.chdir(places["folder"].parent)
    before = content(places["folder"].parent), content(places["finished"])
    result = run(*(argument.format(**places) for argument in arguments))
    assert_one_line(result.exit_code, result.stdout, result.stderr, expected)
    assert (content(places["folder"].parent), content(places["finished"])) == before


@pytest.mark.parametrize("name", ["truncated", "output not empty", "unknown option", "value out of range"])
def test_bad_input_as_a_process(name: str, places: dict[str, Path], tmp_path: Path) -> None:
    arguments, expected = BAD[name]
    done = process(*(argument.format(**places) for argument in arguments), cwd=tmp_path)
    assert_one_line(done.returncode, done.stdout, done.stderr, expected)


def test_debug_shows_the_traceback(places: dict[str, Path]) -> None:
    result = run("inspect", places["text"], "--debug")
    assert result.exit_code == 2
    assert "Traceback" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("spilegate: error: ")


def test_a_fault_is_one_line_too(monkeypatch: pytest.MonkeyPatch, data: Path) -> None:
    def fails(*_: object, **__: object) -> None:
        raise ValueError("two\nlines")

    monkeypatch.setattr("spilegate.formats.reader.look", fails)
    result = run("inspect", data)
    assert result.exit_code == 1
    assert result.stderr == "spilegate: error: ValueError: two lines (not foreseen; --debug shows where)\n"


def test_an_interrupt_of_the_tests_is_not_taken_for_the_end_of_a_command(
    monkeypatch: pytest.MonkeyPatch, data: Path
) -> None:
    monkeypatch.setattr("spilegate.formats.reader.look", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        run("inspect", data)
