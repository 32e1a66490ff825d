"""One JSON document of all that was seen."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from enum import Enum
from typing import Any, TextIO

from forethought.cli.doctor.examination import Examined
from forethought.cli.doctor.findings import Finding


def write_examination(
    out: TextIO, examined: Sequence[Examined], findings: Sequence[Finding]
) -> None:
    """Writes it, and a new line."""
    document = {
        "is_healthy": not findings,
        "findings": [asdict(finding) for finding in findings],
        "orchestrators": [_orchestrator(each) for each in examined],
    }
    json.dump(document, out, default=_plain)
    out.write("\n")


def _orchestrator(examined: Examined) -> dict[str, Any]:
    state, failure = examined.state, examined.failure
    return {
        "address": examined.address,
        "error": failure and {"code": failure.code, "message": failure.message},
        "certificate": examined.certificate and asdict(examined.certificate),
        "state": state and asdict(state) | {"acceptance_rate": state.acceptance_rate},
    }


def _plain(value: object) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Enum):
        return value.value
    raise TypeError(f"no JSON for {value!r}")
