"""Where the MLflow store is: MLFLOW_TRACKING_URI, or a file in $DSNET_HOME. Without MLflow."""

import os
from pathlib import Path
from urllib.parse import urlsplit

from dsnet.errors import InputError
from pipeline.config import check_in_uri, home

SQLITE = "sqlite:///"


def uri() -> str:
    """MLFLOW_TRACKING_URI, or the embedded store's; InputError where it holds credentials."""
    address = os.environ.get("MLFLOW_TRACKING_URI", "").strip()
    if not address:
        return f"{SQLITE}{home() / 'mlflow.db'}"
    if address.startswith(SQLITE):
        check_in_uri("MLFLOW_TRACKING_URI", address)
    parts = urlsplit(address)
    # It would be sent to workers and shown in logs, so what may be secret is not even repeated.
    if "@" in parts.netloc:
        raise InputError(
            "MLFLOW_TRACKING_URI: expected no user or password in it, found some; "
            "put them into MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        )
    if parts.scheme in ("http", "https") and (parts.query or parts.fragment):
        raise InputError(
            "MLFLOW_TRACKING_URI: expected a server's address alone, found more behind a ? or #; "
            "put a token into MLFLOW_TRACKING_TOKEN"
        )
    return address


def database(address: str) -> Path | None:
    """The SQLite file of a store's URI; None for a server."""
    if not address.startswith(SQLITE):
        return None
    return Path(address.removeprefix(SQLITE)).absolute()
