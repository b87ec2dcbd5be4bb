"""A sweep in a process of its own, to be killed: TABLES CONFIG, on the cluster in RAY_ADDRESS."""

import sys
from pathlib import Path

from pipeline.cluster import ray_cluster
from pipeline.config import load_config
from pipeline.sweep.tuner import run_trials
from tests.pipeline.sweep.conftest import TARGETS
from tests.pipeline.sweep.made import tables_in

if __name__ == "__main__":
    config = load_config(Path(sys.argv[2]))
    ray_cluster.connect(config.cluster)
    run_trials(config, TARGETS, tables_in(Path(sys.argv[1])), "key")
