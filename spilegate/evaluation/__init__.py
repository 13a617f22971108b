"""How good a reconstruction is: alignment, resolution, orientation errors. Nothing of the loop depends on it."""
