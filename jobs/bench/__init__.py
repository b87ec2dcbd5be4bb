"""Benchmarks: a module for each, with `bench(options)` that returns its records.

What is compared is timed in turns, A B A B, in one process: whatever else the machine is doing then
disturbs all of it alike.
"""
