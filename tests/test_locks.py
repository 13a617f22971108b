"""One run at a time in a folder: who has the lock, and who does not."""

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from command_line import QUICK, assert_one_line, content, run

from spilegate.errors import InputError
from spilegate.formats.locks import FILE, Lock

HOLD = """
import subprocess, sys
from pathlib import Path
from spilegate.formats.locks import Lock
with Lock(Path(sys.argv[1]), "--output") as lock:
    lock.take()
    child = subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL)
    print(child.pid, flush=True)
    sys.stdin.read()
"""


def holder(folder: Path) -> tuple[subprocess.Popen[str], int]:
    """A process that has the lock until its input ends, and the id of one that it has started."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    return process, int(process.stdout.readline())


@pytest.mark.parametrize("killed", [False, True])
def test_a_lock_ends_with_its_process_and_not_with_those_it_started(tmp_path: Path, killed: bool) -> None:
    process, child = holder(tmp_path)
    try:
        with Lock(tmp_path, "--output here") as lock:
            with pytest.raises(InputError, match="--output here: in use by another run") as caught:
                lock.take()
            assert f"process {process.pid} on {socket.gethostname()}" in str(caught.value)
        assert (tmp_path / FILE).exists()
        if killed:
            process.kill()
        process.communicate()
        os.kill(child, 0)
        with Lock(tmp_path, "--output here") as lock:
            lock.take()
            lock.take()
        assert not list(tmp_path.iterdir())
    finally:
        os.kill(child, signal.SIGKILL)


def test_one_at_a_time_has_a_lock_whose_file_comes_and_goes(tmp_path: Path) -> None:
    inside, most, taken = threading.Semaphore(1), [0], [0]

    def work() -> None:
        for _ in range(300):
            with Lock(tmp_path, "--output") as lock:
                try:
                    lock.take()
                except InputError:
                    continue
                free = inside.acquire(blocking=False)
                most[0] += not free
                taken[0] += 1
                if free:
                    inside.release()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [0]
    assert taken[0] >= 4


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / FILE).symlink_to(victim)
    with Lock(tmp_path, "--output") as lock, pytest.raises(InputError, match="cannot be written into"):
        lock.take()
    assert victim.read_text() == "mine"


def test_a_file_system_without_locks_is_said_and_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    with Lock(tmp_path, "--output") as lock:
        lock.take()
        lock.take()
        assert "has no locks (No locks available)" in lock.missing
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("options", [["--force"], ["--resume"], []])
def test_a_second_run_in_a_folder_ends_in_one_line(
    finished: Path, data: Path, tmp_path: Path, options: list[str]
) -> None:
    folder = finished if options else tmp_path / "new"
    folder.mkdir(exist_ok=True)
    with Lock(folder, "first") as lock:
        lock.take()
        before = content(folder)
        done = run("reconstruct", data, "--output", folder, *QUICK, *options)
        assert_one_line(done.exit_code, done.stdout, done.stderr, f"--output {folder}: in use by another run (process")
        assert content(folder) == before
    assert not (folder / FILE).exists()


def test_results_that_a_run_is_writing_are_not_evaluated(finished: Path, data: Path) -> None:
    with Lock(finished, "first") as lock:
        lock.take()
        before = content(finished)
        done = run("evaluate", finished, "--reference", data)
        assert_one_line(done.exit_code, done.stdout, done.stderr, f"{finished}: in use by another run (process")
        assert content(finished) == before
