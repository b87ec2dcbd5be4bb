"""Image files in, classes out: each at the width that the model's gate picks for it."""
