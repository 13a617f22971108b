"""How far a result can be trusted, without the truth: half-sets, held-out patterns, phasings, the verdict."""
