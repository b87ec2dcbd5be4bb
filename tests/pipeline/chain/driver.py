"""A chain or sweep in its own process, whose stage I pauses and writes down what it reads.

CONFIG FOLDER STEP RANK SECONDS COMMAND…: of the pause, how much longer each batch takes, and `run`
or `sweep` with its other options.
"""

import sys
from pathlib import Path

from jobs import cli
from pipeline import chain
from pipeline.training import worker_group
from tests.pipeline.chain.pauses import Pause
from tests.pipeline.chain.recorded import Record

if __name__ == "__main__":
    config, folder, step, rank, seconds, *command = sys.argv[1:]
    worker_group.SECONDS_BETWEEN_RESIZES = 2.0
    stage = Record(Path(folder), float(seconds)).within(chain.SUPERNET[0])
    chain.SUPERNET = (Pause(Path(folder), int(step), int(rank)).within(stage), *chain.SUPERNET[1:])
    cli.main([*command, "--config", config])
