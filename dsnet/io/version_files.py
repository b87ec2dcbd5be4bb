"""What the folder of a registered version holds beside a model directory's own files. No torch."""

import hashlib
from pathlib import Path

from dsnet.io.files import sha256

MLMODEL, README, PICTURE, CODE = "MLmodel", "README.md", "accuracy.svg", "code"
EXAMPLE, SERVING_EXAMPLE = "input_example.json", "serving_input_example.json"
REQUIREMENTS, PYTHON_ENV, CONDA = "requirements.txt", "python_env.yaml", "conda.yaml"
# Written by MLflow into every copy that it makes of a version, and where it loads one in place.
NAMED = "registered_model_meta"
ADDED = frozenset(
    {
        MLMODEL,
        README,
        PICTURE,
        CODE,
        EXAMPLE,
        SERVING_EXAMPLE,
        REQUIREMENTS,
        PYTHON_ENV,
        CONDA,
        NAMED,
    }
)
"""Their names at the root of a version's folder."""
CONTENT, ADDED_CONTENT = "content", "mlflow_content"
"""Tags of a version: SHA-256 of its SHA256SUMS, and `added_digest` of its folder."""


def added_digest(directory: Path) -> str:
    """SHA-256 over every file of ADDED in a version's folder: their paths and contents.

    Without what MLflow and Python write beside them where a version is loaded.
    """
    files = sorted(
        path
        for path in directory.rglob("*")
        if path.is_file()
        and path.relative_to(directory).parts[0] in ADDED - {NAMED}
        and "__pycache__" not in path.parts
    )
    lines = [f"{sha256(path)}  {path.relative_to(directory).as_posix()}\n" for path in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
