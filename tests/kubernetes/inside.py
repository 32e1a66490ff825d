"""Programs that run in pods of the cluster, in the orchestrators' image.

Each is the text of a Python program: a pod has no repository.
"""

from tests.deployment.manifests import Manifest

CALLS = """
import socket, sys
for address in sys.argv[1:]:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), 5).close()
        print(address, "open", flush=True)
    except OSError as error:
        print(address, "closed", flush=True)
"""
"""Says of each address whether a connection comes up."""

LOAD = """
import asyncio, json, sys
from forethought.client import GenerationClient
from forethought.errors import ForethoughtError
from forethought.generation import GenerationParams, GenerationRequest, Token

addresses, prompt, max_tokens = sys.argv[1], sys.argv[2], int(sys.argv[3])
params = GenerationParams(
    max_tokens=max_tokens, temperature=0, ignore_eos=True, num_speculative_tokens=4
)

async def ask(client):
    while True:
        text = error = ""
        try:
            async for event in client.generate(GenerationRequest(prompt, params), timeout_s=300):
                text += event.text if isinstance(event, Token) else ""
        except ForethoughtError as problem:
            error = problem.message
            await asyncio.sleep(1)
        print(json.dumps({"text": text, "error": error}), flush=True)

async def main():
    async with GenerationClient(addresses) as client:
        await asyncio.gather(*(ask(client) for _ in range(2)))

asyncio.run(main())
"""
"""Asks again and again, on two streams, and writes a line of JSON for each answer."""

HAS_TOKEN = """
import os
print("token" if os.path.exists("/var/run/secrets/kubernetes.io/serviceaccount/token") else "none")
"""


def pod(
    name: str, image: str, program: str, *arguments: str, labels: dict[str, str] | None = None
) -> Manifest:
    """A restricted pod that runs a program once."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name, **(labels or {})}},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 10001,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "main",
                    "image": image,
                    "command": ["python", "-c", program, *arguments],
                    "resources": {
                        "requests": {"cpu": "50m", "memory": "64Mi"},
                        "limits": {"memory": "256Mi"},
                    },
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
        },
    }
