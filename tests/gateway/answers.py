"""Reading what the gateway answers."""

import json
from typing import Any

import httpx2

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
MESSAGES = [{"role": "user", "content": "abc"}]
FIXED: dict[str, Any] = {"seed": 5, "num_speculative_tokens": 3}
"""With these a text is always the same."""


def chat(**fields: Any) -> dict[str, Any]:
    return {"messages": MESSAGES, **FIXED, **fields}


def completion(**fields: Any) -> dict[str, Any]:
    return {"prompt": "abc", **FIXED, **fields}


async def post(http: httpx2.AsyncClient, path: str, body: Any) -> dict[str, Any]:
    """The answer to a request that is none to refuse."""
    response = await http.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


async def refused(http: httpx2.AsyncClient, path: str, body: Any) -> tuple[int, dict[str, Any]]:
    """Status and error of a request that is refused."""
    response = await http.post(path, json=body)
    assert set(response.json()) == {"error"}
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"], "says why in a word"
    return response.status_code, error


async def streamed(http: httpx2.AsyncClient, path: str, body: Any) -> list[dict[str, Any]]:
    """The events of a stream that ends as it should."""
    response = await http.post(path, json={**body, "stream": True})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    return events_of(response.text)


def events_of(text: str) -> list[dict[str, Any]]:
    *events, done, rest = text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    return [json.loads(each.removeprefix("data: ")) for each in events]
