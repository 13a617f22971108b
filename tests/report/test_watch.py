"""The server of a page: it answers what it should, and nobody gets more out of it, or holds it up."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from command_line import assert_one_line, process

from spilegate.report.live import server as serving
from spilegate.report.live.server import Server
from spilegate.report.live.watched import Watched

SECRET = b"what nobody may read"
HOSTILE = 2000
# Threads that come and go leave the allocator some of what they had [KiB].
FLAT = 3000
PATHS = (
    "/../secret", "/../../../../etc/passwd", "/%2e%2e/secret", "/..%2fsecret", "/%252e%252e%252fsecret", "//secret",
    "/./../secret", "/checkpoint.h5", "/report.html", "/summary.json", "/.spilegate.lock", "/figures/", "/state.json/",
    "/content/../../secret", "\\..\\secret", "/..\\secret", "/%00", "/content%00.html", "/\u2025/secret",
    "http://localhost/../secret", "file:///etc/passwd", "*", "/?../secret", "/content?x=../../secret", "/linked",
    "/" + "a" * 3000, "",
)  # fmt: skip
METHODS = (
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "DELETE",
    "PATCH",
    "OPTIONS",
    "TRACE",
    "CONNECT",
    "PROPFIND",
    "get",
    "G\0T",
    "",
)
HEADERS = (
    "Host: evil.example", "Host: localhost:1\r\nHost: evil.example", "", "Host: [::1", "Host: localhost@evil.example",
    "Host: localhost\r\nContent-Length: 1000000000", "Host: localhost\r\nTransfer-Encoding: chunked",
    "Host: localhost\r\nRange: bytes=0-99999999999", "Host: localhost\r\nIf-None-Match: " + '"' * 900,
    "Host: localhost\r\n" + "\r\n".join(f"X-{i}: y" for i in range(150)), "Host: localhost\r\nX: " + "y" * 20000,
    "Host: localhost\r\nX-Forwarded-Host: evil", "Host: localhost\r\n folded: yes", "Host: localhost\r\n\xff\xfe: \x00",
    "Host: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade", "Host: localhost\r\nAccept-Encoding: gzip;q=0",
)  # fmt: skip


class Running(NamedTuple):
    """`spilegate watch` as a process of its own."""

    process: subprocess.Popen[str]
    port: int
    folder: Path

    def memory_kib(self) -> int:
        """What it has in memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found
        return int(found[1])


