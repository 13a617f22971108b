"""What a run tells the processes that draw for it, a letter at a time, as long as it lives."""

from __future__ import annotations

import os
import signal
import threading

# There is something newer to draw; the end comes; what is there now is the last.
AGAIN, SOON, LAST = "n", "s", "e"


class Told:
    """Listens to standard input, which the run holds open as long as it lives, and ends this process with it."""

    def __init__(self) -> None:
        self.soon = self.last = False
        self._event = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()

    def wait(self, seconds: float) -> None:
        """Wait until something is told, or so many seconds."""
        self._event.wait(seconds)

    def wait_for_last(self) -> None:
        """Wait until the last is told."""
        while not self.last:
            self.taken()

    def taken(self) -> None:
        """Wait until something is told that was not taken yet, and take all of it."""
        self._event.wait()
        self._event.clear()

    def _listen(self) -> None:
        """Take note of what is read."""
        while letter := os.read(0, 1):
            self.soon = self.soon or letter == SOON.encode()
            self.last = self.last or letter == LAST.encode()
            self._event.set()
        os.kill(os.getpid(), signal.SIGTERM)
