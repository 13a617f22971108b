"""What is served of a folder: its page, the part of it that changes, and how the run is getting on. Nothing else."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import socket
import stat
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spilegate.report.page import shell

# Seconds for which an answer may be repeated without a look at the folder, however many ask.
FRESH = 0.5
# No file that a run writes for this is larger [bytes].
LARGEST = 64 << 20
# The last lines of the progress records are within so many bytes.
TAIL = 4096
PAGE, CHECKPOINT, PROGRESS, LOCK = "report.html", "checkpoint.h5", "progress.jsonl", ".spilegate.lock"
HTML, JSON = "text/html; charset=utf-8", "application/json"


@dataclass(frozen=True)
class Answer:
    """What is sent: its kind, its tag, and the bytes, as they are and compressed."""

    kind: str
    tag: str
    plain: bytes
    small: bytes

    @staticmethod
    def of(kind: str, content: bytes) -> Answer:
        """Return the answer for a content."""
        return Answer(kind, hashlib.sha256(content).hexdigest()[:20], content, gzip.compress(content, 5, mtime=0))


class Watched:
    """A folder, which need not exist yet; it is looked at when somebody asks, and not more often than that."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._guard = threading.Lock()
        self._looked = -FRESH
        self._seen: tuple[Any, ...] = ()
        self._page_seen: Any = None
        self._answers: dict[str, Answer] = {}
        self._generation, self._running, self._tag = 0, True, ""
        self._changed = 0.0

    def answer(self, path: str) -> Answer | None:
        """Return what there is at a path: "/", "/content" or "/state.json"; None for any other."""
        if path not in {"/", "/content", "/state.json"}:
            return None
        with self._guard:
            if time.monotonic() - self._looked >= FRESH:
                self._look()
                self._looked = time.monotonic()
            return self._answers[path]

    def _look(self) -> None:
        """Renew the answers if something has changed."""
        stamps = tuple(self._stamp(name) for name in (PAGE, PROGRESS, LOCK, CHECKPOINT))
        locked = stamps[2] is not None and self._lives()
        seen = (*stamps, locked)
        if seen == self._seen and self._answers:
            return
        # By our own clock where we saw it change: that of another host may differ.
        newest = max((stamp[0] for stamp in stamps[:2] if stamp), default=0)
        self._changed = time.time() if self._seen else min(time.time(), newest / 1e9) if newest else 0.0
        self._seen = seen
        if stamps[0] != self._page_seen or not self._answers:
            self._page_seen = stamps[0]
            self._read_page()
        state = {
            "page": self._tag,
            "generation": self._generation,
            "running": self._running,
            "locked": locked,
            "checkpoint": stamps[3] is not None,
            "changed": round(self._changed, 1),
            "stage": self._last_stage(),
        }
        self._answers["/state.json"] = Answer.of(JSON, json.dumps(state).encode())

    def _lives(self) -> bool:
        """Tell whether the run that has locked the folder goes on, as far as can be told: of another host it cannot."""
        found = re.fullmatch(rb"process (\d{1,9}) on (\S+)\s*", self._read(LOCK, last=TAIL) or b"")
        if found is None or found[2].decode("utf-8", "replace") != socket.gethostname():
            return True
        try:
            os.kill(int(found[1]), 0)
        except ProcessLookupError:
            return False
        except OSError:
            # It is somebody else's.
            return True
        return True

    def _read_page(self) -> None:
        """Renew the answers that come from the page."""
        content = self._read(PAGE)
        text = shell.waiting(self._folder) if content is None else content.decode("utf-8", "replace")
        found = re.search(r'data-generation="(\d{1,9})"', text)
        self._generation = int(found[1]) if found else 0
        self._running = found is None or '<header class="verdict running"' in text
        self._tag = hashlib.sha256(text.encode()).hexdigest()[:20]
        _, _, rest = text.partition(shell.BEGIN)
        self._answers = {
            "/": Answer.of(HTML, text.replace(shell.ALONE, shell.LIVE.format(self._tag), 1).encode()),
            "/content": Answer.of(HTML, rest.rpartition(shell.END)[0].encode()),
        }

    def _last_stage(self) -> dict[str, Any] | None:
        """Return the last stage that has ended, None if there is none."""
        for line in (self._read(PROGRESS, last=TAIL) or b"").splitlines()[::-1]:
            try:
                record = json.loads(line)
                return {
                    "generation": int(record["generation"]),
                    "generations": int(record["generations"]),
                    "stage": str(record["stage"])[:20],
                }
            except (ValueError, KeyError, TypeError, RecursionError):
                continue
        return None

    def _stamp(self, name: str) -> tuple[int, int, int] | None:
        """Return what tells one version of a file from the next; None if there is none."""
        try:
            found = (self._folder / name).lstat()
        except OSError:
            return None
        return (found.st_mtime_ns, found.st_size, found.st_ino) if stat.S_ISREG(found.st_mode) else None

    def _read(self, name: str, last: int | None = None) -> bytes | None:
        """Return the content of a file of the folder, or its last bytes; None if it is none, or a link to elsewhere."""
        try:
            descriptor = os.open(self._folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_size > LARGEST:
                return None
            try:
                if last is not None:
                    file.seek(max(0, found.st_size - last))
                return file.read(LARGEST if last is None else last)
            except OSError:
                return None
