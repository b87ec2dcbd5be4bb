"""Tuned gates: the slimming heads of several targets for one network, any of which may be put in.

A sweep finds a gate for every target, all on one trunk. A model directory holds them side by side,
so that one version serves every budget: the budget picks the gate that was trained nearest to it,
and a price takes that gate the rest of the way.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from dsnet.errors import InputError
from dsnet.errors.checks import check_numbers
from dsnet.models.metadata import Prices, check_prices
from dsnet.models.network import DSNet
from dsnet.nn.gate import heads_from_tensors, heads_to_tensors
from dsnet.routing.budget import price_for
from dsnet.routing.curve import nearest
from dsnet.routing.looks import check_looks, evidence_size
from dsnet.routing.target import Target, parse_target


@dataclass(frozen=True)
class TunedGate:
    """Slimming heads with the prices that held-out images gave them.

    Raises InputError for a number that is not finite.
    """

    heads: tuple[nn.Module, ...]
    """One for each gate of the network, then those of its looks."""
    target: float
    """Average multiply-adds per image that they were trained for."""
    price: float
    """The price that meets the target."""
    prices: Prices
    """See `Metadata`."""

    def __post_init__(self) -> None:
        check_numbers("gates.target", [self.target])
        check_prices("gates", self.price, self.prices)


def at_budget(model: DSNet, gates: Sequence[TunedGate], budget: Target | float | str) -> DSNet:
    """A copy of `model` that spends `budget` on average where nobody asks for anything else.

    It routes by the gate that was trained nearest to the budget; without any, by its own. Raises
    InputError as `dsnet.routing.budget.price_for`.
    """
    target = parse_target(budget)
    madds = target.madds([model.madds(route) for route in model.space.routes])
    if gates:
        index, exactly = nearest([gate.target for gate in gates], madds)
        model = fitted(model, gates[index])
        if exactly:
            return model
    else:
        model = copy.deepcopy(model)
    model.metadata = replace(model.metadata, price=price_for(model, target))
    return model


def fitted(model: DSNet, gate: TunedGate) -> DSNet:
    """A copy of `model` that routes by `gate`, at its target where nobody asks for anything else.

    Raises InputError for heads that do not fit the network.
    """
    fit = copy.deepcopy(model)
    put_heads(fit, gate.heads)
    fit.metadata = replace(model.metadata, price=gate.price, prices=gate.prices)
    return fit


def put_heads(model: DSNet, heads: Sequence[nn.Module]) -> None:
    """Give `model` these slimming heads: one for each gate, then those of its looks, if any.

    Raises InputError for heads that do not fit it.
    """
    gates = model.gates
    first, looks = heads[: len(gates)], heads[len(gates) :]
    if len(first) < len(gates) or len(looks) not in (0, len(model.space.routes) - 1):
        raise InputError(
            f"expected slimming heads for {len(gates)} gates and for no look or "
            f"{len(model.space.routes) - 1}, found {len(heads)}"
        )
    for gate, head, entries in zip(gates, first, model.space.choices, strict=True):
        _check(head, gate.features, len(entries))
    if looks:
        check_looks(model)
        wanted = evidence_size(model)
        for head in looks:
            _check(head, wanted, len(model.space.routes))
    device = next(model.parameters()).device
    for gate, head in zip(gates, first, strict=True):
        gate.slimming = head.to(device)
    model.looks = nn.ModuleList(looks).to(device) if looks else None


def _check(head: nn.Module, features: int, routes: int) -> None:
    layers = [m for m in head.modules() if isinstance(m, nn.Linear)]
    found = layers[0].in_features, layers[-1].out_features
    if found != (features, routes):
        raise InputError(
            f"expected a slimming head from {features} features to {routes} routes, "
            f"found one from {found[0]} to {found[1]}"
        )


# In a model directory -----------------------------------------------------------------------------


def to_tensors(gates: Sequence[TunedGate]) -> dict[str, Tensor]:
    """Every weight of the heads, by gate, head and name: `0.0.weight`.

    Copies: gates may share their heads and differ in their price, and a file's tensors share none.
    """
    return {
        f"{index}.{name}": value
        for index, gate in enumerate(gates)
        for name, value in heads_to_tensors(gate.heads).items()
    }


def to_facts(gates: Sequence[TunedGate]) -> list[dict[str, Any]]:
    """What is not a weight, as plain JSON values."""
    return [{"target": g.target, "price": g.price, "prices": g.prices} for g in gates]


def from_parts(
    facts: Sequence[Mapping[str, Any]], tensors: Mapping[str, Tensor]
) -> list[TunedGate]:
    """The inverse of `to_facts` and `to_tensors`. Raises InputError for what they did not make."""
    states: dict[int, dict[str, Tensor]] = {}
    try:
        for name, tensor in tensors.items():
            gate, weight = name.split(".", 1)
            states.setdefault(int(gate), {})[weight] = tensor
        return [
            TunedGate(
                heads=heads_from_tensors(states[index]),
                target=float(values["target"]),
                price=float(values["price"]),
                prices=tuple((float(price), float(madds)) for price, madds in values["prices"]),
            )
            for index, values in enumerate(facts)
        ]
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, RuntimeError, OverflowError) as error:
        raise InputError(f"expected tuned gates, found something else: {error!r}") from error
