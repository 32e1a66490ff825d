"""What is waited for: one line that goes away on a terminal, lines of a log elsewhere."""

import asyncio
import io

import pytest
from rich.console import Console

from forethought.cli.views import waiting
from forethought.cli.views.waiting import WaitingView


class Screen(io.StringIO):
    """Keeps what is written, and says when something was."""

    def __init__(self):
        super().__init__()
        self.written = asyncio.Event()

    def write(self, text):
        self.written.set()
        return super().write(text)


async def shown(view, screen, what="waiting for the first token"):
    view.begin(what, 0)
    await screen.written.wait()


async def test_on_a_terminal_the_line_goes_away_with_what_was_waited_for():
    screen = Screen()
    console = Console(file=screen, force_terminal=True, width=80)
    view = WaitingView(console, before=lambda: None)
    await shown(view, screen)
    view.end()
    text = screen.getvalue()
    assert "waiting for the first token" in text
    assert text.endswith("\x1b[1A\x1b[2K")  # up, and the line is empty
    assert "\x1b[?25h" in text  # the cursor is back


async def test_what_is_there_soon_is_not_waited_for():
    screen = Screen()
    view = WaitingView(Console(file=screen, width=80), before=lambda: None)
    view.begin("nothing", 0)
    view.end()
    await shown(view, screen, "something")
    view.end()
    assert screen.getvalue() == "something\n"


async def test_in_a_log_news_is_a_line_and_how_far_it_is_none():
    screen = Screen()
    view = WaitingView(Console(file=screen, width=20), before=lambda: None)
    view.begin("waiting for the first token", 3600)
    view.tell("computing the prompt", "64 of 159 tokens")
    view.tell("computing the prompt", "96 of 159 tokens")
    view.tell("the target tier is lost")
    assert screen.getvalue().splitlines() == [
        "computing the prompt: 64 of 159 tokens",
        "the target tier is lost",
    ]
    view.end()


async def test_in_a_log_what_takes_long_is_said_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(waiting, "REPEAT_S", 0.001)
    screen = Screen()
    view = WaitingView(Console(file=screen, width=80), before=lambda: None)
    await shown(view, screen)
    screen.written.clear()
    await screen.written.wait()
    view.end()
    assert set(screen.getvalue().splitlines()) == {"waiting for the first token"}


async def test_what_is_no_news_waits_until_patience_ends():
    screen = Screen()
    view = WaitingView(Console(file=screen, width=80), before=lambda: None)
    view.begin("waiting for the first token", 0)
    view.tell("computing the prompt", "64 of 159 tokens", at_once=False)
    assert screen.getvalue() == ""
    await screen.written.wait()
    view.end()
    assert screen.getvalue() == "computing the prompt: 64 of 159 tokens\n"


async def test_a_line_that_was_begun_is_ended_first():
    screen = Screen()
    view = WaitingView(Console(file=screen, width=80), before=lambda: screen.write("the text\n"))
    await shown(view, screen)
    view.end()
    assert screen.getvalue().startswith("the text\nwaiting")


async def test_nothing_is_said_where_it_is_to_be_quiet():
    screen = Screen()
    view = WaitingView(Console(file=screen, width=80), before=lambda: None, is_quiet=True)
    view.begin("waiting", 0)
    view.tell("the target tier is lost")
    view.end()
    assert screen.getvalue() == ""
