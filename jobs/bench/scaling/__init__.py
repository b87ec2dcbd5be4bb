"""A chain on many GPUs, on paper: formulas, what they are fed with, and a check of them here."""
