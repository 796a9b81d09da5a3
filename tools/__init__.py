"""Tools for those who work on the package: the model card, phantoms, measures of the code."""
