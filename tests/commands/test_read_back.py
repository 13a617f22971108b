"""Files that the program reads back and that were changed or damaged since: success, or one line that says which."""

import json
import math
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from command_line import assert_one_line, process, run
from conftest import records

from spilegate.commands.configuration import load_settings
from spilegate.errors import InputError
from spilegate.formats import reader, results, summary
from spilegate.report.files import CURVE_FILES, read_curves, write_curve
from spilegate.report.pictures import draw_fsc
from spilegate.report.progress import FILE, Line, read_records, seconds_by

GOOD = {"q_max_inverse_angstrom": 0.07, "settings": {"symmetry": "C1", "seed": 3}, "evaluation": {"hand": "same"}}
# Values that stand where others are expected.
ODD: list[Any] = [None, True, -1, 0, 1e308, math.nan, math.inf, 10**40, "", "Å\x1b[2J", [], {}, [[1]], {"a": {"b": []}}]


def spoilt(value: Any, dice: random.Random) -> Any:
    """Return a value with one of its parts replaced, left out or added."""
    if isinstance(value, dict) and value and dice.random() < 0.8:
        key = dice.choice(sorted(value))
        changed = {**value, key: spoilt(value[key], dice)}
        return {name: part for name, part in changed.items() if name != key} if dice.random() < 0.3 else changed
    return dice.choice(ODD)


def cut(text: str, dice: random.Random) -> bytes:
    """Return a text with some of its bytes changed, or its end left out."""
    raw = bytearray(text.encode())
    for _ in range(dice.randrange(4)):
        raw[dice.randrange(len(raw))] = dice.randrange(256)
    return bytes(raw[: dice.randrange(len(raw) + 1)] if dice.random() < 0.3 else raw)


def in_one_line(call: Callable[[], object]) -> None:
    """Call a function that may refuse its input, in one line, and do nothing else."""
    message = ""
    try:
        call()
    except InputError as error:
        message = str(error)
    assert "\n" not in message
    assert len(message) < 2000


