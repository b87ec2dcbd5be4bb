"""Set-up: done once, redone where it was left half done, and clear about what it cannot do."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
INPUTS = ("requirements.lock", "requirements-uv.lock", "pyproject.toml", "scripts/setup.sh")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A fresh checkout, as far as set-up reads it."""
    folder = tmp_path / "clone"
    (folder / "scripts").mkdir(parents=True)
    for name in INPUTS:
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder of programs to be the PATH: what a bare machine has, nobody being root."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "dirname", "cat", "sha256sum", "cut", "date", "tr", "awk", "env"):
        program = shutil.which(name)
        assert program is not None
        (folder / name).symlink_to(program)
    script(folder / "id", "echo 1000")
    return folder


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def set_up(
    clone: Path, path: Path, python: str = sys.executable
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "scripts/setup.sh"],
        cwd=clone,
        env={"PATH": str(path), "PYTHON": python},
        capture_output=True,
        text=True,
    )


def stamp_of(clone: Path) -> str:
    """What set-up writes when it is done, computed independently."""
    content = f"{clone.resolve()}\n".encode() + b"".join((clone / n).read_bytes() for n in INPUTS)
    return hashlib.sha256(content).hexdigest() + "\n"


def finish(clone: Path) -> Path:
    """Leave what a finished set-up leaves, as far as set-up looks at it."""
    python = clone / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    script(python, "exit 0")
    (clone / ".venv" / "setup.stamp").write_text(stamp_of(clone))
    return python


def everything(clone: Path) -> dict[str, float]:
    return {str(path): path.stat().st_mtime_ns for path in sorted(clone.rglob("*"))}


def test_once_set_up_nothing_is_done_again(clone: Path, tools: Path) -> None:
    finish(clone)
    before = everything(clone)
    done = set_up(clone, tools, python="/no/such/python")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert everything(clone) == before


def test_touching_a_file_is_no_change(clone: Path, tools: Path) -> None:
    finish(clone)
    for name in INPUTS:
        os.utime(clone / name)
    assert set_up(clone, tools, python="/no/such/python").returncode == 0


@pytest.mark.parametrize("change", ["lock", "no stamp", "no python", "moved"])
def test_what_is_not_the_finished_set_up_is_done_again(
    clone: Path, tools: Path, change: str
) -> None:
    python = finish(clone)
    match change:
        case "lock":
            with (clone / "requirements.lock").open("a") as lock:
                lock.write("# changed\n")
        case "no stamp":
            (clone / ".venv" / "setup.stamp").unlink()
        case "no python":
            python.unlink()
        case "moved":
            clone = clone.rename(clone.with_name("elsewhere"))
    # It goes on to look for a Python, which is not there.
    done = set_up(clone, tools, python="/no/such/python")
    assert done.returncode == 1
    assert "Python 3.11" in done.stderr


def test_an_old_python_is_refused_in_one_line(clone: Path, tools: Path) -> None:
    script(tools / "python3", "exit 1")  # says that it is too old
    done = set_up(clone, tools, python="python3")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "Python 3.11 or newer" in done.stderr
    assert not (clone / ".venv").exists()


def test_without_root_one_line_says_what_to_install(clone: Path, tools: Path) -> None:
    script(tools / "apt-get", "echo called >&2; exit 1")
    script(tools / "sudo", "exit 1")  # asks for a password
    done = set_up(clone, tools)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    packages = line.partition("apt-get install ")[2].split()
    assert packages[:4] == ["g++", "pkg-config", "libturbojpeg0-dev", "libopencv-dev"]
    assert not (clone / ".venv").exists()


def test_only_what_is_missing_is_asked_for(clone: Path, tools: Path) -> None:
    script(tools / "g++", "exit 0")
    script(tools / "pkg-config", 'test "$2" = libturbojpeg')
    done = set_up(clone, tools)
    packages = done.stderr.partition("apt-get install ")[2].split()
    assert packages[0] == "libopencv-dev"
    assert not {"g++", "pkg-config", "libturbojpeg0-dev"} & set(packages)


def test_root_has_it_installed(clone: Path, tools: Path, tmp_path: Path) -> None:
    script(tools / "id", "echo 0")
    script(tools / "apt-get", f'echo "$@" >>{tmp_path}/calls; test "$1" = update')
    done = set_up(clone, tools)
    assert done.returncode == 1
    assert "could not install" in done.stderr
    update, install = (tmp_path / "calls").read_text().splitlines()
    assert update.split()[0] == "update"
    assert install.split()[:2] == ["install", "-y"]
    assert "libopencv-dev" in install.split()


def test_without_a_browser_set_up_goes_on(clone: Path, tools: Path, tmp_path: Path) -> None:
    for name in ("g++", "pkg-config"):
        script(tools / name, "exit 0")
    script(tools / "id", "echo 0")
    script(tools / "apt-get", f'echo "$@" >>{tmp_path}/calls; test "$1" = update')
    script(tools / "python", 'test "$1" = -c')  # makes no virtual environment
    done = set_up(clone, tools, python="python")
    assert "chromium" in (tmp_path / "calls").read_text().splitlines()[-1]
    assert "tests in a browser are skipped" in done.stderr
    assert "-m venv failed" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-uv.lock"])
def test_locks_pin_every_package_by_hash_and_name_no_host(name: str) -> None:
    text = (ROOT / name).read_text()
    assert "://" not in text
    assert "--index" not in text
    packages = re.split(r"\n(?=\S)", text.strip())
    assert packages
    for package in packages:
        first, *hashes = package.replace("\\\n", "\n").split("\n")
        assert re.match(r"[a-z0-9._-]+(\[[a-z0-9,_-]+\])?==\S+( ; .+)? *$", first), first
        assert hashes, f"{first} has no hash"
        assert all(re.fullmatch(r" *--hash=sha256:[0-9a-f]{64} *", each) for each in hashes)


def test_make_help_names_every_target() -> None:
    listed = subprocess.run(["make", "-C", ROOT, "help"], capture_output=True, text=True).stdout
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {"demo", "test", "check", "lock", "help"} <= set(targets)
    assert all(f"make {target}" in listed for target in targets)
