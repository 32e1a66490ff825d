"""The picture of the page in README.md.

    forethought up --dtype bfloat16 --draft-model draft:smollm2-135m-instruct &
    python -m tests.gateway.screenshot docs/page.png

The numbers in it are those of the machine.
"""

import asyncio
from pathlib import Path

import typer
from PIL import Image

from tests.gateway.browser import expect, open_tab

ASKED = {"Temperature": "0.8", "Seed": "7", "(K)": "4", "Most tokens": "96"}
QUESTION = "Write a Python function that adds the squares of a list."


def main(out: Path, url: str = "http://127.0.0.1:8000", dark: bool = False) -> None:
    """Asks a question, measures the same without speculation, and writes the picture to OUT."""
    asyncio.run(_take(out, url, dark))
    picture = Image.open(out).convert("RGB")
    # As few colours as text needs make a third of the size; rare ones stay.
    picture.quantize(256, Image.Quantize.MAXCOVERAGE).save(out, optimize=True)


async def _take(out: Path, url: str, is_dark: bool) -> None:
    async with open_tab(device_scale_factor=1.5) as tab:
        page = await tab.open(url, height=840, scheme="dark" if is_dark else "light")
        for name, value in ASKED.items():
            await page.get_by_label(name).fill(value)
        await page.get_by_label("Message").fill(QUESTION)
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("status")).to_contain_text("Answered")
        await page.get_by_role("button", name="Measure without speculation").click()
        await expect(page.locator("#rates")).not_to_contain_text("not measured")
        await page.locator("h1").click()
        await page.screenshot(path=out)


if __name__ == "__main__":
    typer.run(main)
