"""Command line over environment over TOML over defaults, and nothing unknown passes unseen."""

import signal
import socket
import subprocess
import sys

import pytest
from pydantic import ValidationError

from draft_service.settings import DraftSettings
from forethought.configuration.complaints import Origin, complain
from forethought.errors import ListenError
from forethought.rpc.serving.listening import check_listening
from forethought.sampling.types import VerificationMode
from forethought.telemetry import LogFormat
from gateway.settings import GatewaySettings
from orchestrator.settings import OrchestratorSettings
from target_service.settings import TargetSettings


@pytest.fixture
def toml(tmp_path, monkeypatch):
    """Writes the configuration file."""

    def write(text):
        path = tmp_path / "forethought.toml"
        path.write_text(text)
        monkeypatch.setenv("FORETHOUGHT_CONFIG", str(path))

    return write


def read(*arguments, kind=DraftSettings):
    return kind.from_command_line(["--model", "m", *arguments])


def test_without_a_word_the_defaults_hold():
    settings = read()
    assert (settings.max_sessions, settings.max_support) == (256, 32)


def test_the_file_wins_over_the_default(toml):
    toml("[draft]\nmax_sessions = 3")
    assert read().max_sessions == 3


def test_the_environment_wins_over_the_file(toml, monkeypatch):
    toml("[draft]\nmax_sessions = 3\nmax_support = 5")
    monkeypatch.setenv("FORETHOUGHT_DRAFT_MAX_SESSIONS", "4")
    settings = read()
    assert (settings.max_sessions, settings.max_support) == (4, 5)


def test_the_command_line_wins_over_all(toml, monkeypatch):
    toml("[draft]\nmax_sessions = 3")
    monkeypatch.setenv("FORETHOUGHT_DRAFT_MAX_SESSIONS", "4")
    assert read("--max-sessions", "5").max_sessions == 5


def test_a_value_that_must_be_given_may_come_from_anywhere(toml):
    toml('[target]\nmodel = "from the file"')
    assert TargetSettings.from_command_line([]).model == "from the file"


def test_every_tier_reads_its_own_table_and_its_own_variables(toml, monkeypatch):
    sections = {"draft": 1, "target": 2, "orchestrator": 3}
    toml("".join(f'[{name}]\nlisten = "[::1]:{port}"\n' for name, port in sections.items()))
    monkeypatch.setenv("FORETHOUGHT_TARGET_LOG_FORMAT", "json")
    kinds = (DraftSettings, TargetSettings, OrchestratorSettings)
    settings = [read(kind=kind) for kind in kinds]
    assert [each.listen for each in settings] == ["[::1]:1", "[::1]:2", "[::1]:3"]
    assert [each.log_format for each in settings] == [
        LogFormat.CONSOLE,
        LogFormat.JSON,
        LogFormat.CONSOLE,
    ]


def refused(capsys, *arguments, kind=DraftSettings):
    """The exit code and what is said with it."""
    with pytest.raises(SystemExit) as caught:
        read(*arguments, kind=kind)
    code = caught.value.code
    # A string as the code is printed by Python at the end, with exit code 1.
    return (1, code) if isinstance(code, str) else (code, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--max-sessions", "0"),
        ("--max-sessions", "many"),
        ("--max-support", "257"),
        ("--num-threads", "100000"),
        ("--dtype", "float8"),
        ("--device", "tpu"),
        ("--drain-grace-s", "-1"),
        ("--log-level", "loud"),
        ("--log-format", "poetry"),
    ],
)
def test_a_bad_flag_is_refused_by_name(capsys, flag, value):
    code, said = refused(capsys, flag, value)
    assert code == 2
    assert flag.removeprefix("--") in said.replace("_", "-")


def test_counts_that_no_vocabulary_is_chosen_by_are_refused_in_one_line(capsys):
    code, said = refused(capsys, "--vocab-counts", "some.counts")
    assert code == 2
    assert len(said.splitlines()) == 1
    assert "--vocab-counts some.counts: is for a --vocab-size" in said


def test_an_unknown_flag_is_refused_by_name(capsys):
    code, said = refused(capsys, "--max-session", "3")
    assert code == 2
    assert "--max-session" in said


def test_a_missing_value_is_refused_by_name(capsys):
    with pytest.raises(SystemExit) as caught:
        DraftSettings.from_command_line([])
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("draft: --model is missing")
    assert "FORETHOUGHT_DRAFT_MODEL" in said
    assert "model in [draft]" in said


