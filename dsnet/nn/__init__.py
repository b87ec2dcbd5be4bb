"""What networks are built of: slimmable layers and the double-headed gate."""
