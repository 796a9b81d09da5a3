"""Benchmarks and the reference they compare with; not part of the installed package."""
