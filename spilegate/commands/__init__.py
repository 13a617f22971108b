"""What each command of the command line does, once its options are parsed."""


class Interrupted(Exception):  # noqa: N818 - not an error: the user asked for it
    """The user, or a scheduler, stopped the command; the message says what is kept and how to go on."""
