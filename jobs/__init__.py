"""What a person or a scheduler launches."""
