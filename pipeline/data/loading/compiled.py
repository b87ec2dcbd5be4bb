"""Functions compiled by numba, and kept on disk by the text of all that they are made of.

numba itself keeps a function by the text of its own file, and goes on with the old one where a
function that it calls, in another file, has changed.
"""

import hashlib
import inspect
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any, TypeVar

import numba as nb

_texts: dict[str, bytes] = {}
_Function = TypeVar("_Function", bound=Callable[..., Any])


def jit(function: _Function) -> _Function:
    """Compile without the GIL, and keep the result where numba finds a folder it may write to.

    Kept under a name that has the digest of every file with functions compiled so far: those that
    `function` calls are among them.
    """
    assert isinstance(function, FunctionType)
    path = inspect.getfile(function)
    if path not in _texts:
        _texts[path] = Path(path).read_bytes()
    digest = hashlib.sha256(b"\0".join(_texts[path] for path in sorted(_texts))).hexdigest()
    named = FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    named.__doc__ = function.__doc__
    named.__qualname__ = f"{function.__qualname__}_{digest[:12]}"
    how: Any = {"nogil": True, "error_model": "numpy"}
    try:
        compiled: _Function = nb.njit(cache=True, **how)(named)
    except RuntimeError:  # "no locator available": a read-only installation without a home
        compiled = nb.njit(**how)(named)
    return compiled
