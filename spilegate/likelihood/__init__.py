"""On which points, and by which statistics, a pattern and a slice are compared."""
