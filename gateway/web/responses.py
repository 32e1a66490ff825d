"""Answers as JSON."""

from typing import Any

import msgspec
from starlette.responses import Response


def as_json(content: Any, status: int = 200) -> Response:
    """An answer."""
    return Response(msgspec.json.encode(content), status, media_type="application/json")
