"""Where things lie: detector pixels and rings, orientations and views, Fourier grids."""
