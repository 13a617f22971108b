"""The one exception a user's mistake ends in."""

from __future__ import annotations


class InputError(Exception):
    """Bad input: a file, dataset or option that cannot be used.

    The message is one line: what (file, dataset or option), what was found, what was expected, what to do.
    The command line prints it without a traceback and exits with code 2.
    """
