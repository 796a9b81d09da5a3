"""Spinal nerve rootlets on MRI: the rootlets task of ``sct_deepseg``."""

__version__ = "0.1.0"
