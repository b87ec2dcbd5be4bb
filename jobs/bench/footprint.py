"""What an ONNX file takes: on disk, and in the memory of a process that runs it."""

import subprocess
import sys

PROGRAM = """
import sys
import numpy as np
import onnxruntime

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 1e6

content = sys.stdin.buffer.read()
before = resident() - len(content) / 1e6
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(sys.argv[1])
options.log_severity_level = 3
session = onnxruntime.InferenceSession(content, options)
del content
feed = {"images": np.zeros((1, 224, 224, 3), np.uint8)}
session.run(None, feed)
print(resident() - before)
"""


def footprint(content: bytes, threads: int) -> dict[str, float]:
    """Megabytes of the file, and of a new process's memory once it has run one image."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(threads)],
        input=content,
        capture_output=True,
        check=True,
    )
    return {"file": len(content) / 1e6, "resident": float(done.stdout)}
