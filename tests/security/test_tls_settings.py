"""What a process is told of TLS, and combinations that mean nothing."""

import pytest

from orchestrator.settings import OrchestratorSettings
from target_service.settings import TargetSettings


@pytest.mark.parametrize(
    ("settings", "given", "words"),
    [
        (TargetSettings, {"tls_cert": "a"}, "--tls-key: a certificate without its key"),
        (TargetSettings, {"tls_key": "a"}, "--tls-key a: a key without a certificate"),
        (TargetSettings, {"tls_ca": "a"}, "--tls-ca a: callers show certificates only where TLS"),
        (
            TargetSettings,
            {"tls_cert": "a", "tls_key": "b", "tls_peer_name": "c"},
            "--tls-peer-name c: callers that show no certificate have no name: give tls_ca too",
        ),
        (
            OrchestratorSettings,
            {"tier_tls_cert": "a", "tier_tls_key": "b"},
            "--tier-tls-cert a: tiers are shown a certificate only by TLS: give tier_tls_ca too",
        ),
        (
            OrchestratorSettings,
            {"tier_tls_ca": "a", "tier_tls_cert": "b"},
            "--tier-tls-key: a certificate without its key: give tier_tls_key too",
        ),
    ],
)
def test_half_of_what_tls_needs_is_refused(settings, given, words, capsys):
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
    with pytest.raises(SystemExit):
        settings.from_command_line(["--model", "package:any", *flags])
    assert words in capsys.readouterr().err


def test_an_empty_file_name_takes_back_what_stands_in_the_configuration(tmp_path, monkeypatch):
    config = tmp_path / "forethought.toml"
    config.write_text('[target]\nmodel = "any"\ntls_cert = "a"\ntls_key = "b"\n')
    monkeypatch.setenv("FORETHOUGHT_CONFIG", str(config))
    settings = TargetSettings.from_command_line(["--tls-cert", "", "--tls-key", ""])
    assert settings.tls_cert is None
    assert settings.tls_key is None
