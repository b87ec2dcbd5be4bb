"""An embedded store: a DSNET_HOME of its own, and no MLflow server."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def embedded_store(home: Path) -> Iterator[Path]:
    """Within it `home` is $DSNET_HOME, and the store lies there, whatever the environment names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DSNET_HOME", str(home))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield home
