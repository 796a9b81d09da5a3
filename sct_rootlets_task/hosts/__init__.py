"""The command lines a task is run from."""
