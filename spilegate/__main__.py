"""`python -m spilegate` does what the command `spilegate` does."""

from spilegate.cli import main

main()
