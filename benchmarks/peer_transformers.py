"""transformers' own `generate`, in a process of its own that rests while others are measured.

As a script it is that process: a JSON object a line on stdin asks for a generation, one on stdout
answers. One request at a time: `generate` is no server.
"""

import argparse
import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from forethought.bench.closed_loop import Sample
from forethought.errors import ForethoughtError
from forethought.local.processes.process import stop_processes

MODES = ("plain", "lookup", "assisted")
_GRACE_S = 5.0


class TransformersError(ForethoughtError):
    """The process ended instead of answering; its last words are on stderr."""

    code = "INTERNAL"
    reason = "TRANSFORMERS"


@dataclass(frozen=True)
class TransformersOptions:
    """What it runs."""

    model: str  # a reference, as for Forethought
    assistant: str | None = None
    dtype: str = "bfloat16"
    num_threads: int = 0  # 0 leaves it to torch
    num_lookup_tokens: int = 10

    @property
    def modes(self) -> tuple[str, ...]:
        """Ways to generate: MODES without what there is no model for."""
        return MODES if self.assistant else MODES[:2]


class TransformersProcess:
    """A running child."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def complete(self, mode: str, prompt: Sequence[int], max_tokens: int) -> Sample:
        """Generates greedily, past end tokens. Times are the child's own."""
        await self._write({"mode": mode, "prompt": list(prompt), "max_tokens": max_tokens})
        return Sample(**await self.read())

    async def _write(self, request: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        await self._process.stdin.drain()

    async def read(self) -> dict[str, Any]:
        """The next answer."""
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise TransformersError("transformers ended: see above")
        answer: dict[str, Any] = json.loads(line)
        return answer


@asynccontextmanager
async def running_transformers(options: TransformersOptions) -> AsyncIterator[TransformersProcess]:
    """Starts it, waits until its models are loaded, and stops it at the end."""
    arguments = [
        *("--model", options.model, "--dtype", options.dtype),
        *("--threads", str(options.num_threads), "--lookup", str(options.num_lookup_tokens)),
        *(("--assistant", options.assistant) if options.assistant else ()),
    ]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(Path(__file__)), *arguments),
        stdin=PIPE,
        stdout=PIPE,
        env={**os.environ, "TQDM_DISABLE": "1"},
    )
    try:
        child = TransformersProcess(process)
        await child.read()
        yield child
    finally:
        await stop_processes([process], grace_s=_GRACE_S)


def serve() -> None:
    """The child: ends when its parent does, which closes stdin."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--assistant")
    parser.add_argument("--dtype", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--lookup", type=int, required=True)
    options = parser.parse_args()

    import torch  # noqa: PLC0415 - the parent needs neither
    import transformers  # noqa: PLC0415

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if options.threads:
        torch.set_num_threads(options.threads)
    model = load(options.model, options.dtype)
    extras: dict[str, dict[str, Any]] = {
        "plain": {},
        "lookup": {"prompt_lookup_num_tokens": options.lookup},
    }
    if options.assistant:
        extras["assisted"] = {"assistant_model": load(options.assistant, options.dtype)}
    answers, sys.stdout = sys.stdout, sys.stderr  # what libraries print is no answer
    print("{}", file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        answer = complete(model, request["prompt"], request["max_tokens"], extras[request["mode"]])
        print(json.dumps(answer), file=answers, flush=True)


def load(reference: str, dtype: str) -> Any:
    """The model in transformers' own code, with dense weights: those of a GGUF are unpacked."""
    import transformers  # noqa: PLC0415

    from forethought.models.files.reference import resolve  # noqa: PLC0415

    files = resolve(reference)
    extras: dict[str, Any] = {}
    if files.gguf is not None:
        extras["gguf_file"] = files.gguf.name
        # Newer versions keep weights packed unless they are told not to.
        if packing := getattr(transformers, "GgufConfig", None):
            extras["quantization_config"] = packing(dequantize=True)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        files.folder, dtype=dtype, local_files_only=True, **extras
    ).eval()
    model.generation_config.eos_token_id = None  # go on past it
    return model


def complete(
    model: Any, prompt: list[int], max_tokens: int, extras: dict[str, Any]
) -> dict[str, Any]:
    """The fields of a Sample."""
    import torch  # noqa: PLC0415

    input_ids = torch.tensor([prompt], device=model.device)
    arrivals = Arrivals()
    started = perf_counter()
    with torch.inference_mode():
        output = model.generate(
            input_ids,
            attention_mask=torch.ones_like(input_ids),
            max_new_tokens=max_tokens,
            do_sample=False,
            streamer=arrivals,
            **extras,
        )
    times_s = arrivals.times_s[1:]  # the first is the prompt
    return {
        "first_token_s": times_s[0] - started,
        "last_token_s": times_s[-1] - started,
        "num_tokens": output.shape[1] - input_ids.shape[1],
    }


class Arrivals:
    """A streamer that only looks at the clock."""

    def __init__(self) -> None:
        self.times_s: list[float] = []

    def put(self, _token_ids: object) -> None:
        """New tokens."""
        self.times_s.append(perf_counter())

    def end(self) -> None:
        """Nothing follows."""


if __name__ == "__main__":
    serve()
