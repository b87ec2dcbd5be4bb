"""Fuzzing, which CI does without: python -m tests.fuzz TARGET [options of libFuzzer].

It needs atheris (pip install atheris). What it finds is written to the working folder; once mended,
it belongs into tests/fuzz/corpus/TARGET, for `test_corpus.py`.

    python -m tests.fuzz model_json -max_total_time=300
"""

import sys
from pathlib import Path
from tempfile import mkdtemp

import atheris

with atheris.instrument_imports(include=["dsnet", "pipeline", "json"]):
    from tests.fuzz.targets import TARGETS, check, seeds


def main() -> None:
    """Fuzz the target that the command line names, until something is found or time is over."""
    target, *options = sys.argv[1:] or [""]
    if target not in TARGETS:
        sys.exit(f"expected one of {', '.join(TARGETS)}, found {target!r}")
    begin = Path(mkdtemp())
    for index, content in enumerate(seeds(target)):
        (begin / str(index)).write_bytes(content)
    bounds = ["-rss_limit_mb=2048", "-timeout=10", "-max_len=65536"]
    atheris.Setup([sys.argv[0], *bounds, *options, str(begin)], lambda data: check(target, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
