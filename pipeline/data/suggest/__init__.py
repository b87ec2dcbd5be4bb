"""A first configuration for pictures of one's own, from what they are like."""
