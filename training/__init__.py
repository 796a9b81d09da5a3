"""Training of the built-in networks; not part of the installed package."""
