"""The commands of `forethought sessions`."""

import sys
from contextlib import aclosing
from typing import Annotated

import typer
from rich.console import Console

from forethought.cli.calls import run_call
from forethought.cli.generate.command import run_request
from forethought.cli.generate.prompt_input import check_unicode
from forethought.cli.options import generate_options as options
from forethought.cli.options.connection import Connection, with_connection_options
from forethought.cli.sessions.view import (
    content_to_json,
    print_session,
    print_sessions,
    session_to_json,
)
from forethought.cli.views.json_view import JsonView
from forethought.client import GenerationClient
from forethought.generation import GenerationRequest, Resume, SessionContent, SessionInfo

app = typer.Typer(
    name="sessions",
    help="The sessions that a deployment with a store has kept, of one tenant.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

Limit = Annotated[
    int, typer.Option("--limit", "-n", min=1, metavar="N", help="Most sessions to list.")
]
SessionId = Annotated[str, typer.Argument(metavar="ID", help="The session's name.")]
SessionIds = Annotated[list[str], typer.Argument(metavar="ID...", help="The sessions' names.")]
AsJson = Annotated[
    bool, typer.Option("--json", help="One JSON object a line, and an error as one too.")
]


@app.command("list")
@with_connection_options
def list_sessions(
    *,
    connection: Connection,
    tenant: options.Tenant = "",
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    """List sessions, newest first."""
    check_unicode(tenant, "--tenant")

    async def call(client: GenerationClient) -> list[SessionInfo]:
        found: list[SessionInfo] = []
        async with aclosing(client.sessions(tenant, page_size=min(limit, 1000))) as sessions:
            async for session in sessions:
                found.append(session)
                if len(found) == limit:
                    break
        return found

    sessions = run_call(connection, call, as_json=as_json)
    if as_json:
        view = JsonView(sys.stdout)
        for session in sessions:
            view.write(session_to_json(session))
    elif sessions:
        print_sessions(Console(), sessions)
    else:
        Console(stderr=True).print("There are no sessions of this tenant.", style="dim")


@app.command()
@with_connection_options
def show(
    session_id: SessionId,
    *,
    connection: Connection,
    tenant: options.Tenant = "",
    as_json: AsJson = False,
) -> None:
    """Show a session with its texts, without special tokens."""
    check_unicode(f"{session_id}{tenant}", "ID or --tenant")

    async def call(client: GenerationClient) -> tuple[SessionContent, str, str]:
        content = await client.get_session(session_id, tenant)
        prompt = await client.detokenize(content.prompt_token_ids)
        return content, prompt, await client.detokenize(content.output_token_ids)

    found = run_call(connection, call, as_json=as_json)
    if as_json:
        JsonView(sys.stdout).write(content_to_json(*found))
    else:
        print_session(Console(), *found)


@app.command()
@with_connection_options
def delete(
    session_ids: SessionIds,
    *,
    connection: Connection,
    tenant: options.Tenant = "",
    as_json: AsJson = False,
) -> None:
    """Delete sessions; one that is being generated ends. Ends with the first that is not there."""
    check_unicode("".join((*session_ids, tenant)), "ID or --tenant")
    for session_id in session_ids:

        async def call(client: GenerationClient, name: str = session_id) -> None:
            await client.delete_session(name, tenant)

        run_call(connection, call, as_json=as_json)
        if as_json:
            JsonView(sys.stdout).write({"event": "deleted", "session_id": session_id})
        else:
            Console().print(f"deleted {session_id}", markup=False, highlight=False, soft_wrap=True)


@app.command()
@with_connection_options
def resume(
    session_id: SessionId,
    *,
    connection: Connection,
    tenant: options.Tenant = "",
    timeout: options.Timeout = None,
    as_json: options.AsJson = False,
) -> None:
    """Show a session's last answer, and finish it if it was broken off.

    `forethought chat --session ID` goes on with the conversation afterwards.
    """
    check_unicode(f"{session_id}{tenant}", "ID or --tenant")
    request = GenerationRequest(Resume(session_id), tenant=tenant)
    run_request(connection, request, timeout, as_json=as_json, show_steps=False)
