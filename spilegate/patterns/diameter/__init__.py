"""The particle's largest diameter, from the patterns alone."""
