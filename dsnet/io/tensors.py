"""safetensors files: names, shapes and dtypes are checked before any value is read."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor
from torch.overrides import TorchFunctionMode

from dsnet.errors import InputError
from dsnet.errors.text import line, shown
from dsnet.models.architecture import Architecture
from dsnet.models.metadata import Metadata
from dsnet.models.network import DSNet

MOST_HEADER = 2**23  # bytes: some 70,000 tensors
MOST_MADDS = 10**15  # for one image; the largest networks that are trained take a thousandth
SHOWN = 5  # tensors that a refusal names
_DTYPES = {"F32": torch.float32, "I64": torch.int64}  # of what networks are made of
_FILLS = ("normal_", "uniform_", "trunc_normal_", "fill_", "zero_")


def read_shapes(path: Path) -> dict[str, Tensor]:
    """Every tensor of a safetensors file without its values: its name, shape and dtype.

    On the "meta" device, so that they take no memory. Raises InputError for a file that is none,
    whose header is larger than any, or with a tensor of a dtype that no network has.
    """
    _check_header(path)
    try:
        with safe_open(path, framework="pt") as file:
            return {
                name: _described(path, name, file.get_slice(name))
                for name in file.keys()  # noqa: SIM118  it is no dict
            }
    except (SafetensorError, RuntimeError, OverflowError) as error:
        raise _not_safetensors(path, error) from error


def _described(path: Path, name: str, tensor: Any) -> Tensor:
    if (found := tensor.get_dtype()) not in _DTYPES:
        raise InputError(f"{path}: {shown(name)} should be float32, is {shown(found)}")
    return torch.empty(tensor.get_shape(), dtype=_DTYPES[found], device="meta")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of a safetensors file. Raises InputError for a file that is none."""
    _check_header(path)
    try:
        return load_file(path)
    except SafetensorError as error:
        raise _not_safetensors(path, error) from error


def _check_header(path: Path) -> None:
    """The header's length is the file's first eight bytes; it is JSON, and read whole."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > MOST_HEADER:
        raise InputError(
            f"{path} is not a safetensors file: its header would take {length:,} bytes"
        )


def _not_safetensors(path: Path, error: Exception) -> InputError:
    return InputError(f"{path} is not a safetensors file: {line(error)}")


def outline(architecture: Architecture, metadata: Metadata) -> DSNet:
    """The network of a description without any memory: every tensor is on the "meta" device.

    Raises InputError for an architecture that is none, or would take far too long for one image.
    """
    with no_memory():
        model = DSNet(architecture, metadata)
    if (madds := model.madds(model.space.largest)) > MOST_MADDS:
        raise InputError(
            f"a network may take up to {MOST_MADDS:,} multiply-adds for an image, found {madds:,}"
        )
    return model


@contextmanager
def no_memory() -> Iterator[None]:
    """Within, what is made has shapes and no values: it lies on the "meta" device."""
    with torch.device("meta"), _Unfilled():
        yield


class _Unfilled(TorchFunctionMode):
    """Leaves tensors as they are made: without memory, first values have nowhere to go.

    PyTorch would import what traces programs (900 modules, two seconds) to draw none.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in _FILLS:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def check_fit(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Raise InputError for tensors that are missing, left over, misshapen or of another dtype.

    It names the first of them.
    """
    problems = [
        *(f"{name} is missing" for name in expected.keys() - found.keys()),
        *(f"{shown(name)} is left over" for name in found.keys() - expected.keys()),
        *(
            f"{name} should be {_shape(tensor)}, is {_shape(found[name])}"
            for name, tensor in expected.items()
            if name in found and found[name].shape != tensor.shape
        ),
        *(
            f"{name} should be {_dtype(tensor)}, is {_dtype(found[name])}"
            for name, tensor in expected.items()
            if name in found and found[name].dtype != tensor.dtype
        ),
    ]
    if problems:
        problems.sort()
        more = f" and {len(problems) - SHOWN:,} more" if len(problems) > SHOWN else ""
        raise InputError("; ".join(problems[:SHOWN]) + more)


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape[:8])) or "a scalar"


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