def test_a_bad_variable_is_refused_by_name(capsys, monkeypatch):
    monkeypatch.setenv("FORETHOUGHT_DRAFT_MAX_SESSIONS", "many")
    code, said = refused(capsys)
    assert code == 2
    assert said == "draft: FORETHOUGHT_DRAFT_MAX_SESSIONS=many: must be a whole number\n"


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("FORETHOUGHT_DRAFT_MAX_SESSION", "FORETHOUGHT_DRAFT_MAX_SESSIONS"),
        ("forethought_draft_max_session", "FORETHOUGHT_DRAFT_MAX_SESSIONS"),
        ("FORETHOUGHT_DRAFT_LISTEN_PORT", "FORETHOUGHT_DRAFT_LISTEN"),
        ("FORETHOUGHT_DRFT_MAX_SESSIONS", "FORETHOUGHT_DRAFT_MAX_SESSIONS"),
        ("FORETHOUGHT_CONFG", "FORETHOUGHT_CONFIG"),
    ],
)
def test_a_misspelt_variable_is_refused_with_the_one_that_was_meant(
    capsys, monkeypatch, variable, meant
):
    monkeypatch.setenv(variable, "3")
    code, said = refused(capsys)
    assert code == 2
    assert said.count("\n") == 1
    assert f"{variable}; did you mean {meant}?" in said


def service_links(service, address, port):
    """What Kubernetes puts into every container of a namespace for a Service."""
    name = service.upper().replace("-", "_")
    url = f"tcp://{address}:{port}"
    return {
        f"{name}_SERVICE_HOST": address,
        f"{name}_SERVICE_PORT": port,
        f"{name}_SERVICE_PORT_GRPC": port,
        f"{name}_SERVICE_PORT_HTTP_METRICS": port,
        f"{name}_PORT": url,
        f"{name}_PORT_{port}_TCP": url,
        f"{name}_PORT_{port}_TCP_PROTO": "tcp",
        f"{name}_PORT_{port}_TCP_PORT": port,
        f"{name}_PORT_{port}_TCP_ADDR": address,
    }


@pytest.mark.parametrize("address", ["10.0.0.7", "fd00::7"])
@pytest.mark.parametrize("suffix", ["", "-headless", "-7b", "-max-sessions"])
@pytest.mark.parametrize("kind", [DraftSettings, TargetSettings, OrchestratorSettings])
def test_the_links_of_a_service_with_our_name_are_no_settings(monkeypatch, kind, suffix, address):
    links = service_links(f"forethought-{kind.section}{suffix}", address, "50052")
    for name, value in links.items():
        monkeypatch.setenv(name, value)
    assert read(kind=kind).model == "m"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FORETHOUGHT_DRAFT_PORT", "50051"),
        ("FORETHOUGHT_DRAFT_PORT", "tcp://somewhere:50051"),
        ("FORETHOUGHT_DRAFT_SERVICE_HOST", "somewhere"),
        ("FORETHOUGHT_DRAFT_SERVICE_PORT", "grpc"),
        ("FORETHOUGHT_DRAFT_PORT_50051_TCP_PROTO", "http"),
    ],
)
def test_what_only_resembles_a_link_is_refused(capsys, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    code, said = refused(capsys)
    assert code == 2
    assert name in said


def test_a_link_that_is_named_as_a_setting_is_not_taken_for_it(monkeypatch):
    class Exporting(TargetSettings):
        section = "target"
        program = "test"
        metrics_port: int = 9090

    monkeypatch.setenv("FORETHOUGHT_TARGET_METRICS_PORT", "tcp://10.0.0.7:9464")
    assert read(kind=Exporting).metrics_port == 9090
    monkeypatch.setenv("FORETHOUGHT_TARGET_METRICS_PORT", "9464")
    assert read(kind=Exporting).metrics_port == 9464


def test_the_variables_of_another_tier_are_not_our_concern(monkeypatch):
    monkeypatch.setenv("FORETHOUGHT_TARGET_MAX_SESSION", "3")
    assert read().max_sessions == 256


def test_an_unknown_key_of_the_file_is_refused_by_name(capsys, toml):
    toml("[draft]\nmax_session = 3")
    code, said = refused(capsys)
    assert code == 2
    assert "there is no setting max_session in [draft]; did you mean max_sessions?" in said


def test_a_bad_value_of_the_file_is_refused_by_name_and_place(capsys, toml):
    toml("[draft]\nmax_sessions = 0")
    code, said = refused(capsys)
    assert code == 2
    assert "draft: max_sessions = 0 in [draft] of " in said
    assert said.endswith("forethought.toml: must be 1 or more\n")


@pytest.mark.parametrize("size", ["1,5GiB", "1 024 MiB", "4GiB or so", "1.5.3GiB", "1_024", "x"])
def test_a_size_of_which_only_the_beginning_is_one_is_refused(capsys, size):
    code, said = refused(capsys, "--kv-memory", size)
    assert (code, said) == (
        2,
        f"draft: --kv-memory {size}: must be a size such as 512MiB or 4GiB\n",
    )


@pytest.mark.parametrize(("size", "num_bytes"), [("1.5GiB", 3 * 2**29), ("512 MiB", 2**29), (7, 7)])
def test_a_size_may_be_a_number_or_have_a_unit(toml, size, num_bytes):
    toml(f"[draft]\nkv_memory = {size!r}")
    assert read().kv_memory == num_bytes


@pytest.mark.parametrize("value", ["0.5", "nan", "7", "true", "1979-05-27", "{a = 1}", "[['a']]"])
def test_texts_that_are_none_are_refused_by_name_and_place(capsys, toml, value):
    toml(f"[draft]\ntls_peer_name = {value}")
    code, said = refused(capsys)
    assert code == 2
    assert said.startswith("draft: tls_peer_name = ")
    assert said.endswith(": must be a text or a list of texts\n")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"[draft\n", "is not TOML"),
        (b'[draft]\nmodel = "\xff"\n', "is not UTF-8 from byte 17 on"),
        (b"[drat]\nmodel = 'm'\n", "there is no section [drat]; did you mean draft?"),
        (b"[server]\n", "there is no section [server], but [up], [target]"),
        (b"max_sessions = 3\n[draft]\n", "max_sessions stands in no section"),
        (b"draft = 3\n", "draft must be a section, [draft]"),
        (b"[[draft]]\nmodel = 'm'\n", "draft must be a section, [draft]"),
        (None, "No such file or directory"),
    ],
)
def test_a_file_of_which_not_all_can_be_used_is_refused_in_one_line(
    capsys, monkeypatch, tmp_path, content, why
):
    path = tmp_path / "forethought.toml"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv("FORETHOUGHT_CONFIG", str(path))
    code, said = refused(capsys)
    assert code == 2
    assert said.startswith(f"draft: FORETHOUGHT_CONFIG: {path}: {why}")
    assert said.count("\n") == 1


