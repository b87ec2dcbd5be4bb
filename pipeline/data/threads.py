"""How many threads PyTorch's operators have, for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def torch_threads(threads: int | None = None) -> Iterator[None]:
    """`threads` of them meanwhile, None: as many as what is called sets; then as many as before."""
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
