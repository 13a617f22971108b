"""What each command of the command line does, once its options are parsed."""

import os


class Interrupted(Exception):  # noqa: N818 - not an error: the user asked for it
    """The user stopped the command; the message says what is kept and how to go on."""


def available_threads() -> int:
    """Return how many threads this process may run at once."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
