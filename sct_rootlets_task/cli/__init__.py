"""The two command lines: ``sct_deepseg`` and ``sct_rootlets``."""
