"""What the workers of each stage do: one loop a file, as the paper reads."""
