"""Patterns with known truth: particles made of atoms, and the experiment that measures them."""