def test_a_folder_in_place_of_the_file_is_refused(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("FORETHOUGHT_CONFIG", str(tmp_path))
    assert refused(capsys)[1] == f"draft: FORETHOUGHT_CONFIG: {tmp_path}: Is a directory\n"


@pytest.mark.parametrize(
    ("flag", "value", "why"),
    [
        ("--listen", "0.0.0.0:99999", "has a port out of range: it goes from 0 to 65535"),
        ("--listen", "0.0.0.0", "has no port: it wants HOST:PORT, as in 0.0.0.0:50050"),
        ("--listen", "::1", "has no port: it wants HOST:PORT, as in [::1]:50050"),
        ("--listen", ":50050", "has no host: it wants HOST:PORT; 0.0.0.0:50050 listens everywhere"),
        ("--target", "targets", "has no port: it wants HOST:PORT, as in targets:50052"),
        ("--target", "targets:", "has no port: '' is no number"),
        ("--draft", "drafts", "has no port: it wants HOST:PORT, as in drafts:50051"),
        ("--target", "http://a:1", "has a scheme: leave out http://, as in a:1"),
        ("--target", "grpc://a:1", "has a scheme: leave out grpc://, as in a:1"),
        ("--target", "dns:///a", "has no port: it wants HOST:PORT, as in a:50052"),
        ("--target", "a:0", "has a port out of range: it goes from 1 to 65535"),
        ("--target", "a:1,b:70000", "b:70000 has a port out of range"),
        ("--draft", "a:grpc", "has no port: 'grpc' is no number"),
        ("--target", "a b:1", "is no address: it wants HOST:PORT and nothing besides"),
    ],
)
def test_an_address_that_is_none_is_refused_with_flag_and_value(capsys, flag, value, why):
    code, said = refused(capsys, flag, value, kind=OrchestratorSettings)
    assert code == 2
    assert said.startswith(f"orchestrator: {flag} {value}: {why}")
    assert said.count("\n") == 1


@pytest.mark.parametrize("address", ["unix:/run/t", "unix://", "ipv4:127.0.0.1:1", "dns:///a:1"])
@pytest.mark.parametrize(
    ("kind", "flag"),
    [
        (TargetSettings, "--admin-listen"),
        (GatewaySettings, "--admin-listen"),
        (GatewaySettings, "--listen"),
    ],
)
def test_http_listens_at_no_address_of_grpc(capsys, kind, flag, address):
    with pytest.raises(SystemExit):
        kind.from_command_line([flag, address])
    said = capsys.readouterr().err
    assert f"{flag} {address}: is an address of gRPC: HTTP wants HOST:PORT" in said


@pytest.mark.parametrize("address", ["[::1]:50052", "targets:1", "10.0.0.1:65535", "unix:/run/t"])
def test_an_address_that_is_one_is_taken(address):
    settings = read("--target", address, "--listen", "[::1]:0", kind=OrchestratorSettings)
    assert (settings.target, settings.listen) == ((address,), "[::1]:0")


def test_a_password_is_not_repeated_in_an_error(capsys):
    _, said = refused(capsys, "--redis-url", "--kv-store-ttl-s", "0")
    assert said == "draft: --redis-url has no value\n"


@pytest.mark.parametrize("kind", [DraftSettings, TargetSettings, OrchestratorSettings])
def test_no_word_of_a_library_is_said_of_any_setting(kind):
    library = ("input", "pydantic", "type=", "Value error", "Field", "valid string", "pattern")
    for name in kind.model_fields:
        try:
            kind(**{"model": "m", name: "?"})
        except ValidationError as error:
            origin = Origin(kind.section, "", kind.model_fields, [], {}, None, {})
            said = complain(error.errors()[0], origin)
            assert not [word for word in library if word in said], said


@pytest.mark.parametrize("package", ["draft_service", "target_service", "orchestrator"])
def test_a_process_that_is_told_nonsense_ends_with_2_and_one_line_of_why(package):
    result = subprocess.run(
        [sys.executable, "-m", package, "--model", "m", "--log-level", "loud"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "--log-level loud: must be debug, info, warning or error" in result.stderr


@pytest.mark.parametrize("package", ["draft_service", "target_service", "orchestrator"])
def test_a_process_without_its_model_ends_with_1_and_names_it(package, tmp_path):
    result = subprocess.run(
        [
            *(sys.executable, "-m", package, "--listen", "127.0.0.1:0"),
            *("--model", str(tmp_path / "nowhere"), "--log-format", "json"),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 1
    assert '"start_failed"' in result.stderr
    assert "nowhere" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.fixture
def taken():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("package", ["draft_service", "target_service", "orchestrator"])
def test_a_taken_port_is_said_in_one_line(package, taken):
    result = subprocess.run(
        [sys.executable, "-m", package, "--model", "m", "--listen", taken, "--log-level", "error"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 1
    assert f"--listen {taken}: the port is taken" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_socket_in_a_folder_that_is_not_there_is_said_in_one_line(tmp_path):
    with pytest.raises(ListenError, match=f"there is no folder {tmp_path / 'run'}$"):
        check_listening(f"unix:{tmp_path}/run/target.sock")
    check_listening(f"unix:{tmp_path}/target.sock")


def test_a_host_that_nobody_knows_is_said_in_one_line():
    with pytest.raises(ListenError, match=r"--listen nowhere\.invalid:1: the host"):
        check_listening("nowhere.invalid:1")


INTERRUPTED = """
import os, runpy, signal, sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Interrupt())
runpy.run_module({package!r}, run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("package", ["draft_service", "target_service", "orchestrator"])
@pytest.mark.parametrize("module", ["pydantic_settings", "grpc_health"])
def test_ctrl_c_during_an_import_ends_a_tier_without_a_word(package, module):
    result = subprocess.run(
        [sys.executable, "-c", INTERRUPTED.format(package=package, module=module)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (-signal.SIGINT, "")


@pytest.mark.parametrize("package", ["draft_service", "target_service", "orchestrator"])
def test_help_imports_no_engine_and_no_tokenizer(package):
    code = (
        "import runpy, sys\n"
        f"try: runpy.run_module({package!r}, run_name='__main__', alter_sys=True)\n"
        "except SystemExit: print(*sys.modules, file=sys.stderr)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True
    )
    assert {"torch", "transformers", "gguf"} & {*result.stderr.split()} == set()


@pytest.mark.parametrize("mode", VerificationMode)
def test_a_verification_mode_is_given_by_its_name(mode):
    settings = read("--verification-mode", mode.value, kind=OrchestratorSettings)
    assert settings.verification_mode is mode


class TestLookupsOfTheOrchestrator:
    def test_come_in_their_order_and_need_no_draft_tier(self):
        settings = read(
            *("--lookup", "suffix,counts", "--counts-file", "c", "--draft", ""),
            kind=OrchestratorSettings,
        )
        assert (settings.lookup, settings.draft) == (("suffix", "counts"), ())

    def test_are_none_where_nothing_is_said(self):
        settings = read(kind=OrchestratorSettings)
        assert (settings.lookup, settings.draft) == (None, ("127.0.0.1:50051",))

    @pytest.mark.parametrize(
        ("arguments", "name"),
        [
            (("--lookup", "model"), "--lookup model: must be"),
            (("--target", ""), "--target: must not be empty"),
        ],
    )
    def test_must_exist(self, arguments, name, capsys):
        with pytest.raises(SystemExit):
            read(*arguments, kind=OrchestratorSettings)
        assert f"orchestrator: {name}" in capsys.readouterr().err
