"""The plan of a lent GPU's minutes: what is measured there, in what order, and what came of it."""
