"""Files: one reader per format of patterns, and the writers of maps, checkpoints and results."""