def ask(port: int, path: str = "/", method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    """One request: status, headers and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read()
    connection.close()
    return found


def send(port: int, content: bytes) -> bytes:
    """Send bytes as they are, and return what comes back."""
    parts = []
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        try:
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(65536):
                parts.append(part)
        except TimeoutError:
            pytest.fail(f"no answer to {content[:200]!r}")
        except OSError:
            # It has heard enough and hung up.
            pass
    return b"".join(parts)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, looked_at: Path) -> Iterator[Running]:
    root = tmp_path_factory.mktemp("watched")
    (root / "secret").write_bytes(SECRET)
    shutil.copytree(looked_at, root / "out")
    (root / "out" / "linked").symlink_to(root / "secret")
    command = [sys.executable, "-m", "spilegate", "watch", str(root / "out"), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as started:
        assert started.stdout
        found = re.match(r"http://127\.0\.0\.1:(\d+)/ shows ", started.stdout.readline())
        assert found
        assert "ssh -L" in started.stdout.readline()
        try:
            yield Running(started, int(found[1]), root / "out")
            started.send_signal(signal.SIGINT)
            _, errors = started.communicate(timeout=20)
        finally:
            started.kill()
        assert "Traceback" not in errors
        assert started.returncode == 130


def test_it_serves_the_page_its_content_and_the_state(running: Running) -> None:
    status, headers, page = ask(running.port)
    assert status == 200
    assert headers["Content-Type"].startswith("text/html")
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    report = (running.folder / "report.html").read_bytes()
    tag = re.search(rb'<html lang="en" data-live="([0-9a-f]{20})">', page)
    assert tag
    assert page.replace(tag[1], b"") == report
    _, _, content = ask(running.port, "/content")
    assert content in page
    assert b"3Dmol" not in content.replace(b"drawn by 3Dmol.js", b"")
    _, _, state = ask(running.port, "/state.json")
    told = json.loads(state)
    assert told["page"] == tag[1].decode()
    assert (told["running"], told["locked"], told["stage"]["stage"]) == (False, False, "phase")
    small = ask(running.port, Accept_Encoding="br, gzip")
    assert small[1]["Content-Encoding"] == "gzip"
    assert len(small[2]) < 0.6 * len(page)
    assert ask(running.port, method="HEAD")[2] == b""


def test_what_is_known_is_not_sent_again(running: Running) -> None:
    for path in ("/", "/content", "/state.json"):
        _, headers, _ = ask(running.port, path)
        status, again, body = ask(running.port, path, If_None_Match=f'W/"other", {headers["ETag"]}')
        assert (status, body, again["ETag"]) == (304, b"", headers["ETag"])


def test_only_who_names_this_computer_is_answered(running: Running) -> None:
    for host in ("localhost", "localhost:8080", "127.0.0.1:1", "[::1]:9", "10.1.2.3", "LOCALHOST."):
        assert ask(running.port, Host=host)[0] == 200, host
    for host in ("evil.example", "localhost.evil.example:80", "", "localhost:80@evil.example"):
        assert ask(running.port, Host=host)[0] == 421, host
    assert send(running.port, b"GET /\r\n\r\n").find(b"<html") == -1


def test_hostile_requests_get_nothing_and_leave_nothing(running: Running) -> None:
    chance = random.Random(1)  # noqa: S311 - nothing is kept secret by it
    ask(running.port)

    def slowly() -> None:
        # It asks a letter at a time and never comes to an end.
        with socket.create_connection(("127.0.0.1", running.port), timeout=20) as connection:
            try:
                for letter in b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 30:
                    connection.sendall(bytes([letter]))
                    time.sleep(0.1)
            except OSError:
                return
            pytest.fail("a slow client was heard for ever")

    slow = [threading.Thread(target=slowly) for _ in range(20)]
    for thread in slow:
        thread.start()
    before, statuses = 0, set()
    for number in range(HOSTILE):
        if number == HOSTILE // 4:
            before = running.memory_kib()
        path, method, headers = chance.choice(PATHS), chance.choice(METHODS), chance.choice(HEADERS)
        if chance.random() < 0.4:
            headers = "Host: localhost"
        if chance.random() < 0.05:
            content = chance.randbytes(chance.randrange(1, 5000))
        else:
            version = chance.choice(("HTTP/1.1", "HTTP/1.0", "HTTP/0.9", "HTTP/9.9", "", "X"))
            content = f"{method} {path} {version}\r\n{headers}\r\n\r\n".encode("utf-8", "surrogateescape")
        answer = send(running.port, content)
        assert SECRET not in answer
        assert b"root:" not in answer
        assert b"Traceback" not in answer
        # Before there were headers, an answer was what it says and no more.
        statuses.add(answer[9:12] if answer.startswith(b"HTTP/") else answer[:3])
        if answer[9:12] == b"200":
            assert path.partition("?")[0] in {"/", "/content", "/state.json"}, content[:200]
            assert method in {"GET", "HEAD"}
    assert {b"200", b"404", b"405", b"400", b"421"} <= statuses
    for thread in slow:
        thread.join()
    assert running.memory_kib() - before < FLAT
    assert ask(running.port)[0] == 200
    assert running.process.poll() is None
    assert not [path for path in running.folder.iterdir() if path.suffix == ".partial"]


def test_a_report_that_leads_elsewhere_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(SECRET)
    for name in ("report.html", "progress.jsonl"):
        (tmp_path / name).symlink_to(tmp_path / "secret")
    watched = Watched(tmp_path)
    for path in ("/", "/content", "/state.json"):
        found = watched.answer(path)
        assert found
        assert SECRET not in found.plain
    (tmp_path / "report.html").unlink()
    os.mkfifo(tmp_path / "report.html")
    waiting = Watched(tmp_path).answer("/")
    assert waiting
    assert b"Waiting" in waiting.plain
    assert watched.answer("/secret") is None


def test_too_many_clients_are_told_to_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "MOST_CLIENTS", 3)
    with Server(Watched(tmp_path), "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
        with contextlib.ExitStack() as idle:
            for _ in range(3):
                idle.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            assert any(send(server.port, request).startswith(b"HTTP/1.1 503") for _ in range(100))
        # As soon as they have gone there is room again.
        until = time.monotonic() + 4
        while not send(server.port, request).startswith(b"HTTP/1.1 200"):
            assert time.monotonic() < until
        server.shutdown()


def test_the_state_follows_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spilegate.report.live.watched.FRESH", 0.0)
    watched = Watched(tmp_path / "out")

    def state() -> dict[str, object]:
        found = watched.answer("/state.json")
        assert found
        return dict(json.loads(found.plain))

    assert state()["stage"] is None
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".spilegate.lock").touch()
    assert state()["locked"]
    line = {"generation": 2, "generations": 9, "stage": "match", "seconds": 1.0, "figures": {}}
    (tmp_path / "out" / "progress.jsonl").write_text(f"{json.dumps(line)}\nhalf a li", encoding="utf-8")
    told = state()
    assert told["stage"] == {"generation": 2, "generations": 9, "stage": "match"}
    assert abs(float(str(told["changed"])) - time.time()) < 60
    assert state() == told
    # A run that was killed leaves its lock; of one on another computer nobody here can tell.
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for who, locked in (
        (f"process {ended.pid} on {socket.gethostname()}", False),
        (f"process {os.getpid()} on {socket.gethostname()}", True),
        (f"process {ended.pid} on another", True),
    ):
        (tmp_path / "out" / ".spilegate.lock").write_text(f"{who}\n", encoding="ascii")
        assert state()["locked"] is locked, who


def test_bad_addresses_and_folders_end_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = process("watch", tmp_path / "file")
    assert_one_line(done.returncode, done.stdout, done.stderr, "found a file")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = process("watch", tmp_path, "--port", port)
        assert_one_line(done.returncode, done.stdout, done.stderr, f"--port {port} on 127.0.0.1")
    done = process("watch", tmp_path, "--host", "no.such.name.invalid")
    assert_one_line(done.returncode, done.stdout, done.stderr, "--host no.such.name.invalid")
