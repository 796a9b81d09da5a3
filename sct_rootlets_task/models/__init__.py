"""The life of a model on this machine: fetched, installed, found."""
