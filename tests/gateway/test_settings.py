"""Settings of the gateway."""

import pytest

from gateway.settings import GatewaySettings


def test_the_gateways_own_key_is_read_and_told_to_nobody(tmp_path, capsys, monkeypatch):
    file = tmp_path / "key"
    file.write_text("fk-secret\n")
    from_file = GatewaySettings.from_command_line(["--api-key-file", str(file)])
    monkeypatch.setenv("FORETHOUGHT_GATEWAY_API_KEY", "fk-secret")
    from_variable = GatewaySettings.from_command_line([])
    assert (from_file.own_key, from_variable.own_key) == ("fk-secret", "fk-secret")
    shown = capsys.readouterr()
    assert "fk-secret" not in f"{from_file!r}{from_variable!r}{shown.out}{shown.err}"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--api-key", "two words"], "has characters that no key has"),
        (["--api-key-file", "/no/such"], "/no/such: No such file"),
        (["--api-key", "fk-a", "--api-key-file", "/no/such"], "given already"),
    ],
)
def test_an_own_key_that_is_none_is_refused(arguments, why, capsys):
    with pytest.raises(SystemExit):
        GatewaySettings.from_command_line(arguments)
    error = capsys.readouterr().err
    assert why in error
    assert "two words" not in error
