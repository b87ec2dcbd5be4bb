"""The Ray cluster, and progress across its processes."""
