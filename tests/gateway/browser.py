"""Chromium, as the tests of the page drive it."""

import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

import pytest

playwright = pytest.importorskip("playwright.async_api")
expect = playwright.expect

PATIENCE_MS = 60_000
"""For whatever is waited for: the machine may be busy with other tests."""
NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu")
"""As root, and in a container whose /dev/shm is small."""

Scheme = Literal["light", "dark"]

expect.set_options(timeout=PATIENCE_MS)


@asynccontextmanager
async def open_tab(**options: Any) -> AsyncIterator["Tab"]:
    """A browser with one tab, which `options` of Playwright change.

    Where there is none, tests are skipped, and the last lines of `make test` say why.
    """
    program = _find()
    async with playwright.async_playwright() as driver:
        try:
            browser = await driver.chromium.launch(
                executable_path=program, args=FLAGS, timeout=2 * PATIENCE_MS
            )
        except playwright.Error as error:
            pytest.skip(f"the page is not tried in a browser: {program} does not start: {error}")
        tab = Tab(await browser.new_page(**options))
        yield tab
        await browser.close()
        assert tab.faults == []


def _find() -> str:
    for name in NAMES:
        path = shutil.which(name)
        # Elsewhere than on Debian the name may be that of a script that says how to install it.
        if (
            path
            and subprocess.call(
                [path, "--version"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            == 0
        ):
            return path
    pytest.skip(
        "the page is not tried in a browser: there is no Chromium; "
        "on Debian: apt-get install chromium"
    )


class Tab:
    """One tab for all tests of a module: a new one costs a second of computing."""

    def __init__(self, page: playwright.Page) -> None:
        self.page = page
        self.faults: list[str] = []
        """What the page did wrong, or tried against its policy."""
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", self._listen)

    async def open(
        self, url: str, *, width: int = 1280, height: int = 760, scheme: Scheme = "light"
    ) -> playwright.Page:
        """The page of a gateway, as for somebody who was never there."""
        await self.page.context.set_offline(False)
        await self.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        await self.page.set_viewport_size({"width": width, "height": height})
        await self.page.goto(url)
        return self.page

    def _listen(self, said: playwright.ConsoleMessage) -> None:
        if "Policy" in said.text:
            self.faults.append(said.text)
