"""A server with OpenAI's completions API: vLLM, llama.cpp's server and many others."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import httpx2

from forethought.bench.closed_loop import Sample
from forethought.errors import ForethoughtError

# Beyond OpenAI's own: vLLM and llama.cpp go on past end tokens with the first, and llama.cpp
# computes a prompt that it has seen again with the second. Servers ignore what they do not know.
EXTRAS = {"ignore_eos": True, "cache_prompt": False}


class PeerError(ForethoughtError):
    """A peer that cannot be measured."""

    code = "UNAVAILABLE"
    reason = "PEER"


@dataclass(frozen=True)
class OpenAIPeer:
    """A peer that answers, and the model that it named first."""

    name: str
    base_url: str  # such as http://127.0.0.1:8000/v1
    model: str
    client: httpx2.AsyncClient

    async def complete(
        self, prompt: Sequence[int], max_tokens: int, temperature: float = 0
    ) -> Sample:
        """Streams a completion.

        Prompts are token ids, so that every peer gets the same, whatever its tokenizer adds.
        Tokens are counted by the server; a chunk may hold several.

        Raises:
            PeerError: it refused, failed, or streamed nothing.
        """
        body = {
            "model": self.model,
            "prompt": list(prompt),
            "max_tokens": max_tokens,
            "temperature": temperature,
            "stream": True,
            "stream_options": {"include_usage": True},
            **EXTRAS,
        }
        started = perf_counter()
        times_s: list[float] = []
        num_tokens = None
        try:
            async with self.client.stream(
                "POST", f"{self.base_url}/completions", json=body
            ) as response:
                if response.is_error:
                    text = (await response.aread()).decode(errors="replace")
                    raise PeerError(f"{self.name} refuses: {response.status_code} {text}")
                async for line in response.aiter_lines():
                    chunk = _chunk(line)
                    if "error" in chunk:
                        raise PeerError(f"{self.name} fails: {chunk['error']}")
                    if chunk.get("choices"):
                        times_s.append(perf_counter() - started)
                    if chunk.get("usage"):
                        num_tokens = chunk["usage"]["completion_tokens"]
        except httpx2.HTTPError as error:
            raise PeerError(f"{self.name} at {self.base_url}: {error!r}") from error
        if not times_s:
            raise PeerError(f"{self.name} streamed no completion")
        return Sample(times_s[0], times_s[-1], num_tokens or len(times_s))


def open_http(timeout_s: float) -> httpx2.AsyncClient:
    """A client that connects anew for each request.

    Peers wait for their turns for longer than servers keep idle connections, and a request on one
    that is just being closed fails.
    """
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
    return httpx2.AsyncClient(timeout=timeout_s, limits=limits, trust_env=False)


async def connect(name: str, base_url: str, client: httpx2.AsyncClient) -> OpenAIPeer:
    """Asks a server for its model.

    Raises:
        PeerError: it does not answer, or serves none.
    """
    base_url = base_url.rstrip("/")
    try:
        response = await client.get(f"{base_url}/models")
        response.raise_for_status()
        model = response.json()["data"][0]["id"]
    except (httpx2.HTTPError, ValueError, KeyError, IndexError) as error:
        raise PeerError(f"{name} serves no model at {base_url}: {error!r}") from error
    return OpenAIPeer(name, base_url, model, client)


def _chunk(line: str) -> dict[str, Any]:
    """The object of a server-sent event; an empty one for other lines."""
    kind, _, data = line.partition(":")
    data = data.strip()
    if kind != "data" or data == "[DONE]":
        return {}
    chunk: dict[str, Any] = json.loads(data)
    return chunk
