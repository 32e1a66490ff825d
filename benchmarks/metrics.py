"""What counting for `/metrics` costs in each round, and what a scrape costs.

    python benchmarks/metrics.py [--repeats 20000]

Processor time of the code that counts, alone, in microseconds: the least of several runs, since
whatever disturbs one makes it longer. A round is counted in the orchestrator once, in each tier
once, with two messages to and from each.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from time import process_time

import numpy as np
from prometheus_client import generate_latest

from forethought.engine.batching.counts import EngineCounts, PassRecord
from forethought.generation import GenerationEvent, Token
from forethought.observability.collector import make_registry
from forethought.observability.series import Source
from forethought.pass_profile import PassProfile
from forethought.rpc.connections.traffic import Traffic, counted
from forethought.sampling.params import SamplingParams
from forethought.sampling.types import (
    Draft,
    DraftedToken,
    Evidence,
    Outcome,
    OutputToken,
    TokenOrigin,
)
from forethought.tier import EvidenceRound, PassCost, RoundTimings
from forethought.v1.target_pb2 import VerifyRequest
from orchestrator.loop.round import Ask, Drafted, Round
from orchestrator.loop.session import Session
from orchestrator.metrics.requests import RequestCounts
from orchestrator.metrics.rounds import RoundCounts
from orchestrator.readings import read_requests, read_rounds
from orchestrator.request.admission import Admission, AdmissionLimits

NUM_RUNS = 7


def a_round(num_drafted: int, num_accepted: int) -> Round:
    """A round with so many guesses."""
    guess = DraftedToken(1, (1,), np.ones(1))
    token = OutputToken(1, TokenOrigin.ACCEPTED, 1.0, 1.0)
    return Round(
        Session("a session", (1, 2, 3), 100, SamplingParams(seed=1), round=1),
        Ask(num_drafted),
        Drafted(Draft((guess,) * num_drafted, "model")),
        EvidenceRound(1, 3, Evidence(()), RoundTimings()),
        Outcome((token,) * (num_accepted + 1)),
        speculation_ns=2_000_000,
        verification_ns=6_000_000,
        rejection_ns=50_000,
    )


def microseconds(work: Callable[[], object], repeats: int) -> float:
    """Processor time of one call."""
    best = float("inf")
    for _ in range(NUM_RUNS):
        began_s = process_time()
        for _ in range(repeats):
            work()
        best = min(best, process_time() - began_s)
    return best / repeats * 1e6


class FakeChannel:
    """Gives out what it was told to serialise with."""

    def unary_unary(self, _method: str, **how: object) -> object:
        return how

    unary_stream = stream_unary = stream_stream = unary_unary


def of_messages(repeats: int) -> float:
    """What counting adds to one message each way."""
    message = VerifyRequest()
    data = message.SerializeToString()
    channel = counted(FakeChannel(), Traffic())  # type: ignore[arg-type]
    how = channel.stream_stream("/", VerifyRequest.SerializeToString, VerifyRequest.FromString)

    def counting() -> None:
        how["request_serializer"](message)
        how["response_deserializer"](data)

    def plain() -> None:
        VerifyRequest.SerializeToString(message)
        VerifyRequest.FromString(data)

    return microseconds(counting, repeats) - microseconds(plain, repeats)


def of_a_pass(repeats: int) -> float:
    """What an engine counts for a pass with one round."""
    counts = EngineCounts(PassProfile([PassCost(1, 10**6), PassCost(8, 10**7)]))

    def count() -> None:
        counts.add(PassRecord(0, 6 * 10**6, 10**5, batch_size=1, num_tokens=5))
        counts.queue.observe(0.0002)

    return microseconds(count, repeats)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=20000, help="calls in a run")
    repeats = parser.parse_args(arguments).repeats

    rounds, requests = RoundCounts(), RequestCounts(8192)
    drafted, plain = a_round(4, 2), a_round(0, 0)
    tokens: list[GenerationEvent] = [Token(0, 1, "a", TokenOrigin.ACCEPTED, 1.0, 1.0)] * 3
    admission = Admission(AdmissionLimits())

    with requests.request() as timer:
        for name, work in (
            ("a round with 4 guesses, orchestrator", lambda: rounds.add(drafted)),
            ("a plain round, orchestrator", lambda: rounds.add(plain)),
            ("a message with 3 tokens, orchestrator", lambda: timer.take(tokens)),
        ):
            print(f"{microseconds(work, repeats):8.2f} us  {name}")
    print(f"{of_messages(repeats):8.2f} us  a request and an answer of a tier, orchestrator")
    print(f"{of_a_pass(repeats):8.2f} us  a pass and its round, tier")

    def read() -> list[object]:
        return [*read_requests(requests, admission), *read_rounds(rounds)]

    registry = make_registry([Source("a model", read)])  # type: ignore[arg-type]
    size = len(generate_latest(registry))
    took_us = microseconds(lambda: generate_latest(registry), 10)
    print(f"{took_us:8.0f} us  a scrape of {size} bytes, of requests and rounds")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
