"""What a chain on paper takes for granted: options, their defaults, and where those are from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import click

from jobs.bench.scaling.all_reduce import Link

ASSUMED = "assumed"
GPU = "of an H100 SXM, as published"
MEASURED_HERE = "left out: measured here, on JPEGs cropped to 224 pixels"


class Counts(click.ParamType[tuple[int, ...]]):
    """Numbers of GPUs, in rising order: 8,64,512."""

    name = "counts"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, ...]:
        """Raises BadParameter for what is no such list."""
        parts = str(value).split(",")
        counts = tuple(int(part) for part in parts if part.strip().isdecimal())
        if len(counts) < len(parts) or min(counts) < 1 or list(counts) != sorted(set(counts)):
            self.fail(
                f"expected numbers of GPUs in rising order, such as 8,64,512, found {value}",
                param,
                ctx,
            )
        return counts


POSITIVE = click.FloatRange(0, min_open=True)


def _assumed(default: Any, kind: click.ParamType[Any], unit: str, text: str, source: str) -> Any:
    about = {"kind": kind, "unit": unit, "text": text, "source": source}
    return field(default=default, metadata=about)


@dataclass(frozen=True)
class Assumptions:
    """Of the GPUs, the network between them, and what they cost."""

    step_ms: float | None = _assumed(
        None,
        POSITIVE,
        "ms",
        "A GPU's forward and backward passes for one batch of the config's size",
        "left out: computed from --tflops and --utilisation",
    )
    tflops: float = _assumed(67.0, POSITIVE, "TFLOP/s", "A GPU's peak, in float32", GPU)
    utilisation: float = _assumed(
        0.2,
        click.FloatRange(0, 1, min_open=True),
        "of the peak",
        "What a step reaches of it",
        ASSUMED,
    )
    launch_us: float = _assumed(
        5.0,
        POSITIVE,
        "us",
        "Time to start one operator, below which no step gets however small its batch",
        ASSUMED,
    )
    gpus_per_node: int = _assumed(8, click.IntRange(1), "GPUs", "GPUs of a node", ASSUMED)
    local_gbytes: float = _assumed(
        150.0, POSITIVE, "GB/s", "What a GPU sends to its neighbour within a node", ASSUMED
    )
    local_us: float = _assumed(3.0, POSITIVE, "us", "Latency of that", ASSUMED)
    network_gbits: float = _assumed(
        100.0, POSITIVE, "Gbit/s", "What a node sends to the next", ASSUMED
    )
    network_us: float = _assumed(10.0, POSITIVE, "us", "Latency of that", ASSUMED)
    loader_ms: float | None = _assumed(
        None, POSITIVE, "CPU ms", "The loader's work for one picture", MEASURED_HERE
    )
    storage_gbytes: float = _assumed(
        0.5, POSITIVE, "GB/s", "Writing a checkpoint to the storage", ASSUMED
    )
    price: float = _assumed(2.5, POSITIVE, "$ an hour", "Price of a GPU", ASSUMED)

    def link(self, gpus: int) -> Link:
        """The slowest in a ring of so many: within a node, or between nodes."""
        if gpus <= self.gpus_per_node:
            return Link(1e9 * self.local_gbytes, 1e-6 * self.local_us)
        return Link(1e9 / 8 * self.network_gbits, 1e-6 * self.network_us)


GPUS = (8, 64, 512)
NAMES = ("gpus", *(each.name.replace("_", "-") for each in fields(Assumptions)))


def assumption_flags(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command --gpus, and a flag for each assumption."""
    for each in reversed(fields(Assumptions)):
        about = each.metadata
        default = "" if each.default is None else f"; default {each.default:g}"
        click.option(
            f"--{each.name.replace('_', '-')}",
            type=about["kind"],
            metavar="X",
            help=f"Of bench scale: {about['text']} ({about['unit']}{default}; {about['source']}).",
        )(function)
    return click.option(
        "--gpus",
        type=Counts(),
        default=",".join(map(str, GPUS)),
        show_default=True,
        metavar="N,N,…",
        help="Of bench scale: GPUs to put the chain on, a worker on each.",
    )(function)


def assumptions(flags: Mapping[str, Any]) -> Assumptions:
    """Those that flags give, by their parameters' names. Raises UsageError for a contradiction."""
    given = {each.name: flags[each.name] for each in fields(Assumptions)}
    given = {name: value for name, value in given.items() if value is not None}
    if "step_ms" in given and (more := given.keys() & {"tflops", "utilisation"}):
        raise click.UsageError(
            f"expected --step-ms or what it is computed from, found --{min(more)} beside it"
        )
    return Assumptions(**given)
