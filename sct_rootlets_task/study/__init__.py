"""Whole data sets: which images there are, what is still to be done, who does it, and the cohort."""
