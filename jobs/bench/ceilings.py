"""What the machine can do at best: multiply-adds of a matrix product, reading from memory.

A round's figure is its best, as a network's is: what disturbs a run is no limit of the machine.
"""

from typing import Any

import numpy as np
import torch

from dsnet.inference.export import OPSETS
from dsnet.runtime.session import import_optional
from jobs.bench.interleaved import Figure, Measure, clocked
from jobs.bench.onnx_profile import profile
from jobs.bench.pinned import pinned

RUNS = 30
READ = 10**9  # bytes


def multiplying(rows: int, inputs: int, outputs: int, threads: int) -> Measure:
    """10^9 multiply-adds/s of (rows, inputs) x (inputs, outputs) in ONNX Runtime.

    float32; the second matrix is a constant, as weights are. Of the operator alone, from the same
    profile as a network's operators.
    """
    content = _product(inputs, outputs)
    x = np.random.default_rng(0).standard_normal((rows, inputs), np.float32)

    def measure() -> list[Figure]:
        runs = profile(content, [{"x": x}] * RUNS, threads)
        time = min(run.operators[0].time for run in runs)
        return [Figure(rows * inputs * outputs / time / 1e3, "G multiply-adds/s")]

    return measure


def reading(size: int, threads: int) -> Measure:
    """10^9 bytes/s of adding up `size` bytes of float32 in PyTorch, over and over.

    Sizes that a cache holds are read from there.
    """
    values = torch.ones(size // 4)

    def measure() -> list[Figure]:
        with pinned(threads):
            times = [clocked(values.sum)[0] for _ in range(1 + READ // size)]
        return [Figure(size / min(times) / 1e9, "GB/s")]

    return measure


def _product(inputs: int, outputs: int) -> bytes:
    """A file with one matrix product: x (n, inputs) times a constant."""
    onnx: Any = import_optional("onnx")
    helper, float32 = onnx.helper, onnx.TensorProto.FLOAT
    weight = np.random.default_rng(1).standard_normal((inputs, outputs), np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "weight"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", float32, ["n", inputs])],
        [helper.make_tensor_value_info("y", float32, ["n", outputs])],
        [onnx.numpy_helper.from_array(weight, "weight")],
    )
    opsets = [helper.make_opsetid("", OPSETS[0])]
    version = helper.find_min_ir_version_for(opsets)
    model = helper.make_model(graph, opset_imports=opsets, ir_version=version)
    content: bytes = model.SerializeToString()
    return content
