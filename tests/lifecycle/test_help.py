"""The help of a process speaks of values as a user writes them."""

import re

import pytest

from draft_service.settings import DraftSettings
from forethought.configuration.command_line import describe_value, metavar
from gateway.settings import GatewaySettings
from orchestrator.settings import OrchestratorSettings
from target_service.settings import TargetSettings

KINDS = (OrchestratorSettings, TargetSettings, DraftSettings, GatewaySettings)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.section)
def test_it_names_no_types_of_python(kind, capsys):
    with pytest.raises(SystemExit) as end:
        kind.from_command_line(["--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert f"usage: {kind.program}" in shown
    for word in ("SecretStr", "ByteSize", "tuple", "None", "ADAPTIVE", "BLOCK", " str", " int"):
        assert not re.search(rf"{re.escape(word)}\b", shown), word


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.section)
def test_every_setting_has_a_placeholder(kind):
    for name, field in kind.model_fields.items():
        if field.annotation is not bool:
            assert metavar(name, field.annotation) != "VALUE", name


@pytest.mark.parametrize(
    ("kind", "name", "placeholder"),
    [
        (TargetSettings, "redis_url", "URL"),
        (TargetSettings, "kv_memory", "SIZE"),
        (TargetSettings, "listen", "HOST:PORT"),
        (TargetSettings, "drain_grace_s", "SECONDS"),
        (TargetSettings, "shared_cores", "FILE"),
        (OrchestratorSettings, "policy", "{adaptive,fixed}"),
        (OrchestratorSettings, "target", "HOST:PORT,..."),
    ],
)
def test_placeholders_say_what_is_wanted(kind, name, placeholder):
    assert metavar(name, kind.model_fields[name].annotation) == placeholder


def test_defaults_are_shown_as_they_are_written():
    fields = OrchestratorSettings.model_fields
    assert describe_value(fields["policy"].default) == "adaptive"
    assert describe_value(fields["target"].default) == "127.0.0.1:50052"
    assert describe_value(fields["max_request_size"].default) == "256.0KiB"
    assert describe_value(fields["redis_url"].default) == ""
