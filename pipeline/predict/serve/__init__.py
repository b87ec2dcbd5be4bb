"""Serving over HTTP on Ray Serve: a front that queues and batches, replicas that run a network."""
