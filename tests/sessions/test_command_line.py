"""`forethought chat` and `forethought sessions` against a deployment with a store."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from forethought.client import GenerationClient
from forethought.generation import SessionStatus
from tests.sessions.deployments import GREEDY, NUM_TOKENS, TENANT, Deployment, Reading, asking
from tests.stack import generate
from tests.waiting import until

ROOT = Path(__file__).parents[2]


class Ended:
    """What a command left."""

    def __init__(self, code: int, stdout: bytes, stderr: bytes) -> None:
        self.code, self.stdout, self.stderr = code, stdout.decode(), stderr.decode()

    @property
    def objects(self) -> list[dict]:
        return [json.loads(line) for line in self.stdout.splitlines()]


async def command(deployment: Deployment, *arguments: str, typed: str = "") -> Ended:
    """Runs a command in a pipe, for the tenant of these tests."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "forethought.cli", *arguments, "--tenant", TENANT),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "FORETHOUGHT_ADDRESS": ",".join(deployment.addresses)},
    )
    stdout, stderr = await asyncio.wait_for(process.communicate(typed.encode()), 60)
    return Ended(process.returncode or 0, stdout, stderr)


async def test_a_conversation_from_a_pipe_is_one_session(deployment: Deployment):
    typed = "ab\n/set seed=5\nab\n\n/stats\n/session\n"
    ended = await command(deployment, "chat", "-n", "6", "--set", "temperature=0", typed=typed)
    assert ended.code == 0, ended.stderr
    assert ended.stderr.count("mean acceptance length") == 3  # of two answers, and /stats
    async with GenerationClient(deployment.addresses[0]) as client:
        (session,) = [each async for each in client.sessions(TENANT)]
        content = await client.get_session(session.session_id, TENANT)
    assert session.session_id in ended.stderr
    assert session.status is SessionStatus.FINISHED
    # The second question came behind the first answer.
    assert content.prompt_token_ids[:2] == (3, 4)
    assert content.prompt_token_ids[-3:-1] == (3, 4)
    assert len(content.prompt_token_ids) > 6


async def test_a_stored_conversation_goes_on_by_its_id(deployment: Deployment):
    async with GenerationClient(deployment.addresses[0]) as client:
        first = await generate(client, asking(GREEDY))
        ended = await command(
            deployment, "chat", "-n", "3", "--session", first.started.session_id, typed="ab\n"
        )
        content = await client.get_session(first.started.session_id, TENANT)
    assert ended.code == 0, ended.stderr
    assert ended.stdout.startswith(first.text)
    assert content.prompt_token_ids[: 3 + len(first.token_ids)] == (3, 4, 5, *first.token_ids)


async def test_a_conversation_whose_session_is_gone_goes_on_from_its_texts(deployment: Deployment):
    typed = "ab\n/session\n"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "forethought.cli", "chat", "-n", "2", "--tenant", TENANT),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "FORETHOUGHT_ADDRESS": deployment.addresses[0]},
    )
    assert process.stdin is not None
    assert process.stderr is not None
    process.stdin.write(typed.encode())
    async with asyncio.timeout(60), GenerationClient(deployment.addresses[0]) as client:
        while b"mean acceptance length" not in await process.stderr.readline():
            pass
        session_id = (await process.stderr.readline()).decode().strip()
        await client.delete_session(session_id, TENANT)
        process.stdin.write(b"ab\n")
        process.stdin.write_eof()
        said = (await process.stderr.read()).decode()
        (session,) = [each async for each in client.sessions(TENANT)]
    assert await process.wait() == 0, said
    assert "goes on as a new session" in said
    assert session.session_id != session_id


async def test_sessions_are_listed_shown_and_deleted(deployment: Deployment):
    async with GenerationClient(deployment.addresses[0]) as client:
        answers = [await generate(client, asking(GREEDY)) for _ in range(2)]
        prompt = await client.detokenize((3, 4, 5))
    newest, oldest = answers[1].started.session_id, answers[0].started.session_id

    listed = await command(deployment, "sessions", "list")
    assert 0 < listed.stdout.index(newest) < listed.stdout.index(oldest)
    objects = (await command(deployment, "sessions", "list", "--json", "-n", "1")).objects
    assert [each["session_id"] for each in objects] == [newest]
    assert objects[0]["status"] == "finished"

    shown = await command(deployment, "sessions", "show", oldest)
    assert answers[0].text in shown.stdout
    (content,) = (await command(deployment, "sessions", "show", oldest, "--json")).objects
    assert (content["prompt"], content["prompt_token_ids"]) == (prompt, [3, 4, 5])
    assert (content["output"], content["output_token_ids"]) == (
        answers[0].text,
        answers[0].token_ids,
    )

    deleted = await command(deployment, "sessions", "delete", oldest, newest)
    assert deleted.stdout == f"deleted {oldest}\ndeleted {newest}\n"
    empty = await command(deployment, "sessions", "list")
    assert (empty.code, empty.stdout) == (0, "")


async def test_a_session_that_is_not_there_is_an_error_in_words_and_in_json(
    deployment: Deployment,
):
    gone = await command(deployment, "sessions", "show", "nothing")
    assert (gone.code, gone.stdout) == (1, "")
    assert gone.stderr.startswith("error NOT_FOUND SESSION_NOT_FOUND:")
    (error,) = (await command(deployment, "sessions", "delete", "nothing", "--json")).objects
    assert (error["event"], error["reason"]) == ("error", "SESSION_NOT_FOUND")


async def test_an_answer_that_was_broken_off_is_finished_by_its_session(deployment: Deployment):
    deployment.gate.allow(3)
    async with GenerationClient(deployment.addresses[0]) as client:
        reading = Reading(client, asking(GREEDY))
        await deployment.gate.until_holding()
        await until(lambda: reading.events)
        session_id = reading.session_id
        reading.task.cancel()
        await asyncio.wait((reading.task,))
    deployment.gate.open()
    async with GenerationClient(deployment.addresses[1]) as client:
        ended = await command(deployment, "sessions", "resume", session_id)
        whole = await generate(client, asking(GREEDY))
    assert ended.code == 0, ended.stderr
    assert ended.stdout.rstrip("\n") == whole.text.rstrip("\n")
    assert f"{NUM_TOKENS} tokens" in ended.stderr


@pytest.mark.parametrize("arguments", [("show", "\udcff"), ("list", "--address", "nowhere")])
async def test_what_is_no_text_or_address_is_a_mistake_on_the_command_line(
    deployment: Deployment, arguments: tuple[str, ...]
):
    assert (await command(deployment, "sessions", *arguments)).code == 2
