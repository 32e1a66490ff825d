"""The store's password comes from where nobody else reads it, and is shown nowhere."""

import subprocess
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from draft_service.settings import DraftSettings
from orchestrator.settings import OrchestratorSettings
from target_service.settings import TargetSettings
from tests.store.conftest import own_server
from tests.store.servers import ValkeyServer
from tests.tiny import write_tiny_model

__all__ = ["own_server"]

SECRET = "s3/c@r:e#t%"
QUOTED = "s3%2Fc%40r%3Ae%23t%25"
KINDS = (OrchestratorSettings, TargetSettings, DraftSettings)
every_process = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.section)


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text(SECRET + "\n")
    return path


@every_process
def test_the_url_comes_from_the_environment_or_a_file(kind, tmp_path, monkeypatch):
    url = f"redis://us:{QUOTED}@host:1/2"
    (tmp_path / "url").write_text(url + "\n")
    from_file = kind.from_command_line(["--model", "m", "--redis-url-file", str(tmp_path / "url")])
    monkeypatch.setenv(f"FORETHOUGHT_{kind.section.upper()}_REDIS_URL", url)
    assert kind.from_command_line(["--model", "m"]).store_url == from_file.store_url == url


@every_process
@pytest.mark.parametrize(
    ("url", "whole"),
    [
        ("redis://host:1", f"redis://:{QUOTED}@host:1"),
        ("rediss://us@host:1/2?a=b", f"rediss://us:{QUOTED}@host:1/2?a=b"),
        ("redis://[::1]:1", f"redis://:{QUOTED}@[::1]:1"),
    ],
)
def test_the_password_alone_comes_from_a_file(kind, password_file, monkeypatch, url, whole):
    arguments = ["--model", "m", "--redis-url", url]
    monkeypatch.setenv(
        f"FORETHOUGHT_{kind.section.upper()}_REDIS_PASSWORD_FILE", str(password_file)
    )
    with capture_logs() as logs:
        settings = kind.from_command_line(arguments)
    assert settings.store_url == whole
    assert not any(line["event"] == "password_on_command_line" for line in logs)
    for shown in (repr(logs), repr(settings), str(settings)):
        assert SECRET not in shown
        assert QUOTED not in shown


@every_process
@pytest.mark.parametrize("form", [["--redis-url", "{}"], ["--redis-url={}"]], ids=str)
def test_a_password_on_the_command_line_is_warned_of(kind, form):
    url = f"redis://us:{QUOTED}@host:1"
    with capture_logs() as logs:
        kind.from_command_line(["--model", "m", *(part.format(url) for part in form)])
    (line,) = (line for line in logs if line["event"] == "password_on_command_line")
    assert f"FORETHOUGHT_{kind.section.upper()}_REDIS_URL" in line["detail"]
    assert QUOTED not in repr(logs)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--redis-url-file", "/no/such"], "/no/such: No such file"),
        (["--redis-url-file", "{password}", "--redis-url", "redis://host"], "given already"),
        (["--redis-password-file", "{password}"], "without a URL"),
        (["--redis-password-file", "/no/such", "--redis-url", "redis://host"], "No such file"),
        (["--redis-password-file", "{password}", "--redis-url", "redis://:a@host"], "already"),
        (["--redis-password-file", "{empty}", "--redis-url", "redis://host"], "is empty"),
    ],
)
def test_what_contradicts_itself_or_cannot_be_read_is_refused(
    password_file, tmp_path, capsys, arguments, why
):
    (tmp_path / "empty").touch()
    files = {"password": password_file, "empty": tmp_path / "empty"}
    with pytest.raises(SystemExit):
        TargetSettings.from_command_line(
            ["--model", "m", *(argument.format(**files) for argument in arguments)]
        )
    said = capsys.readouterr().err
    assert why in said
    assert SECRET not in said


@pytest.mark.parametrize("package", ["orchestrator", "target_service", "draft_service"])
def test_a_process_whose_store_refuses_it_ends_and_says_why(
    package: str, own_server: ValkeyServer, tmp_path: Path
):
    with own_server.client() as client:
        client.config_set("requirepass", "right")
    section = package.removesuffix("_service").upper()
    ended = subprocess.run(
        [sys.executable, "-m", package, "--model", write_tiny_model(tmp_path / "model")],
        env={
            f"FORETHOUGHT_{section}_REDIS_URL": f"redis://:{QUOTED}@127.0.0.1:{own_server.port}",
            f"FORETHOUGHT_{section}_LISTEN": "127.0.0.1:0",
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ended.returncode == 1
    said = ended.stdout + ended.stderr
    assert "STORE_REFUSED" in said
    assert "wrong user or password" in said
    assert SECRET not in said
    assert QUOTED not in said
    assert "Traceback" not in said
