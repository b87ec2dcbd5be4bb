"""What MLflow's pages of an experiment and of a run say above everything else, in Markdown."""

from collections.abc import Sequence

from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from dsnet.routing.target import Target
from pipeline.config import Config

_EXPERIMENT = """\
Dynamic Slimmable Networks (arXiv 2103.13258): networks that pick, for each image, how wide the rest
of themselves should be.

- **run NAME at TARGET: what changed** is a chain: the stages that train one network (supernet,
  calibrated supernet, gate) and what it reaches on the test images (evaluate), nested in it. Its
  own metrics are the network's: the headline (`top1`) of the dynamic network, of its slimmest and
  its widest sub-network, and `average_madds`; *Columns* adds them to the table.
- **sweep NAME: TARGETS** makes a gate for each of several budgets on one supernet; each *trial*
  nested in it is one of the gates that were tried. `frontier.html` among its artifacts compares
  them.
- **register NAME** measures a model that was made elsewhere, and registers it.

*Models* has what they registered: its cards say what a model is, what it reaches at which cost, and
how to use it."""

EXPERIMENT_TAGS = {
    # Without it, the page opens on traces of chats.
    "mlflow.experimentKind": "custom_model_development",
    MLFLOW_RUN_NOTE: _EXPERIMENT,
}
"""Tags of an experiment that holds trainings."""


def run_note(config: Config, targets: Sequence[Target]) -> str:
    """The note of a chain's run or, with targets, of a sweep's."""
    what = f"{config.model.arch}, trained on {config.data.source}"
    name = config.name
    if targets:
        asked = ", ".join(map(str, targets))
        return (
            f"A gate for each target ({asked}) on one supernet ({what}). `frontier.html` among the "
            "artifacts compares what they reach, the runs nested here have each by itself, and the "
            f"best are registered as `models:/{name}`."
        )
    return (
        f"The stages of one network ({what}), nested here in their order: supernet, calibrated "
        f"supernet, gate, and an evaluation on the test images. It is registered as "
        f"`models:/{name}`; `config.yaml` among the artifacts makes it again."
    )


def given_note(config: Config) -> str:
    """Of a run that registers a model which was made elsewhere."""
    return (
        f"A model ({config.model.arch}) that was given and not trained here: what it reaches on "
        f"pictures of {config.data.source} is nested here."
    )