@pytest.mark.parametrize("seed", range(40))
def test_spoilt_summaries_and_records_are_read_or_refused(seed: int, tmp_path: Path) -> None:
    dice = random.Random(seed)  # noqa: S311 - the same on every machine
    path, lines = tmp_path / "summary.json", tmp_path / FILE
    write_curve(tmp_path, "prtf", np.array([0.1, 0.2]), np.array([0.9, 0.5]))
    curve = (tmp_path / CURVE_FILES["prtf"]).read_text()
    for _ in range(10):
        path.write_bytes(
            json.dumps(spoilt(GOOD, dice)).encode() if dice.random() < 0.6 else cut(json.dumps(GOOD), dice)
        )
        in_one_line(lambda: summary.read(path))
        rows = [json.dumps(spoilt(record, dice) if dice.random() < 0.5 else record) for record in records(4, 4)]
        lines.write_bytes("\n".join(rows).encode() if dice.random() < 0.6 else cut("\n".join(rows), dice))
        for found in (read_records(tmp_path, 4), read_records(tmp_path)):
            assert all(Line.model_validate(record) for record in found)
            assert all(math.isfinite(seconds) for seconds in seconds_by(found, "stage").values())
        (tmp_path / CURVE_FILES["prtf"]).write_bytes(cut(curve, dice))
        in_one_line(lambda: read_curves(tmp_path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "q_max_inverse_angstrom: found nothing"),
        ('{"q_max_inverse_angstrom": 0.1, "settings": []}', "settings: found []"),
        ('{"q_max_inverse_angstrom": 0.1, "settings": {"symmetry": "Q7"}}', "settings.symmetry: found 'Q7'"),
        ('{"q_max_inverse_angstrom": -1}', "greater than 0"),
        ('{"q_max_inverse_angstrom": 0.1, "evaluation": 3}', "evaluation: found 3"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_a_summary_without_what_is_needed_is_refused_by_evaluate(
    text: str, message: str, finished: Path, data: Path, tmp_path: Path
) -> None:
    for name in ("density.mrc", "orientations.h5"):
        (tmp_path / name).symlink_to(finished / name)
    (tmp_path / "summary.json").write_text(text)
    result = run("evaluate", tmp_path, "--reference", data)
    assert_one_line(result.exit_code, result.stdout, result.stderr, message)
    assert (tmp_path / "summary.json").read_text() == text


def test_a_summary_keeps_names_of_files_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    results.write_summary(path, {**GOOD, "file": "caf\udce9 Å"})
    assert summary.read(path)[1]["file"] == "caf\udce9 Å"


@pytest.mark.parametrize(
    "text", ["", "q,c\n", "q,c\n\n", "q,c\n1\n", "q,c\n1,2,3\n", "q,c\n0.1,nan\n", "q,c\n0.2,1\n0.1,1\n", "q,c\nÅ,1\n",
             "q,c\n1,1e300\n", "q,c\n0,1\n"]
)  # fmt: skip
def test_a_curve_that_is_none_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / CURVE_FILES["prtf"]
    path.write_text(text)
    with pytest.raises(InputError, match=r"prtf\.csv") as caught:
        draw_fsc(tmp_path)
    assert "\n" not in str(caught.value)


def test_drawing_ends_in_one_line_whatever_lies_in_the_folder(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "checkpoint.h5").symlink_to(finished / "checkpoint.h5")
    (tmp_path / FILE).write_bytes(b'{"generation": 1}\n[]\n3\n\xff\n' + b"[" * 10_000 + b"\n")
    (tmp_path / CURVE_FILES["prtf"]).touch()

    def draw(*names: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "spilegate.report", str(tmp_path), "--only", *names]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert draw("convergence").returncode == 0
    done = draw("fsc")
    assert_one_line(done.returncode, done.stdout, done.stderr, "prtf.csv")
    (tmp_path / "figures" / "convergence.png").unlink()
    (tmp_path / "figures" / "convergence.png").mkdir()
    done = draw("convergence")
    assert_one_line(done.returncode, done.stdout, done.stderr, "found a folder")


# --- settings --------------------------------------------------------------------------------------------------------

TOML = 'seed = 3\n[matching]\nmethod = "gemm"\nstates = 2\n[prepare]\nq_min = 0.01\n'
DEEP = {
    "lists": "seed = " + "[" * 5000,
    "tables": "[" + ".".join("a" * 5000) + "]\nb = 1\n",
    "keys": ".".join("a" * 5000) + " = 1\n",
    "digits": "seed = " + "9" * 5000,
    "hexadecimal": "seed = 0x" + "f" * 20000,
    "letters": 'matching.method = "' + "x" * 10**6 + '"\n',
    "escape": 'matching.method = "\\u001b]0;owned\\u0007"\n',
}


@pytest.mark.parametrize("name", DEEP)
def test_a_configuration_without_end_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    config = tmp_path / "run.toml"
    config.write_text(DEEP[name])
    with pytest.raises(InputError) as caught:
        load_settings(config, [], {})
    assert str(config) in str(caught.value)
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("seed", range(20))
def test_spoilt_configurations_are_read_or_refused(seed: int, tmp_path: Path) -> None:
    dice = random.Random(seed)  # noqa: S311 - the same on every machine
    config = tmp_path / "run.toml"
    for _ in range(20):
        config.write_bytes(cut(TOML, dice))
        in_one_line(lambda: load_settings(config, [], {}))
    in_one_line(lambda: load_settings(None, ["seed=" + "[" * 5000], {}))


def test_names_in_a_file_cannot_command_the_terminal(tmp_path: Path, data: Path) -> None:
    name = "\x1b]0;owned\x07"
    bad = tmp_path / "bad.h5"
    with h5py.File(bad, "w") as file:
        file[name] = 1
    for result in (run("inspect", bad), process("inspect", bad)):
        assert "\x1b" not in result.stderr
        assert r"\x1b]0;owned\x07" in result.stderr
    named = tmp_path / f"{name}.h5"
    named.symlink_to(data)
    shown = run("inspect", named)
    assert shown.exit_code == 0
    assert "\x1b" not in shown.stdout
    with pytest.raises(InputError):
        reader.read(bad)
