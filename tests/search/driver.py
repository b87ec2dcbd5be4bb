"""A sweep in a process of its own, to be killed: TABLES CONFIG, on the cluster in RAY_ADDRESS."""

import sys
from pathlib import Path

from pipeline import cluster
from pipeline.config import load_config
from pipeline.trials import run_trials
from tests.search.conftest import TARGETS
from tests.search.made import tables_in

if __name__ == "__main__":
    config = load_config(Path(sys.argv[2]))
    cluster.connect(config.cluster)
    run_trials(config, TARGETS, tables_in(Path(sys.argv[1])), "key")
