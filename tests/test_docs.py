"""The documentation: its site builds strictly, no link is dead, what it quotes is said."""

import ast
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from aiohttp import web

from pipeline.config import fields
from tests.browser import NARROW, OVERHANG, Tab, in_browser, needs_browser

ROOT = Path(__file__).parents[1]
SHORTEST = 10  # characters of a message's part that say which one it is


class Links(HTMLParser):
    """What a page leads to or shows, and the places in it that can be led to."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.leads: list[str] = []
        self.places: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name in ("href", "src", "srcset") and value:
                self.leads.append(value)
            if name == "id" and value:
                self.places.add(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built strictly."""
    folder = tmp_path_factory.mktemp("site")
    runpy.run_path(str(ROOT / "scripts" / "pages.py"))["write"](folder / "build" / "docs")
    (folder / "zensical.toml").write_text((ROOT / "zensical.toml").read_text())
    zensical = Path(sys.executable).with_name("zensical")
    built = subprocess.run(
        [zensical, "build", "--strict"], cwd=folder, capture_output=True, text=True
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return folder / "build" / "site"


def test_no_link_is_dead(site: Path) -> None:
    pages = {page: Links(page) for page in site.rglob("*.html")}
    assert len(pages) > 15
    dead = []
    for page, links in pages.items():
        for link in links.leads:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            if page.name == "404.html":
                target = site / unquote(parts.path).lstrip("/")
            gone = not target.exists()
            if not gone and parts.fragment and target in pages:
                gone = unquote(parts.fragment) not in pages[target].places
            if gone:
                dead.append(f"{page.relative_to(site)}: {link}")
    assert not dead


def test_every_field_of_the_configuration_is_on_its_page(site: Path) -> None:
    page = (site / "configuration.html").read_text()
    assert [field.name for field in fields() if f"<code>{field.name}</code>" not in page] == []


# Clicks the copy buttons of a page of the site; the code that was not copied.
BROKEN_COPIES = """
(async () => {
  const broken = [], words = (text) => text.replace(/\\s+/g, " ").trim();
  for (const button of document.querySelectorAll("[data-clipboard-target]")) {
    button.click();
    await new Promise((done) => setTimeout(done, 20));
    const code = document.querySelector(button.dataset.clipboardTarget).innerText;
    if (words(await navigator.clipboard.readText()) !== words(code)) broken.push(code);
  }
  return broken;
})()
"""


@needs_browser
@pytest.mark.slow
def test_every_page_fits_a_narrow_window_and_its_code_is_copied(site: Path) -> None:
    async def use(tab: Tab) -> None:
        app = web.Application()
        app.router.add_static("/", site)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        root = f"http://127.0.0.1:{runner.addresses[0][1]}"
        buttons = 0
        for page in sorted(site.rglob("*.html")):
            await tab.open(f"{root}/{page.relative_to(site)}", NARROW)
            assert await tab.run(OVERHANG) <= 0, page.name
            assert tab.complaints == [], page.name
            assert await tab.run(BROKEN_COPIES) == [], page.name
            buttons += await tab.run("document.querySelectorAll('[data-clipboard-target]').length")
        assert buttons > 50
        await runner.cleanup()

    in_browser(use)


def said() -> Iterator[str]:
    """Every text in the code; pieces that follow each other are one."""
    for floor in ("dsnet", "pipeline", "jobs"):
        for file in (ROOT / floor).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value
    yield re.sub(r'"[,\s\\]+"', " ", (ROOT / "scripts" / "setup.sh").read_text())


def test_messages_are_quoted_as_they_are_said() -> None:
    text = (ROOT / "docs" / "troubleshooting.md").read_text()
    messages = [
        message
        for bold in re.findall(r"\*\*(.+?)\*\*", text, re.DOTALL)
        for message in re.findall(r"`([^`]+)`", bold)
    ]
    assert len(messages) > 12
    everything = "\n".join(said())
    for message in messages:
        parts = [part.strip() for part in message.replace("\n", " ").split("…")]
        telling = [part for part in parts if len(part) >= SHORTEST]
        assert telling or message.startswith("_ray"), message
        for part in telling:
            assert part in everything, part
