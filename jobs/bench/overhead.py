"""What Ray Train and all else around the loops take: of a whole chain, and once it trains."""

import os

from jobs.bench import steady, whole_chain
from jobs.bench.interleaved import compare
from jobs.bench.options import Options
from jobs.bench.record import Record


def bench(options: Options) -> list[Record]:
    """Seconds around the loops of a whole chain, part by part; then what a step costs under Ray.

    First `dsnet run` with stages of one epoch on the digits, two workers, each in a folder of its
    own, beside a Ray Train run whose workers do nothing, and what the second `dsnet run` takes.
    Then epochs of stage I by workers of Ray Train, beside the same by processes of
    torch.distributed alone.
    """
    for variable in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI"):
        os.environ.pop(variable, None)
    records = compare(
        "overhead",
        {"nothing": whole_chain.nothing, "chain": whole_chain.chain},
        against="nothing",
        runs=options.runs,
        warmups=0,
    )
    epochs = 2 if options.quick else steady.EPOCHS
    return records + compare(
        "overhead steady",
        {
            "torch.distributed": lambda: steady.plain(epochs),
            "Ray Train": lambda: steady.on_ray(epochs),
        },
        against="torch.distributed",
        runs=options.runs,
        warmups=0,
    )
