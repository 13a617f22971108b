"""The page of a run on loopback, newer whenever the run has something new: what `spilegate watch` serves."""
