"""A beton into batches: order, decoding, loader."""
