"""What a terminal shows of a run, on a real pseudo-terminal, and what pipes and logs have in its place."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import MAIN, QUICK, run
from rich.console import Console

from spilegate.report import closing
from spilegate.report.console import Output
from spilegate.report.live_line import LiveLine

COLOUR = re.compile(r"\x1b\[(?:[0-9;]*;)?(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])(?:;[0-9;]*)?m")
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
BAR = "━" * 8


def on_terminal(*words: object, **environment: str) -> tuple[int, str]:
    """Run a command line on a pseudo-terminal; return its exit code and all that it wrote there."""
    leader, follower = pty.openpty()
    known = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "CI")}
    command = [sys.executable, str(MAIN), *(str(word) for word in words)]
    with subprocess.Popen(
        command, stdin=follower, stdout=follower, stderr=follower, start_new_session=True,
        env={**known, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40", **environment},
    ) as process:  # fmt: skip
        os.close(follower)
        written, end = b"", time.monotonic() + 240
        while time.monotonic() < end:
            ready, _, _ = select.select([leader], [], [], 1.0)
            try:
                chunk = os.read(leader, 1 << 16) if ready else None
            except OSError:
                break
            if chunk == b"":
                break
            written += chunk or b""
        process.kill() if time.monotonic() >= end else process.wait(60)
    os.close(leader)
    return process.returncode, written.decode()


@pytest.fixture(scope="module")
def reconstructed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """All that a terminal is told of a run, without colours."""
    folder = tmp_path_factory.mktemp("live") / "out"
    code, text = on_terminal("reconstruct", data, "--output", folder, *QUICK, NO_COLOR="1")
    assert code == 0, text
    return text


def test_one_line_says_what_is_being_done(reconstructed: str) -> None:
    """Drawn over itself: a carriage return and an erased line before each, and nothing of it at the end."""
    plain = CONTROL.sub("", reconstructed)
    live = [part for part in re.split(r"[\r\n]+", plain) if "━" in part and "│" not in part]
    for what in ("reading patterns", "looking at the patterns", "blind start", "matching", "merging", "phasing",
                 "stating the resolution", "drawing"):  # fmt: skip
        assert any(what in line for line in live), what
    assert any(BAR in line for line in live if line.lstrip("⠀⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ ").startswith("generation")), live
    shown = "\n".join(live)
    assert re.search(r"generation \d of \d: \w+ .*0:00:0\d +about 0:\d\d left", shown), shown
    last = reconstructed[reconstructed.rindex("drawing") :]
    assert "\x1b[2K" in last, "the line is erased when it is over"
    assert "\x1b[?25h" in last, "the cursor is shown again"
    assert plain.rstrip().splitlines()[-1].startswith("to look at: ")


def test_stages_and_the_summary_stay(reconstructed: str) -> None:
    plain = CONTROL.sub("", reconstructed)
    assert re.search(r"generation 1/\d  start +\d+\.\d\d s  ", plain)
    rows = dict(re.findall(r"^│ +(\S.*?) +│ (.*?) +│\r?$", plain, re.MULTILINE))
    assert rows["resolution"] == "none stated"
    assert re.fullmatch(r"120, \d+ of them left out", rows["patterns"])
    assert re.fullmatch(r"[\d.]+ Å \(estimated\)", rows["diameter"])
    assert re.fullmatch(r"[\d.]+ s, \d+ MiB", rows["time, memory"])


def test_no_color_is_honoured_and_colours_are_used_without_it(reconstructed: str, tmp_path: Path) -> None:
    assert not COLOUR.search(reconstructed)
    few = ("simulate", "--images", "4", "--pixels", "8", "--resolution-angstrom", "30", "--output")
    code, text = on_terminal(*few, tmp_path / "a.h5")
    assert code == 0
    assert COLOUR.search(text)
    assert "simulating patterns" in text


def test_a_pipe_has_the_rows_as_lines_and_nothing_drawn(finished: Path) -> None:
    log = (finished / "run.log").read_text(encoding="utf-8")
    lines = [line.split(" ", 1)[1] for line in log.splitlines()]
    assert "resolution    none stated" in lines
    assert not re.search(r"[\x1b\r━│╭]", log)
    assert not [line for line in lines if "reading patterns" in line]


def test_a_table_is_lines_in_a_pipe_and_quiet_where_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    Output().table("what", [("a", "1"), ("longer", "2 \x1b[31m")])
    assert capsys.readouterr().out == "what\na       1\nlonger  2 \\x1b[31m\n"
    Output(quiet=True).table("what", [("a", "1")])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("console", [Console(), Console(force_terminal=True, quiet=True)])
def test_there_is_no_line_but_on_a_terminal(console: Console, capsys: pytest.CaptureFixture[str]) -> None:
    line = LiveLine(console)
    line.show("working", left=3.0)
    line.count("reading", 1, 2)
    line.clear()
    assert not line.shown
    assert capsys.readouterr().out == ""


def test_a_resolution_and_its_evidence_are_said(finished: Path) -> None:
    told = json.loads((finished / "summary.json").read_text(encoding="utf-8"))
    reached = {"resolution_angstrom": 9.1}
    told["resolution"] |= {"resolution_angstrom": 9.1, "half_set": reached, "held_out": {"resolution_angstrom": None}}
    told |= {"converged": False, "convergence": "why", "background": {"fraction": 0.125, "source": "file"}}
    rows = dict(closing.rows(told))
    assert (rows["resolution"], rows["  half-set FSC 0.143"], rows["  held-out patterns"]) == (
        "9.1 Å", "to 9.1 Å", "nowhere",
    )  # fmt: skip
    assert rows["generations"].endswith("not converged")
    assert rows[""] == "why"
    assert rows["background"] == "12.5% of the counts (file)"


def test_a_shell_completes_commands_and_options() -> None:
    def completed(line: str) -> list[str]:
        environment = {**os.environ, "_SPILEGATE_COMPLETE": "complete_bash", "COMP_WORDS": line,
                       "COMP_CWORD": str(len(line.split(" ")) - 1)}  # fmt: skip
        done = subprocess.run(
            [sys.executable, str(MAIN)], env=environment, capture_output=True, text=True, check=False, timeout=60
        )
        return done.stdout.split()

    assert completed("spilegate rec") == ["reconstruct"]
    assert "--diameter-angstrom" in completed("spilegate reconstruct --di")
    assert "--install-completion" in run("--help").stdout
