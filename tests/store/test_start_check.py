"""A store that cannot be used ends a process at its start, which says why in plain words."""

import shutil
from pathlib import Path
from urllib.parse import quote

import pytest
from redis import Redis

from forethought.errors import InvalidArgumentError, StoreRefusedError
from forethought.store.start_check import (
    Check,
    blocks_are_kept,
    require_block_store,
    require_store,
    sessions_are_kept,
)
from tests.ports import free_port
from tests.store.servers import ValkeyServer

PASSWORD = "a/secret@of#ours"
CHECKS = {
    "sessions": sessions_are_kept,
    "blocks": blocks_are_kept(writable=True),
    "blocks to read": blocks_are_kept(writable=False),
}
OF_SCRIPTS = (
    *("type", "time", "hget", "hset", "hlen", "hstrlen", "hgetall", "exists", "unlink", "pexpire"),
    *("zadd", "zrem", "zrandmember", "zrevrangebyscore"),
)
each_check = pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)


async def refused(url: str, check: Check = sessions_are_kept) -> str:
    """Why a store is refused. It is found out at once, and no secret is told."""
    with pytest.raises(StoreRefusedError) as error:
        await require_store(url, check, patience_s=0)
    assert PASSWORD not in error.value.message
    assert quote(PASSWORD, safe="") not in error.value.message
    return error.value.message


def url_of(server: ValkeyServer, user: str = "", password: str = "", rest: str = "") -> str:
    return f"redis://{user}:{quote(password, safe='')}@127.0.0.1:{server.port}{rest}"


@each_check
async def test_a_store_that_works_is_left_as_it_was(
    shared_server: ValkeyServer, redis: Redis, check: Check
):
    await require_store(shared_server.url, check)
    assert not [key for key in redis.scan_iter() if b" deleted " not in redis.hget(key, "s")]


@each_check
@pytest.mark.parametrize("config", ["requirepass", "user"])
async def test_a_wrong_password_is_named(own_server: ValkeyServer, check: Check, config: str):
    with own_server.client() as client:
        client.acl_setuser("us", enabled=True, passwords=["+right"], commands=["+@all"], keys=["*"])
        client.config_set("requirepass", "right")
    user = "us" if config == "user" else ""
    assert "password" in await refused(url_of(own_server, user, PASSWORD), check)
    assert "NOAUTH" in await refused(own_server.url, check)
    await require_store(url_of(own_server, user, "right"), check, patience_s=0)


@pytest.mark.parametrize(
    ("check", "command"),
    [
        ("sessions", "evalsha"),
        ("sessions", "eval"),
        *(("sessions", command) for command in OF_SCRIPTS),
        *(("blocks", command) for command in ("set", "pexpire", "getrange", "unlink")),
        *(("blocks to read", command) for command in ("exists", "getrange")),
    ],
)
async def test_a_command_that_a_user_lacks_is_named(
    own_server: ValkeyServer, check: str, command: str
):
    with own_server.client() as client:
        client.acl_setuser(
            "us", enabled=True, nopass=True, keys=["*"], commands=["+@all", f"-{command}"]
        )
    why = await refused(url_of(own_server, "us", "any"), CHECKS[check])
    assert command.upper() in why
    assert "NOPERM" in why


@each_check
async def test_keys_that_a_user_may_not_touch_are_named(own_server: ValkeyServer, check: Check):
    with own_server.client() as client:
        client.acl_setuser("us", enabled=True, nopass=True, keys=["other:*"], commands=["+@all"])
    assert "NOPERM" in await refused(url_of(own_server, "us", "any"), check)


def documented_user() -> list[str]:
    """The command of the documentation that makes a user."""
    lines = Path("docs/sessions.md").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("    ACL SETUSER"))
    return line.split()


async def test_our_keys_and_the_documented_commands_are_all_that_a_user_needs(
    own_server: ValkeyServer,
):
    words = documented_user()
    with own_server.client() as client:
        client.execute_command(*words[:2], "us", *words[3:], "nopass")
    for check in CHECKS.values():
        await require_store(url_of(own_server, "us", "any"), check, patience_s=0)


@pytest.mark.parametrize("check", ["sessions", "blocks"])
async def test_a_replica_is_refused(own_server: ValkeyServer, check: str):
    with own_server.client() as client:
        client.replicaof("127.0.0.1", free_port())
        client.config_set("replica-serve-stale-data", "yes")
    assert "replica" in await refused(own_server.url, CHECKS[check])
    await require_store(own_server.url, CHECKS["blocks to read"], patience_s=0)


@pytest.mark.parametrize("check", ["sessions", "blocks"])
async def test_a_full_server_is_refused(own_server: ValkeyServer, check: str):
    with own_server.client() as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", 1)
    assert "memory is full" in await refused(own_server.url, CHECKS[check])


@each_check
async def test_a_database_that_is_not_there_is_named(own_server: ValkeyServer, check: Check):
    assert "database" in await refused(url_of(own_server, rest="/77"), check)


async def test_a_server_that_is_not_there_is_refused_after_patience():
    assert "no connection" in await refused(f"redis://127.0.0.1:{free_port()}")
    assert "resolve" in await refused("redis://no-such-host.invalid:1")


async def test_a_server_that_comes_up_late_is_waited_for(own_server: ValkeyServer):
    own_server.kill()
    own_server.start_soon()
    await require_store(own_server.url, sessions_are_kept, patience_s=20)


@pytest.mark.parametrize("url", ["http://host", "host:6379", "redis://u:a#secret@host:1", ""])
async def test_what_is_no_url_is_an_invalid_argument(url: str):
    with pytest.raises((InvalidArgumentError, StoreRefusedError)) as error:
        await require_store(url, sessions_are_kept, patience_s=0)
    assert "secret" not in error.value.message


async def test_a_tier_that_keeps_nothing_needs_no_store():
    await require_block_store("redis://no-such-host.invalid:1", "off")


needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="makes certificates")


@needs_openssl
async def test_a_private_ca_is_asked_for_in_plain_words(
    tls_port: int, certificate: tuple[Path, Path], monkeypatch
):
    why = await refused(f"rediss://127.0.0.1:{tls_port}")
    assert "?ssl_ca_certs=FILE" in why
    assert "SSL_CERT_FILE" in why
    assert "not trusted" in why
    with_ca = f"rediss://127.0.0.1:{tls_port}?ssl_ca_certs={certificate[0]}"
    await require_store(with_ca, sessions_are_kept, patience_s=0)
    missing = await refused(f"rediss://127.0.0.1:{tls_port}?ssl_ca_certs=/no/such.pem")
    assert "certificate that the URL names: No such file" in missing
    assert "another host" in await refused(with_ca.replace("127.0.0.1", "localhost", 1))
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    await require_store(f"rediss://127.0.0.1:{tls_port}", sessions_are_kept, patience_s=0)


@needs_openssl
async def test_tls_where_there_is_none_and_none_where_there_is_are_named(
    shared_server: ValkeyServer, tls_port: int
):
    assert "redis://" in await refused(shared_server.url.replace("redis:", "rediss:"))
    assert "TLS" in await refused(f"redis://127.0.0.1:{tls_port}")
