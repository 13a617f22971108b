"""Text for terminals and pipes that may be closed, full, or short of letters: no such thing ever ends a run."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from typing import TextIO

# What a stream without a letter shows for it; any other letter is written as its code.
PLAIN = {ord("Å"): "A"}


def printable(text: str) -> str:
    """Return a text of one line without what commands a terminal: such characters are written as their codes.

    Names that come from files may hold escape sequences, ends of lines, or bytes that are no letters.
    """
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in text
    )


def encodable(text: str, encoding: str) -> str:
    """Return a text whose letters an encoding has."""
    with contextlib.suppress(UnicodeError, LookupError):
        text.encode(encoding)
        return text
    return text.translate(PLAIN).encode("ascii", "backslashreplace").decode("ascii")


def complain(text: str) -> None:
    """Write a line to standard error, with the program's name, if that can be written to."""
    say(f"spilegate: {text}")


def say(text: str) -> None:
    """Write a line to standard error, if that can be written to."""
    stream = sys.stderr
    if stream is None:
        return
    with contextlib.suppress(OSError, ValueError):
        stream.write(encodable(f"{printable(text)}\n", stream.encoding or "ascii"))
        stream.flush()


class Stream(io.TextIOBase):
    """A stream to write to that never fails: the first error is kept, and what comes after it goes nowhere.

    stream : standard output, None if this process has none
    failed : the error that ended the writing, None while there is none
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self.failed: OSError | None = None

    @property
    def encoding(self) -> str:  # type: ignore[override] # read only, as that of any open stream
        """Name of the stream's encoding."""
        return (self._stream and self._stream.encoding) or "utf-8"

    def isatty(self) -> bool:
        """Tell whether the stream is a terminal."""
        with contextlib.suppress(OSError, ValueError):
            return self._stream is not None and self._stream.isatty()
        return False

    def write(self, text: str) -> int:
        """Write a text and return its length."""
        if self._stream is not None and self.failed is None:
            try:
                self._stream.write(encodable(text, self.encoding))
            except (OSError, ValueError) as error:
                self._give_up(error)
        return len(text)

    def flush(self) -> None:
        """Hand on what was written."""
        if self._stream is not None and self.failed is None:
            try:
                self._stream.flush()
            except (OSError, ValueError) as error:
                self._give_up(error)

    def _give_up(self, error: OSError | ValueError) -> None:
        """Keep the error, and let what the stream still holds go nowhere: it would fail again as the process ends."""
        # A stream that is closed says so by ValueError.
        self.failed = error if isinstance(error, OSError) else OSError(errno.EBADF, os.strerror(errno.EBADF))
        with contextlib.suppress(OSError, ValueError, AttributeError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            try:
                os.dup2(nowhere, self._stream.fileno())  # type: ignore[union-attr] # there is one: it has failed
            finally:
                os.close(nowhere)
