"""`report.html`: one self-contained page of what a run has found, made from what it wrote; nothing is fetched."""
