"""How runs end that are stopped or cannot write: nothing is left behind, what is kept and how to go on is said."""

import errno
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import MAIN, QUICK, assert_one_line, content, run
from conftest import records
from made_up import made_up_state

from spilegate.commands.stopping import heeded
from spilegate.kernels import launch
from spilegate.records import Progress
from spilegate.report.console import Output
from spilegate.report.drawing import Drawing
from spilegate.report.files import PART
from spilegate.report.progress import FILE, Monitor, read_records
from spilegate.report.terminal import Stream, encodable, printable

LINUX = pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks at processes by /proc")
FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")


def drawings(folder: Path) -> list[int]:
    """Return the processes that draw a folder's pictures."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"spilegate.report" in words and os.fsencode(folder.resolve()) in words:
            found.append(int(path.parent.name))
    return found


def until(true: Callable[[], object], seconds: float = 300.0) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def begin(data: Path, folder: Path, *options: object) -> subprocess.Popen[str]:
    """Start a run, and return once it has a checkpoint."""
    command = [sys.executable, str(MAIN), "reconstruct", str(data), "--output", str(folder), *QUICK]
    running = subprocess.Popen(
        [*command, *map(str, options)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    until(lambda: (folder / "checkpoint.h5").is_file() or running.poll() is not None)
    assert running.poll() is None, running.communicate()
    return running


@LINUX
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_end_ends_as_ctrl_c_and_says_the_command_to_go_on(
    number: signal.Signals, data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "two  words"
    running = begin(data, folder, "--force", "--quiet")
    running.send_signal(number)
    _, errors = running.communicate(timeout=300)
    assert running.returncode == 128 + number, errors
    assert errors.startswith("spilegate: interrupted; generation ")
    assert errors.count("\n") == 1
    until(lambda: not drawings(folder), 60)
    assert not list(folder.glob(f"figures/*{PART}"))
    again = shlex.split(errors.partition("to go on: ")[2])
    assert again[-1] == "--resume"
    assert "--force" not in again
    if number == signal.SIGTERM:
        done = subprocess.run(again, capture_output=True, text=True, check=False, timeout=400)
        assert (done.returncode, done.stderr) == (0, "")
        assert (folder / "summary.json").is_file()


@LINUX
def test_no_drawing_outlives_a_run_that_is_killed_or_fails(data: Path, tmp_path: Path) -> None:
    killed = begin(data, tmp_path / "killed")
    until(lambda: drawings(tmp_path / "killed"))
    killed.kill()
    killed.communicate()
    until(lambda: not drawings(tmp_path / "killed"), 60)
    folder = tmp_path / "broken"
    broken = begin(data, folder)
    # A checkpoint that cannot be written ends a run, as it should.
    (folder / "checkpoint.h5").unlink()
    (folder / "checkpoint.h5").mkdir()
    _, errors = broken.communicate(timeout=300)
    assert broken.returncode == 2, errors
    assert "checkpoint.h5" in errors
    assert not drawings(folder)


@LINUX
def test_a_drawing_lives_no_longer_than_the_block(tmp_path: Path) -> None:
    def broken() -> None:
        with Drawing(tmp_path) as drawing:
            drawing.begin(last=True)
            until(lambda: drawings(tmp_path))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken()
    assert not drawings(tmp_path)


def test_signals_are_left_as_the_caller_set_them() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with heeded():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            assert callable(signal.getsignal(signal.SIGTERM))
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


# --- a terminal, a pipe or a disk that takes nothing -----------------------------------------------------------------


def shell(text: str, data: Path, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a reconstruction by a line of bash in which it is called RUN; the exit code is the program's."""
    command = shlex.join([sys.executable, str(MAIN), "reconstruct", str(data), "--output", str(folder), *QUICK])
    line = text.replace("RUN", command) + "; exit ${PIPESTATUS[0]}"
    environment = {**os.environ, **variables}
    return subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, check=False, env=environment, timeout=400
    )


@FULL
@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("RUN --force --log /dev/full > /dev/full", ["standard output", "--log /dev/full"]),
        ("RUN --force | head -1", ["standard output"]),
        ("RUN --force >&- 2>&-", []),
    ],
)
def test_a_run_goes_on_without_those_who_watch(line: str, said: list[str], data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    # What an earlier run left is gone by the time of the first line.
    (folder / "density.mrc").touch()
    done = shell(line, data, folder)
    assert done.returncode == 0, done.stderr
    assert (folder / "summary.json").is_file()
    assert (folder / "figures" / "density.png").is_file()
    assert sorted(row.split(": ")[2] for row in done.stderr.splitlines()) == sorted(said)


def test_letters_that_a_terminal_lacks_are_written_in_others(data: Path, tmp_path: Path) -> None:
    named = tmp_path / "Röntgen.h5"
    shutil.copy(data, named)
    bare = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    done = shell("RUN", named, tmp_path / "out", **bare)
    assert (done.returncode, done.stderr) == (0, "")
    assert " A (estimated)" in done.stdout.splitlines()[0]
    assert (tmp_path / "out" / "figures" / "density.png").is_file()
    # Where names of files are read as ASCII, the bytes of a letter are codes.
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["input"]["file"].endswith("ntgen.h5")


@FULL
def test_what_is_there_to_be_read_is_an_error_if_it_cannot_be_written(data: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, MAIN, "inspect", data], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert_one_line(done.returncode, "", done.stderr, "standard output: cannot be written")


@FULL
def test_records_and_log_on_a_full_disk_are_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Output(quiet=True, log=Path("/dev/full")) as output:
        monitor = Monitor(output, tmp_path, save=print, draw=print)
        (tmp_path / FILE).unlink()
        (tmp_path / FILE).symlink_to("/dev/full")
        for number in (1, 2, 3):
            monitor.stage(Progress(number, 3, "match", 1.0, {}))
        monitor.generation(made_up_state(), last=False)
    assert len(monitor.records) == 3
    said = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[2] for line in said] == [str(tmp_path / FILE), "--log /dev/full"]


