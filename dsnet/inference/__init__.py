"""The network as it is run rather than trained: folded, a branch for every width, ready to go."""
