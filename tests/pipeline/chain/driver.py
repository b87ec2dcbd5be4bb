"""`dsnet run` in a process of its own whose stage I pauses: CONFIG FOLDER STEP RANK."""

import sys
from pathlib import Path

from jobs import cli
from pipeline import chain
from tests.pipeline.chain.pauses import Pause

if __name__ == "__main__":
    config, folder, step, rank = sys.argv[1:]
    pause = Pause(Path(folder), int(step), int(rank))
    chain.SUPERNET = (pause.within(), *chain.SUPERNET[1:])
    cli.main(["run", "--config", config])
