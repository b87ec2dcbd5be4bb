"""Several processes of tests (`pytest -n 2`): which of them run in one."""

from xdist.scheduler import LoadScopeScheduling

# Tests of the session's Ray cluster, which is started once. Searches start one of their own beside
# it: they would make these the longest by far.
RAY = (
    "tests/pipeline/chain/",
    "tests/pipeline/cluster/test_interrupts.py",
    "tests/pipeline/serve/test_server.py",
    "tests/test_private.py",
)


def scope(nodeid: str) -> str:
    """What runs in one process: tests that share a cluster, or the fixtures of their file."""
    return "ray" if nodeid.startswith(RAY) else nodeid.partition("::")[0]


class Scheduler(LoadScopeScheduling):
    """Hands each process one scope after another."""

    def _split_scope(self, nodeid: str) -> str:
        return scope(nodeid)
