"""The stages, one file each: ingest, supernet, calibrate, gate, evaluate, register."""
