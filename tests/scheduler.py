"""Several processes of tests (`pytest -n 2`): which of them run in one."""

from xdist.scheduler import LoadScopeScheduling

SHARED = {
    # Tests of a Ray cluster, which a process starts once.
    "ray": (
        "tests/pipeline/chain/",
        "tests/pipeline/cluster/test_interrupts.py",
        "tests/test_private.py",
    ),
    # Of another one beside it: these would make the first process's the longest by far.
    "ray beside": (
        "tests/jobs/test_ablation.py",
        "tests/pipeline/predict/serve/test_server.py",
        "tests/pipeline/sweep/test_search.py",
    ),
    # Of an MLflow server.
    "mlflow": (
        "tests/pipeline/store/test_authentication.py",
        "tests/pipeline/store/test_registry.py",
        "tests/pipeline/store/test_tracking.py",
    ),
}

LONGEST = (
    "ray",
    "tests/jobs/test_submit.py",
    "ray beside",
    "tests/test_documented.py",
    "tests/jobs/test_bench.py",
    "tests/examples/test_examples.py",
    "tests/pipeline/training/test_compile.py",
    "mlflow",
)
"""Scopes that take a minute or nearly, the longest first: begun last, one would keep its process
alone at work in the end."""


def scope(nodeid: str) -> str:
    """What runs in one process: tests that share a cluster or server, or their file's fixtures."""
    for name, tests in SHARED.items():
        if nodeid.startswith(tests):
            return name
    return nodeid.partition("::")[0]


def rank(nodeid: str) -> int:
    """What is to be begun first has the lowest."""
    found = scope(nodeid)
    return LONGEST.index(found) if found in LONGEST else len(LONGEST)


class Scheduler(LoadScopeScheduling):
    """Hands each process one scope after another."""

    def _split_scope(self, nodeid: str) -> str:
        return scope(nodeid)
