"""Whole blind runs on what real data are like: each finds what an ideal experiment would have shown."""
