"""The token that a Ray cluster asks for, found where Ray looks for it."""

import os
from pathlib import Path

from dsnet.errors import InputError
from pipeline.cluster.ray_private import admits, read_environment_again

_MODE = "RAY_AUTH_MODE"


def find() -> str:
    """RAY_AUTH_TOKEN, or what is in the file RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token; or "".

    Raises InputError if the file that is named cannot be read.
    """
    if token := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return token
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(named) if named else Path.home() / ".ray" / "auth_token"
    try:
        return path.read_text().strip()
    except OSError as error:
        if named:
            raise InputError(
                f"RAY_AUTH_TOKEN_PATH: expected a readable file, found {path}: {error.strerror}"
            ) from None
        return ""


def offer(address: str) -> None:
    """Have Ray send the token from here on, where the head at HOST:PORT asks for one.

    `ray start` makes a cluster that does, and a process that joins it offers none by itself. Not to
    one that does not: who sends tokens wants them from others, and that cluster's processes have
    none. Raises InputError if there is none here, or another one is asked for.
    """
    if admits(address, ""):
        return
    if not admits(address, find()):
        raise refused(f"RAY_ADDRESS {address}")
    os.environ[_MODE] = "token"
    read_environment_again()


def refused(where: str) -> InputError:
    """What to say of a cluster that asked for its token. where: the option or variable, and what
    it names."""
    found = "the one found here is not its own" if find() else "none was found here"
    return InputError(
        f"{where}: this cluster asks for its token, and {found}; `ray get-auth-token` on the "
        "cluster prints it: set RAY_AUTH_TOKEN to it, or put it into ~/.ray/auth_token"
    )
