"""The tasks: what a network of a family is for."""
