"""The network that a configuration asks for: its architecture, gates and routes."""

from collections.abc import Sequence

from dsnet import DSNet, InputError, Metadata, create_model
from dsnet.models.create import architecture
from dsnet.models.width import RoutingSpace
from pipeline.config import Config, Model


def new_network(
    config: Config, classes: int | None = None, metadata: Metadata | None = None
) -> DSNet:
    """A freshly initialised network. classes: of the data, where the config names no number.

    Raises InputError for what cannot be made, and names the field for gates that cannot be.
    """
    model = config.model
    return create_model(
        model.arch,
        model.num_classes or classes,
        gates=gates_of(model),
        routes=model.routes,
        dropout=model.dropout,
        metadata=metadata,
    )


def gates_of(model: Model) -> tuple[int, ...]:
    """The gated stages; without `model.gates` the architecture's own, or else the middle one.

    There, half of the network tells images apart and the other half is left to choose from. Raises
    InputError, naming the field, where these stages cannot have a gate.
    """
    base = architecture(model.arch)
    gates: Sequence[int] = model.gates or base.gates or (len(base.stages) // 2,)
    try:
        RoutingSpace(base.with_gates(gates))
    except InputError as error:
        raise InputError(f"model.gates, for {model.arch}: {error}") from error
    return tuple(gates)
