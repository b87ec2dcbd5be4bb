"""Several processes of tests (`pytest -n 2`): which of them run in one."""

from xdist.scheduler import LoadScopeScheduling

# Tests of the session's Ray cluster, which is started once. Searches start one of their own beside
# it: they would make these the longest by far.
RAY = (
    "tests/pipeline/chain/",
    "tests/pipeline/cluster/test_interrupts.py",
    "tests/test_private.py",
)

# Tests of the session's MLflow server.
MLFLOW = tuple(
    f"tests/pipeline/store/test_{name}.py" for name in ("authentication", "registry", "tracking")
)


def scope(nodeid: str) -> str:
    """What runs in one process: tests that share a cluster or server, or their file's fixtures."""
    if nodeid.startswith(RAY):
        return "ray"
    return "mlflow" if nodeid.startswith(MLFLOW) else nodeid.partition("::")[0]


class Scheduler(LoadScopeScheduling):
    """Hands each process one scope after another."""

    def _split_scope(self, nodeid: str) -> str:
        return scope(nodeid)
