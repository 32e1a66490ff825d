"""The files of the page, read once and served from memory."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from importlib.resources import files
from pathlib import PurePath

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_INDEX = "index.html"
_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Nothing is loaded but what the gateway serves, and no text becomes markup."""


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    media_type: str
    etag: str


class PageFiles:
    """`/` is the page; what it loads is below `/page`."""

    def __init__(self) -> None:
        self._files = _read_all()

    def routes(self) -> list[Route]:
        """For Starlette."""
        return [Route("/", self.index), Route("/page/{name}", self.file)]

    async def index(self, request: Request) -> Response:
        """`GET /`."""
        return _answer(request, self._files[_INDEX])

    async def file(self, request: Request) -> Response:
        """`GET /page/{name}`. Raises HTTPException: there is no such file."""
        found = self._files.get(request.path_params["name"])
        if found is None:
            raise HTTPException(404)
        return _answer(request, found)


def _read_all() -> Mapping[str, _File]:
    read = {}
    for each in (files(__package__) / "static").iterdir():
        content = each.read_bytes()
        etag = f'"{blake2b(content, digest_size=12).hexdigest()}"'
        read[each.name] = _File(content, _TYPES[PurePath(each.name).suffix], etag)
    return read


def _answer(request: Request, file: _File) -> Response:
    headers = {**_HEADERS, "ETag": file.etag}
    if request.headers.get("if-none-match") == file.etag:
        return Response(status_code=304, headers=headers)
    return Response(file.content, headers=headers, media_type=file.media_type)
