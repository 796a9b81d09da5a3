"""Whole data sets: what is in them, what is still to be done, who does it, and the cohort."""
