"""Everything that knows about a device or a numerical library: transforms, correlations, solvers, tasks."""
