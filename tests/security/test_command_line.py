"""Commands that call a deployment behind mTLS."""

from concurrent import futures

import grpc
import pytest
from typer.testing import CliRunner

from forethought.cli.main import app
from forethought.rpc.security.tls import server_credentials
from tests.certificates import HERE, mutual
from tests.cli import recorded
from tests.cli.fake_generation import add_fake_generation


@pytest.fixture
def address(authority):
    """Of a fake that asks for certificates."""
    server = grpc.server(futures.ThreadPoolExecutor(4))
    add_fake_generation(server)
    port = server.add_secure_port(f"{HERE}:0", server_credentials(mutual(authority).server))
    server.start()
    yield f"{HERE}:{port}"
    server.stop(None).wait()


@pytest.fixture
def run(address):
    def run(*arguments, **environment):
        variables = {"FORETHOUGHT_ADDRESS": address, "COLUMNS": "100", **environment}
        return CliRunner().invoke(app, arguments, env=variables)

    return run


@pytest.fixture
def flags(tmp_path):
    """The caller's files."""
    return (
        *("--tls-ca", str(tmp_path / "ca.pem")),
        *("--tls-cert", str(tmp_path / "client.crt")),
        *("--tls-key", str(tmp_path / "client.key")),
    )


def test_an_answer_comes_through_mtls(run, flags):
    result = run("generate", *flags, "Hello")
    assert (result.exit_code, result.stdout) == (0, recorded.TEXT)


def test_variables_name_the_files_too(run, tmp_path):
    result = run(
        "generate",
        "Hello",
        FORETHOUGHT_TLS_CA=str(tmp_path / "ca.pem"),
        FORETHOUGHT_TLS_CERT=str(tmp_path / "client.crt"),
        FORETHOUGHT_TLS_KEY=str(tmp_path / "client.key"),
    )
    assert (result.exit_code, result.stdout) == (0, recorded.TEXT)


@pytest.mark.parametrize("num_flags", [0, 2])
def test_without_a_certificate_one_line_says_what_is_missing(run, flags, num_flags):
    result = run("generate", *flags[:num_flags], "Hello")
    assert result.exit_code == 1
    [line] = result.stderr.splitlines()
    assert line.startswith("error UNAVAILABLE TLS_HANDSHAKE: no connection to 127.0.0.1:")
    assert "(--tls-cert)" in line


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (slice(2, 6), "--tls-cert and --tls-key want --tls-ca, or --tls"),
        (slice(4), "a certificate and its key are given together"),
    ],
)
def test_half_of_what_tls_needs_is_a_mistake_on_the_command_line(run, flags, given, words):
    result = run("generate", *flags[given], "Hello")
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.split())


def test_a_file_that_is_not_there_is_named(run):
    result = run("sessions", "list", "--tls-ca", "nowhere.pem")
    assert result.exit_code == 2
    assert "nowhere.pem cannot be read: no such file or directory" in result.stderr
