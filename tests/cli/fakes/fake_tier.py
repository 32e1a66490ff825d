"""Stands in for a tier: takes its flags, speaks its health, and replays a recorded generation.

`FAKE_TARGET`, `FAKE_DRAFT` and `FAKE_ORCHESTRATOR` choose what it does:

    ready     loads until somebody has asked whether it is ready, then serves (the default)
    fails     says why and exits with 3 while it loads
    refuses   says why in its log, as tiers do, and exits with 1
    loads     never gets ready
    stubborn  serves, and ignores SIGTERM
    foreign   serves a model with another vocabulary
"""

import argparse
import os
import signal
import sys
import threading
from concurrent import futures

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

_ENGINE_FLAGS = ("--dtype", "--device", "--num-threads", "--shared-cores", "--redis-url")
_FLAGS = {
    "target": _ENGINE_FLAGS,
    "draft": (*_ENGINE_FLAGS, "--target-vocabulary"),
    "orchestrator": (
        "--draft",
        "--target",
        "--lookup",
        "--policy",
        "--num-speculative-tokens",
        "--redis-url",
    ),
}


def say(text):
    sys.stderr.write(f"{text}\n")


def add_model_info(server, name, model, vocabulary):
    """Lets a tier say what it serves."""
    from forethought.v1 import common_pb2, draft_pb2, draft_pb2_grpc, target_pb2, target_pb2_grpc  # noqa: PLC0415 - the same  # noqa: PLC0415 - the same

    messages, services = {
        "draft": (draft_pb2.DraftServiceGetModelInfoResponse, draft_pb2_grpc),
        "target": (target_pb2.TargetServiceGetModelInfoResponse, target_pb2_grpc),
    }[name]
    base = getattr(services, f"{name.title()}ServiceServicer")
    info = common_pb2.ModelInfo(name=model, vocabulary_fingerprint=vocabulary)
    servicer = type("Says", (base,), {"GetModelInfo": lambda *_: messages(model=info)})()
    getattr(services, f"add_{name.title()}ServiceServicer_to_server")(servicer, server)


class Loading(health.HealthServicer):
    """Serves after the first answer that it does not."""

    def Check(self, request, context):  # noqa: N802 - gRPC's name
        answer = super().Check(request, context)
        self.set("", health_pb2.HealthCheckResponse.SERVING)
        return answer


def main(name):
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for flag in ("--listen", "--model"):
        parser.add_argument(flag, required=True)
    for flag in (*_FLAGS[name], "--admin-listen", "--drain-grace-s"):
        parser.add_argument(flag)
    if name == "draft":
        parser.add_argument("--lookahead", type=int)
    arguments = parser.parse_args()
    behaviour = os.environ.get(f"FAKE_{name.upper()}", "ready")
    say(f"{name} was started with {' '.join(sys.argv[1:])}")

    say("2026-01-01 [info     ] admin_listening    address=127.0.0.1:9100")

    stopped = threading.Event()
    handler = signal.SIG_IGN if behaviour == "stubborn" else lambda *_: stopped.set()
    signal.signal(signal.SIGTERM, handler)

    servicer = health.HealthServicer() if behaviour in {"loads", "fails", "refuses"} else Loading()
    servicer.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    server = grpc.server(futures.ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    if name == "orchestrator":
        from tests.cli.fake_generation import add_fake_generation  # noqa: PLC0415 - slow to import

        add_fake_generation(server)
    elif behaviour == "foreign":
        add_model_info(server, name, arguments.model, f"of the {name}")
    else:
        add_model_info(server, name, arguments.model, "of both")
    server.add_insecure_port(arguments.listen)
    server.start()
    if behaviour == "loads":
        say("2026-01-01 [info     ] waiting_for_turn    why='the other tier is starting'")
    if behaviour == "fails":
        say("there is no such model")
        os._exit(3)
    if behaviour == "refuses":
        say("2026-01-01 [error    ] start_failed    detail=\"no room for 'it'\" reason=MEMORY")
        os._exit(1)
    stopped.wait()
    say(f"{name} drained")
    server.stop(0.1).wait()


if __name__ == "__main__":
    main(sys.argv.pop(1))
