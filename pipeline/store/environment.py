"""MLflow's settings as this project wants them; imported before MLflow, which reads some once.

A variable that is set already wins.
"""

import logging
import os

_DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # stdout is for results
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # One attempt a call, told from the next: `pipeline.store.outage` asks again, and says so.
    # MLflow by itself would wait in silence, by default for four minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}

for _name, _value in _DEFAULTS.items():
    os.environ.setdefault(_name, _value)

# Seventy lines at the first start of a store, one at each registration.
for _name in ("alembic", "mlflow.store"):
    logging.getLogger(_name).setLevel(logging.WARNING)
# Tracebacks and SQL of errors that are raised as well.
logging.getLogger("mlflow.store.db").setLevel(logging.CRITICAL)
