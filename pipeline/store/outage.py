"""A store that does not answer: asked again for a while, with a warning, then one line of error.

All that waits for a store waits through `ask`. What the waits of a process add up to since the
store last answered is bounded by DSNET_STORE_PATIENCE, in seconds (60).
"""

import logging
import os
import shutil
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from mlflow.exceptions import MlflowException
from requests.exceptions import RequestException

from dsnet.errors import InputError, OutageError
from dsnet.io.files import disk_full, is_disk_full
from pipeline.store import embedded

logger = logging.getLogger(__name__)

T = TypeVar("T")

_PATIENCE = "DSNET_STORE_PATIENCE"
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 5.0  # seconds
_ATTEMPTS = 4  # at an error that is no outage and may be temporary


class StoreError(OutageError):
    """The MLflow store did not answer for as long as anybody waits, or does not do what it should.

    The message is one line that names the store.
    """


def patience() -> float:
    """How many seconds are waited, in all, for a store that does not answer."""
    text = os.environ.get(_PATIENCE, "60")
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise InputError(f"{_PATIENCE}: expected a number of seconds, such as 60, found {text!r}")
    return seconds


class _Waits:
    """How long this process has waited since the store last answered."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._lock = threading.Lock()

    def add(self, seconds: float) -> None:
        with self._lock:
            self._seconds += seconds

    def forget(self) -> None:
        with self._lock:
            self._seconds = 0.0

    def left(self) -> float:
        with self._lock:
            return max(0.0, patience() - self._seconds)


waits = _Waits()


def ask(address: str, call: Callable[[], T]) -> T:
    """What `call` gets from the store at `address`, asked again while the store does not answer.

    Raises StoreError when patience has run out or credentials are refused, DiskFullError where the
    store's disk is full, InputError where its file is damaged, and what MLflow raises for all that
    asking again does not mend.
    """
    attempts, pause = 0, _FIRST_PAUSE
    while True:
        started = time.monotonic()
        try:
            answer = call()
        except Exception as error:
            attempts += 1
            told = translated(address, error)
            if told is not None:
                raise told from error
            if is_permanent(error):
                raise
            away = is_outage(error)
            if not away and attempts == _ATTEMPTS:
                raise
            waits.add(time.monotonic() - started)
            if (left := waits.left()) == 0 and away:
                raise StoreError(
                    f"MLflow store {address}: no answer in {patience():g} s ({reason(error)}); "
                    "start it, and run the same command again"
                ) from error
            if not away:
                logger.warning("MLflow failed, asking again: %s", reason(error))
            elif attempts == 1:
                logger.warning(
                    "MLflow store %s does not answer, waiting for it for up to %.0f s: %s",
                    address,
                    left,
                    reason(error),
                )
            time.sleep(min(pause, max(left, 0.1)))
            waits.add(min(pause, left))
            pause = min(2 * pause, _LONGEST_PAUSE)
        else:
            waits.forget()
            return answer


def translated(address: str, error: Exception) -> Exception | None:
    """The one-line error for a full disk, a damaged file or refused credentials; else None."""
    file = embedded.database(address)
    if is_disk_full(error):
        if file is not None:
            return disk_full(file.parent)
        return StoreError(f"MLflow store {address}: its disk is full ({reason(error)})")
    if file is not None and embedded.is_damage(error):
        return embedded.damaged(file, error)
    if isinstance(error, MlflowException) and error.error_code in _REFUSED:
        return StoreError(f"MLflow store {address}: {_REFUSED[error.error_code]}; {_CREDENTIALS}")
    return None


_REFUSED = {
    "UNAUTHENTICATED": "it refused the credentials",
    "PERMISSION_DENIED": "this user may not do that",
}
_CREDENTIALS = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"

_PERMANENT = frozenset(
    {
        "BAD_REQUEST",
        "INVALID_PARAMETER_VALUE",
        "INVALID_STATE",
        "PERMISSION_DENIED",
        "RESOURCE_ALREADY_EXISTS",
        "RESOURCE_DOES_NOT_EXIST",
        "UNAUTHENTICATED",
    }
)

# For a URI with an unknown scheme; MLflow calls it an internal error.
_NO_SUCH_PLACE = "Could not find a registered artifact repository for"

_PERMANENT_HERE = (
    InputError,
    OutageError,
    FileExistsError,
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
    shutil.Error,
)


def is_permanent(error: BaseException) -> bool:
    """Whether asking the store again would fail in the same way."""
    if isinstance(error, MlflowException):
        return error.error_code in _PERMANENT or _NO_SUCH_PLACE in str(error)
    return isinstance(error, _PERMANENT_HERE)


def is_outage(error: BaseException) -> bool:
    """Whether an error says that the store does not answer, or is too busy to."""
    return not is_permanent(error) and isinstance(
        error, (MlflowException, RequestException, ConnectionError, TimeoutError)
    )


def reason(error: BaseException) -> str:
    """An error in a line, short."""
    text = " ".join(str(error).split()) or type(error).__name__
    if "NewConnectionError" in text and "Connection refused" in text:
        return "connection refused"
    return text if len(text) <= 300 else text[:299] + "…"
