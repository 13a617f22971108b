"""What a user sees: lines while it runs, and pictures drawn by another process (`python -m spilegate.report`)."""
