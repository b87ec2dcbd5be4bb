"""Puts the site's pages together in build/docs: those of docs/, others of the repository, and
references that are made of the code. Plain Markdown, whatever turns it into a site.
"""

import inspect
import os
import posixpath
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dsnet
from dsnet.tasks.base import Task
from dsnet.tasks.measure import Measure
from dsnet.tasks.registry import register
from dsnet.training.bootstrap import bootstrap_step
from pipeline.config import fields

ROOT = Path(__file__).parents[1]
ELSEWHERE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
UNUSED = {"docs/results/README.md"}
LINE = 88  # characters of a signature
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)#:\s]+)(#[^)]*)?\)")
IN_HTML = re.compile(r'src="docs/')


def write(folder: Path) -> None:
    """Write every page anew, into `folder`."""
    shutil.rmtree(folder, ignore_errors=True)
    for source in sorted([*(ROOT / name for name in ELSEWHERE), *(ROOT / "docs").rglob("*")]):
        path = source.relative_to(ROOT).as_posix()
        if source.is_dir() or path in UNUSED:
            continue
        page = folder / page_of(path)
        page.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix == ".md":
            page.write_text(linked(source.read_text(encoding="utf-8"), path), encoding="utf-8")
        else:
            shutil.copyfile(source, page)
    with (folder / "configuration.md").open("a", encoding="utf-8") as page:
        page.write(configuration())
    (folder / "python.md").write_text(python(), encoding="utf-8")


def page_of(path: str) -> str:
    """Where a file of the repository lies on the site."""
    return ELSEWHERE.get(path) or path.removeprefix("docs/")


def linked(text: str, path: str) -> str:
    """Links lead to pages of the site; a file that is none of it stays as its path, in the text."""
    here = posixpath.dirname(path)

    def link(found: re.Match[str]) -> str:
        words, target, anchor = found[1], found[2], found[3] or ""
        file = posixpath.normpath(posixpath.join(here, target))
        if not (ROOT / file).exists():
            return found[0]  # the build says so
        if file not in ELSEWHERE and not file.startswith("docs/"):
            return f"`{file}`" if words.strip("/`") in file else f"{words} (`{file}`)"
        start = posixpath.dirname(page_of(path)) or os.curdir
        return f"[{words}]({posixpath.relpath(page_of(file), start)}{anchor})"

    return LINK.sub(link, IN_HTML.sub('src="', text))


def configuration() -> str:
    """The fields of a configuration, as flags and `dsnet schema` have them."""
    lines = [
        "",
        "## Fields",
        "",
        "Every field of a configuration file; each is a flag of `dsnet run` and `dsnet sweep` too: "
        "`--gate.target 0.3`. `dsnet schema` has the same for editors.",
    ]
    section = None
    for field in fields():
        first, dot, _ = field.name.partition(".")
        if (first if dot else "") != section:
            section = first if dot else ""
            lines += ["", f"### {section}" if section else "### Of the whole"]
        lines += ["", f"#### `{field.name}`", "", prose(field.description), ""]
        kind = field.type.replace("`", "'")
        lines += [f"Takes `{kind}`; by default `{field.default}`."]
    return "\n".join(lines) + "\n"


PYTHON: dict[str, list[Any]] = {
    "A network": [
        *(dsnet.create_model, dsnet.DSNet, dsnet.Width, dsnet.RoutingSpace),
        *(dsnet.Metadata, dsnet.restricted),
    ],
    "Files": [dsnet.save, dsnet.load, dsnet.InputError],
    "Inference": [dsnet.Predictor, dsnet.normalize],
    "Training": [bootstrap_step],
    "Tasks and measures": [Task, Measure, register],
}


def python() -> str:
    """The Python names that others call, from their signatures and docstrings."""
    lines = [
        "# Python names",
        "",
        "What `dsnet` gives those who use a network, train one in plain PyTorch or add to it. It "
        "needs torch, NumPy and safetensors, and nothing else. `examples/` has two programs.",
    ]
    for title, names in PYTHON.items():
        lines += ["", f"## {title}"]
        for name in names:
            public = name.__name__ in dsnet.__all__
            module = "dsnet" if public else name.__module__
            lines += described(name, f"{module}.{name.__qualname__}", "###")
            if inspect.isclass(name):
                for member, value in methods(name):
                    lines += described(value, f"{name.__name__}.{member}", "####")
    return "\n".join(lines) + "\n"


def methods(of: type) -> Iterator[tuple[str, Callable[..., object]]]:
    """A class's own public methods and properties that say what they do."""
    for name, value in vars(of).items():
        function = value.fget if isinstance(value, property) else value
        function = getattr(function, "__func__", function)  # of class methods
        if not name.startswith("_") and inspect.isfunction(function) and function.__doc__:
            yield name, function


def described(value: Any, name: str, heading: str) -> list[str]:
    """Heading, signature and docstring."""
    lines = ["", f"{heading} `{name}`", ""]
    if not (inspect.isclass(value) and issubclass(value, Exception)):
        lines += ["```python", signature(value), "```", ""]
    return [*lines, prose(inspect.getdoc(value) or "")]


def signature(value: Callable[..., object]) -> str:
    """As it is written, or a parameter a line where it is too long; types without their modules."""
    found = inspect.signature(value)
    text = f"{value.__name__}{found}"
    if len(text) > LINE:
        parameters = [*found.parameters.values()]
        named = [each.kind is inspect.Parameter.KEYWORD_ONLY for each in parameters]
        lines = [str(each) for each in parameters]
        if True in named:
            lines.insert(named.index(True), "*")
        returned = str(found).rpartition(")")[2]
        text = "\n".join([f"{value.__name__}(", *(f"    {line}," for line in lines)])
        text += f"\n){returned}"
    return re.sub(r"\b(?:[a-z_]+\.)+([A-Z])", r"\1", text.replace("'", ""))


def prose(text: str) -> str:
    """Text of a docstring, in which signs of Markdown and HTML mean themselves."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(
        part if part.startswith("`") else re.sub(r"([<*_\[\]])", r"\\\1", part) for part in parts
    )


if __name__ == "__main__":
    write(ROOT / "build" / "docs")
