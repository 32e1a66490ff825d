"""The file of API keys. It holds a hash of each, so that who reads it cannot call.

A key is 32 random bytes. Nobody can try them all, so that SHA-256 is hash enough.
"""

import hashlib
import json
import secrets
import tempfile
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from forethought.errors import KeyFileError
from forethought.input_files import read_input

_PREFIX = "fk-"
MAX_TENANT_CHARS = 128


class ApiKey(BaseModel):
    """What is known of a key, and what it may."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(min_length=1, max_length=64)
    """Names it in logs and commands; no secret."""
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    tenant: str = Field(max_length=MAX_TENANT_CHARS)
    """On whose behalf its calls are; several keys may have one."""
    requests_per_minute: int | None = Field(None, ge=1)
    tokens_per_minute: int | None = Field(None, ge=1)
    """Of prompts and outputs together."""
    max_concurrent: int | None = Field(None, ge=1)
    reads_statistics: bool = False
    """Whether it may ask how the deployment does, and with it others' requests."""
    created: str = ""
    """When, in ISO 8601."""


_Keys = TypeAdapter(Annotated[tuple[ApiKey, ...], Field()])


class KeyRing:
    """All keys of a file."""

    def __init__(self, keys: Iterable[ApiKey] = ()) -> None:
        self.keys = tuple(keys)
        self._by_digest = {key.sha256: key for key in self.keys}

    def find(self, secret: str) -> ApiKey | None:
        """The key of a secret that a caller shows."""
        return self._by_digest.get(_digest(secret))


def read_keys(path: Path) -> KeyRing:
    """The keys in a file.

    Raises:
        KeyFileError: it cannot be read, or is none.
    """
    try:
        keys = _Keys.validate_json(read_input(path))
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise KeyFileError(f"{path} cannot be read: {why}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise KeyFileError(f"{path} is no file of keys: {where} {first['msg']}".strip()) from None
    for name in ("id", "sha256"):
        values = [getattr(key, name) for key in keys]
        if len(set(values)) < len(values):
            raise KeyFileError(f"{path} has two keys with the same {name}")
    return KeyRing(keys)


def make_key(
    tenant: str,
    *,
    requests_per_minute: int | None = None,
    tokens_per_minute: int | None = None,
    max_concurrent: int | None = None,
    reads_statistics: bool = False,
) -> tuple[str, ApiKey]:
    """A new key: the secret, which is kept nowhere, and what the file holds of it."""
    secret = _PREFIX + secrets.token_urlsafe(32)
    return secret, ApiKey(
        id=secrets.token_hex(4),
        sha256=_digest(secret),
        tenant=tenant,
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
        max_concurrent=max_concurrent,
        reads_statistics=reads_statistics,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def write_keys(path: Path, keys: Iterable[ApiKey]) -> None:
    """Replaces the file as a whole, for its owner's eyes only.

    Raises:
        KeyFileError: it cannot be written.
    """
    content = json.dumps([key.model_dump(exclude_defaults=True) for key in keys], indent=2)
    try:
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            file.write(content + "\n")
        Path(file.name).replace(path)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise KeyFileError(f"{path} cannot be written: {why}") from None


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()
