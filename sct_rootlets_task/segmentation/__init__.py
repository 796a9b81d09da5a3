"""From an image to a level map."""
