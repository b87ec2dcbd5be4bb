"""Stage II by the table: a gate for one target, in seconds, and what it does to held-out images."""

from dsnet.routing import RoutingTable, average_madds
from dsnet.routing.budget import price_curve
from dsnet.routing.looks import routed_by
from dsnet.routing.tuned import TunedGate
from dsnet.training.table_gate import GateOptions, TrainedGate, train_gate
from pipeline.config import Config
from pipeline.store.fingerprint import PICTURES, Spec

SPEC = Spec(
    "gate by table",
    revision=1,
    fields=(*PICTURES, "model.routes", "gate", "table"),
    unread=(
        "gate.supernet",
        "gate.checkpoint_steps",
        "gate.checkpoint_minutes",
        "table.batch_size",
    ),
)


def gate_options(config: Config) -> GateOptions:
    """The config's way to train a gate on a table."""
    gate, table = config.gate, config.table
    return GateOptions(
        classification=gate.lambda_classification,
        complexity=gate.lambda_complexity,
        sgs_weight=table.lambda_sgs,
        sgs=gate.sgs,
        hidden=table.hidden,
        look=gate.look,
        lr=table.lr,
        steps=table.steps,
        seed=config.seed,
    )


def train_on(config: Config, train: RoutingTable, holdout: RoutingTable) -> TrainedGate:
    """The gate for the config's target, or without one by the paper's loss."""
    target = config.gate.target
    madds = [int(count) for count in train.paths.madds]
    targets = [] if target is None else [target.madds(madds)]
    return train_gate(train, holdout, targets, gate_options(config))


def tuned(trained: TrainedGate, holdout: RoutingTable, index: int = 0) -> TunedGate:
    """The gate for the target at `index`, with the prices that held-out images give.

    A gate without targets runs at price 0, and what that averages to stands for its target.
    """
    holdout = routed_by(holdout, trained.heads)
    logits, paths = holdout.logits(trained.heads), holdout.paths
    prices = price_curve(
        lambda price: average_madds(paths, paths.choose(logits, price)),
        float(paths.madds.min()),
        float(paths.madds[paths.widest]),
    )
    target = trained.targets[index] if trained.targets else trained.outcomes[0].madds
    return TunedGate(trained.heads, target, trained.prices[index], prices)
