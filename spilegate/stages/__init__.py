"""The stages of M-TIP: slice, match, refine, merge, phase. Functions of arrays; none imports another."""
