"""The tasks inside a real Spinal Cord Toolbox."""
