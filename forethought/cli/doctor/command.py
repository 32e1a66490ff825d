"""`forethought doctor`: what a deployment is made of, what is wrong, and what to do."""

import asyncio
import sys
from typing import Annotated

import typer
from rich.console import Console

from forethought.cli.doctor.document import write_examination
from forethought.cli.doctor.examination import examine
from forethought.cli.doctor.findings import find
from forethought.cli.doctor.view import print_examination
from forethought.cli.failure import print_failure
from forethought.cli.options.connection import Connection, with_connection_options
from forethought.errors import CertificateError

_WRONG = 1
_NOT_REACHABLE = 2

Timeout = Annotated[
    float, typer.Option(min=0.1, metavar="SECONDS", help="Time that each orchestrator has.")
]
AsJson = Annotated[
    bool, typer.Option("--json", help="One JSON document on standard output and nothing else.")
]


@with_connection_options
def doctor(*, connection: Connection, timeout: Timeout = 5, as_json: AsJson = False) -> None:
    """Look at a deployment from outside: replicas of each tier, versions, models, acceptance,
    load, store and certificates; what is wrong, and what to do.

    Exits with 0 if all is well, 1 if something is wrong, and 2 if no orchestrator answers.

    Examples:

    - `forethought doctor --address one:50050,two:50050`

    - `forethought doctor --json | jq .findings`
    """
    try:
        examined = asyncio.run(examine(connection, timeout))
    except CertificateError as error:
        print_failure(Console(stderr=True), error.message)
        raise typer.Exit(_NOT_REACHABLE) from error
    findings = find(examined)
    if as_json:
        write_examination(sys.stdout, examined, findings)
    else:
        print_examination(Console(), examined, findings)
    if all(each.state is None for each in examined):
        raise typer.Exit(_NOT_REACHABLE)
    raise typer.Exit(_WRONG if findings else 0)
