"""A page in a real browser: Debian's chromium, headless, spoken to over its DevTools."""

import asyncio
import base64
import itertools
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

PROGRAM = shutil.which("chromium")
PATIENCE_S = 60.0
NARROW, WIDE = 390, 1200  # CSS pixels of a window
# What a reader would have to scroll sideways for.
OVERHANG = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
# Selects every tab in turn; those whose panel was not the only one to be shown.
BROKEN_TABS = """
(() => {
  const tabs = [...document.querySelectorAll("[role=tab]")];
  const panel = (tab) => document.getElementById(tab.getAttribute("aria-controls"));
  return tabs.filter((tab) => {
    tab.click();
    return tabs.some((other) => panel(other).checkVisibility() !== (other === tab))
      || tab.getAttribute("aria-selected") !== "true";
  }).map((tab) => tab.textContent);
})()
"""
# Clicks every copy button of a report; those that did not copy what they say.
BROKEN_COPIES = """
(async () => {
  const broken = [];
  for (const button of document.querySelectorAll("[data-copy]")) {
    button.click();
    await new Promise((done) => setTimeout(done, 50));
    const copied = await navigator.clipboard.readText();
    if (copied !== button.dataset.copy || button.textContent !== "Copied") broken.push(copied);
  }
  return broken;
})()
"""

needs_browser = pytest.mark.skipif(
    PROGRAM is None, reason="chromium is not installed: apt-get install chromium"
)


class Tab:
    """A tab of the browser. complaints: errors on its console, and uncaught ones."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket, self.numbers = socket, itertools.count(1)
        self.complaints: list[str] = []
        self.loaded = False

    async def call(self, method: str, **parameters: Any) -> Any:
        """The result of a command of the DevTools protocol."""
        number = next(self.numbers)
        await self.socket.send_json({"id": number, "method": method, "params": parameters})
        while (message := await self._next()).get("id") != number:
            pass
        assert "error" not in message, message["error"]
        return message["result"]

    async def open(self, url: str, width: int, dark: bool = False) -> None:
        """Show a page in a window `width` CSS pixels wide; return once it is loaded."""
        for domain in ("Page", "Runtime", "Log"):
            await self.call(f"{domain}.enable")
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])
        await self.call("Emulation.setFocusEmulationEnabled", enabled=True)
        allowed = ["clipboardReadWrite", "clipboardSanitizedWrite"]
        await self.call("Browser.grantPermissions", permissions=allowed)
        self.loaded = False
        await self.call("Page.navigate", url=url)
        while not self.loaded:
            await self._next()

    async def run(self, script: str) -> Any:
        """The value of an expression in the page, as if a user's click had run it."""
        options = {"awaitPromise": True, "returnByValue": True, "userGesture": True}
        found = await self.call("Runtime.evaluate", expression=script, **options)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    async def picture(self) -> bytes:
        """All of the page, as PNG."""
        shot = await self.call("Page.captureScreenshot", captureBeyondViewport=True)
        return base64.b64decode(shot["data"])

    async def _next(self) -> dict[str, Any]:
        message: dict[str, Any] = await self.socket.receive_json(timeout=PATIENCE_S)
        method, details = message.get("method"), message.get("params", {})
        if method == "Page.loadEventFired":
            self.loaded = True
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(str(details["exceptionDetails"]))
        elif method == "Log.entryAdded" and details["entry"]["level"] == "error":
            self.complaints.append(str(details["entry"]))
        elif method == "Runtime.consoleAPICalled" and details["type"] in ("error", "assert"):
            self.complaints.append(str(details["args"]))
        return message


@asynccontextmanager
async def _tab() -> AsyncIterator[Tab]:
    assert PROGRAM is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"]
        command = [PROGRAM, *options, f"--user-data-dir={folder}", "about:blank"]
        null = subprocess.DEVNULL
        with subprocess.Popen(command, stdout=null, stderr=null) as browser:
            try:
                port = await _port(Path(folder, "DevToolsActivePort"))
                async with aiohttp.ClientSession() as session:
                    async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                        (target,) = [t for t in await answer.json() if t["type"] == "page"]
                    url = target["webSocketDebuggerUrl"]
                    async with session.ws_connect(url, max_msg_size=0) as socket:
                        yield Tab(socket)
            finally:
                browser.kill()


async def _port(file: Path) -> int:
    """Where the browser listens, which it writes down once it does."""
    deadline = time.monotonic() + PATIENCE_S
    while not (file.is_file() and file.read_text().strip()):
        assert time.monotonic() < deadline, "chromium did not start"
        await asyncio.sleep(0.05)
    return int(file.read_text().splitlines()[0])


def in_browser(use: Callable[[Tab], Awaitable[None]]) -> None:
    """Start a browser, do something with its tab, and end it."""

    async def main() -> None:
        async with _tab() as tab:
            await use(tab)

    asyncio.run(main())


def assert_page_works(page: Path, tabs: int = 0, copies: int = 0) -> None:
    """Nothing is wider than a narrow window, the console is quiet, and buttons do what they say.

    tabs, copies: how many of both the page has.
    """

    async def use(tab: Tab) -> None:
        for width in (NARROW, WIDE):
            for dark in (False, True):
                await tab.open(page.as_uri(), width, dark)
                assert await tab.run(OVERHANG) <= 0, (width, dark)
            assert await tab.run("document.querySelectorAll('[role=tab]').length") == tabs
            assert await tab.run("document.querySelectorAll('[data-copy]').length") == copies
            assert await tab.run(BROKEN_TABS) == []
            assert await tab.run(BROKEN_COPIES) == []
        assert tab.complaints == []

    in_browser(use)
