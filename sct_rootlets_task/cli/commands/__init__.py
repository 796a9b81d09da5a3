"""The commands of ``sct_rootlets``, a module each."""
