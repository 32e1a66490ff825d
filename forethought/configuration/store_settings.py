"""Where the store is, with its password in no place that others can read.

Command lines are for all users of a machine to see. So a URL with a password comes from the
environment or from a file, such as a mounted secret; or the password alone does.
"""

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from pydantic import BaseModel, Field, SecretStr, ValidationInfo, field_validator

from forethought.input_files import read_input

REDIS_URL_FLAG = "--redis-url"


class StoreSettings(BaseModel):
    """The part of a process's settings that names the store."""

    redis_url: SecretStr | None = Field(
        None,
        description="Redis or Valkey, one server or a cluster, that keeps what outlives this "
        "process: redis://user:password@host:port/db, rediss:// for TLS, with "
        "?ssl_ca_certs=FILE for a CA of your own, or unix:///path; better without the password on "
        "a command line",
    )
    redis_url_file: Path | None = Field(
        None, description="file that holds the URL instead, such as a mounted secret"
    )
    redis_password_file: Path | None = Field(
        None, description="file that holds the password for the URL"
    )

    @field_validator("redis_url_file")
    @classmethod
    def _refuse_two_urls(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if value is not None:
            if info.data.get("redis_url") is not None:
                raise ValueError("the URL is given already: leave one of them out")
            read_secret(value)
        return value

    @field_validator("redis_password_file")
    @classmethod
    def _refuse_two_passwords(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if value is not None:
            url = _url_of(info.data.get("redis_url"), info.data.get("redis_url_file"))
            if url is None:
                raise ValueError("a password without a URL: give redis_url too")
            with_password(url, read_secret(value))
        return value

    @property
    def store_url(self) -> str | None:
        """The URL with its password, to be given to nobody else; None: there is no store."""
        url = _url_of(self.redis_url, self.redis_url_file)
        if url is None or self.redis_password_file is None:
            return url
        return with_password(url, read_secret(self.redis_password_file))


def read_secret(path: Path) -> str:
    """What a file holds, without the end of its line.

    Raises:
        ValueError: it cannot be read, or is empty.
    """
    try:
        secret = read_input(path).decode().strip("\r\n")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no text") from None
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    if not secret:
        raise ValueError(f"{path} is empty")
    return secret


def with_password(url: str, password: str) -> str:
    """The URL with a password.

    Raises:
        ValueError: it has one.
    """
    parts = urlsplit(url)
    user, has_user, host = parts.netloc.rpartition("@")
    if has_user and ":" in user:
        raise ValueError("the URL has a password already: leave one of them out")
    return urlunsplit(parts._replace(netloc=f"{user}:{quote(password, safe='')}@{host}"))


def shows_password(arguments: Sequence[str]) -> bool:
    """Whether a command line has a URL of the store with a password in it."""
    for before, argument in zip(["", *arguments], arguments, strict=False):
        flag, _, value = argument.partition("=")
        url = value if flag == REDIS_URL_FLAG else argument if before == REDIS_URL_FLAG else ""
        user, has_user, _ = urlsplit(url).netloc.rpartition("@")
        if has_user and ":" in user:
            return True
    return False


def _url_of(url: SecretStr | None, file: Path | None) -> str | None:
    if url is not None:
        return url.get_secret_value()
    return None if file is None else read_secret(file)
