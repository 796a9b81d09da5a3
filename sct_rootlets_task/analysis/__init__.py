"""What a level map says: bundles, consistency, plausibility, spinal levels, sides."""
