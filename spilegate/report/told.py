"""What a run tells the processes that draw for it, a letter at a time, as long as it lives."""

from __future__ import annotations

import os
import signal
import threading

# There is something newer to draw; what is there now is the last.
AGAIN, LAST = "n", "e"


class Told:
    """Listens to standard input, which the run holds open as long as it lives, and ends this process with it."""

    def __init__(self) -> None:
        self.last = False
        self._event = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()

    def wait(self, seconds: float | None = None) -> None:
        """Wait until something is told, or so many seconds."""
        self._event.wait(seconds)

    def taken(self) -> bool:
        """Wait until something is told that was not taken yet; take all of it; return whether it was the last."""
        self._event.wait()
        # In this order: what is told meanwhile counts as told.
        self._event.clear()
        return self.last

    def _listen(self) -> None:
        """Take note of what is read."""
        while letter := os.read(0, 1):
            self.last = self.last or letter == LAST.encode()
            self._event.set()
        os.kill(os.getpid(), signal.SIGTERM)
