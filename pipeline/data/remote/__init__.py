"""What lies in a store behind a URI, brought to this node's disk and read there."""
