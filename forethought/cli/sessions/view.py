"""Sessions as a table, as a page, and as JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from forethought.cli.views.tokens import harmless
from forethought.generation import SessionContent, SessionInfo, SessionStatus

_WIDE = 200  # columns of a table that no terminal shows

_STATUS_STYLES = {
    SessionStatus.ACTIVE: "yellow",
    SessionStatus.FINISHED: "green",
    SessionStatus.CANCELLED: "red",
}


def print_sessions(out: Console, sessions: Sequence[SessionInfo]) -> None:
    """A table, newest first. In a pipe no name in it is cut."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("session", overflow="fold")
    table.add_column("status", no_wrap=True)
    for heading in ("prompt", "output", "rounds"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("changed (UTC)", overflow="fold")
    for session in sessions:
        table.add_row(
            harmless(session.session_id),
            Text(session.status.value, _STATUS_STYLES[session.status]),
            f"{session.num_prompt_tokens:,}",
            f"{session.num_tokens - session.num_prompt_tokens:,}",
            f"{session.num_rounds:,}",
            time_of(session.updated_ms),
        )
    console = out if out.is_terminal else Console(file=out.file, width=_WIDE)
    console.print(table)


def print_session(out: Console, content: SessionContent, prompt: str, output: str) -> None:
    """What is known of a session, and its texts."""
    session = content.session
    facts = {
        "session": session.session_id,
        "status": session.status.value,
        "began": f"{time_of(session.created_ms)} UTC",
        "changed": f"{time_of(session.updated_ms)} UTC",
        "prompt": f"{session.num_prompt_tokens:,} tokens, earlier turns included",
        "output": f"{len(content.output_token_ids):,} tokens in {session.num_rounds:,} rounds",
    }
    for name, value in facts.items():
        out.print(Text.assemble((f"{name:<9}", "dim"), harmless(value)), soft_wrap=True)
    for heading, text in (("prompt", prompt), ("output", output)):
        out.print(Text(f"\n{heading}", "bold"))
        out.print(Text(harmless(text)), soft_wrap=True)


def session_to_json(session: SessionInfo) -> dict[str, Any]:
    """The object of a session. Times are milliseconds of Unix time."""
    return {"event": "session", **asdict(session)}


def content_to_json(content: SessionContent, prompt: str, output: str) -> dict[str, Any]:
    """The object of a session with its content."""
    return {
        **session_to_json(content.session),
        "prompt": prompt,
        "output": output,
        "prompt_token_ids": content.prompt_token_ids,
        "output_token_ids": content.output_token_ids,
    }


def time_of(unix_ms: int) -> str:
    """A time to the second, in UTC."""
    return f"{datetime.fromtimestamp(unix_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"