def test_records_kept_on_resuming_replace_the_others(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("".join(json.dumps(record) + "\n" for record in records(6, 4)))
    Monitor(Output(), tmp_path, save=print, draw=print, done=2)
    assert read_records(tmp_path) == records(6, 2)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_a_stream_that_fails_keeps_the_first_error_and_goes_on(tmp_path: Path) -> None:
    with (tmp_path / "text").open("w") as file:
        stream = Stream(file)
        assert stream.write("one") == 3
        stream.flush()
    assert stream.failed is None
    assert stream.write("two") == 3
    assert stream.failed is not None
    assert stream.failed.errno == errno.EBADF
    assert Stream(None).write("nobody") == 6


def test_names_from_files_do_not_command_the_terminal() -> None:
    assert printable("Å plain text, ö") == "Å plain text, ö"
    assert printable("a\x1b]0;owned\x07\nb\u202ec\udcff") == r"a\x1b]0;owned\x07\nb\u202ec\udcff"
    assert encodable("68 Å ö", "ascii") == r"68 A \xf6"
    assert encodable("68 Å ö", "latin-1") == "68 Å ö"


# --- one command line for a job that is started again and again ------------------------------------------------------


def test_resume_without_a_checkpoint_starts_afresh_but_overwrites_no_results(
    finished: Path, data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    shutil.copytree(finished, folder)
    (folder / "checkpoint.h5").unlink()
    before = content(folder)
    refused = run("reconstruct", data, "--output", folder, *QUICK, "--resume")
    assert_one_line(refused.exit_code, refused.stdout, refused.stderr, "has summary.json and no checkpoint")
    assert content(folder) == before
    # What a run leaves that is killed before its first checkpoint, and a list of records that cannot be written.
    for name in ("summary.json", "density.mrc", FILE):
        (folder / name).unlink()
    (folder / FILE).mkdir()
    log = (folder / "run.log").read_text()
    again = run("reconstruct", data, "--output", folder, *QUICK, "--resume", "--log", folder / "run.log")
    assert again.exit_code == 0
    assert f"no checkpoint in {folder} yet: started afresh" in again.stdout.splitlines()[0]
    assert again.stderr == (
        f"spilegate: warning: {folder / FILE}: found a folder; expected a file name; the work goes on without it\n"
    )
    assert (folder / "checkpoint.h5").is_file()
    assert (folder / "run.log").read_text().startswith(log)


def test_a_log_that_turns_out_bad_loses_no_results(finished: Path, data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    shutil.copytree(finished, folder)
    (folder / "new.log").symlink_to(tmp_path / "nowhere" / "log")
    result = run("reconstruct", data, "--output", folder, *QUICK, "--force", "--quiet", "--log", folder / "new.log")
    assert result.exit_code == 0, result.output
    assert "cannot be written" in result.stderr
    assert (folder / "summary.json").is_file()


@pytest.mark.parametrize(
    ("program", "launcher", "start"),
    [
        ("/somewhere/bin/spilegate", None, "spilegate"),
        ("/somewhere/spilegate/__main__.py", None, f"{shlex.quote(sys.executable)} -m spilegate"),
        ("spilegate/main.py", None, f"{shlex.quote(sys.executable)} spilegate/main.py"),
        ("spilegate/main.py", "--cpus 2", "legate ... spilegate/main.py"),
    ],
)
def test_the_command_that_resumes_is_the_one_that_was_given(
    program: str, launcher: str | None, start: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [program])
    monkeypatch.delenv(launch.LAUNCHED, raising=False)
    if launcher is not None:
        monkeypatch.setenv(launch.LAUNCHED, launcher)
    words = ["reconstruct", "two  words.h5", "--force", "--output", "out", "--set", 'matching.method="gemm"']
    given = "reconstruct 'two  words.h5' --output out --set 'matching.method=\"gemm\"' --resume"
    assert launch.resuming(words) == f"{start} {given}"
    assert launch.resuming([*words, "--resume"]) == f"{start} {given}"


def test_a_signal_before_there_is_anything_to_keep_ends_in_a_line_too(tmp_path: Path) -> None:
    command = [sys.executable, str(MAIN), "simulate", "--images", "200000", "--output", str(tmp_path / "big.h5")]
    running = subprocess.Popen(
        [*command, "--log", str(tmp_path / "log")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    # The log is opened as the work begins.
    until((tmp_path / "log").exists)
    running.send_signal(signal.SIGTERM)
    assert running.communicate(timeout=300) == ("", "spilegate: interrupted\n")
    assert running.returncode == 143
    assert not (tmp_path / "big.h5").exists()
