"""How levels are decided: where they come from, where they lie, how they are corrected."""
