"""Routing tables on disk, built in shards by any number of workers, read with Arrow.

Empty: the process of a trial reads arrays and must not load FFCV to do so.
"""
