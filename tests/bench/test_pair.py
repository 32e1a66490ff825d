"""Options and tables of `benchmarks/pair.py`."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from forethought.bench.closed_loop import Burst, Sample
from forethought.bench.statistics import summarise
from forethought.errors import ForethoughtError

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
MODELS = ["--model", "target.gguf", "--draft-model", "draft.gguf"]


@pytest.fixture
def pair(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import pair  # noqa: PLC0415

    return pair


def parsed(pair, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["pair.py", *MODELS, *arguments])
    return pair.parse_options()


def test_a_server_that_is_named_and_not_there_is_refused_by_name(pair, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        parsed(pair, monkeypatch, "--llama-server", "/nowhere/llama-server")
    assert "--llama-server /nowhere/llama-server: there is no such" in capsys.readouterr().err


def test_without_a_server_only_ours_is_measured_and_it_is_said(pair, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    assert parsed(pair, monkeypatch).llama_server is None
    assert "only Forethought is measured" in capsys.readouterr().err


def test_llama_cpp_is_given_files_that_it_can_read(pair, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SystemExit):
        parsed(pair, monkeypatch, "--llama-server", sys.executable, "--model", "folder")
    assert "reads .gguf files" in capsys.readouterr().err


def test_both_servers_of_llama_cpp_have_a_place_for_each_stream(pair, monkeypatch):
    options = parsed(pair, monkeypatch, "--llama-server", sys.executable, "--concurrency", "2,4")
    plain, drafting = pair.llama_tiers(options, pair.Ports(8180))
    assert plain.address != drafting.address
    for tier in (plain, drafting):
        assert tier.command[tier.command.index("-np") + 1] == "4"
    assert "draft.gguf" in drafting.command
    assert "draft.gguf" not in plain.command


def rows(pair, speeds):
    """One burst of ten tokens a request for each arm."""
    sample = Sample(first_token_s=0.5, last_token_s=1.0, num_tokens=10)
    return summarise(Burst(arm, 1, 10 / speed, (sample,)) for arm, speed in speeds.items())


def test_speeds_are_compared_with_plain_decoding_by_llama_cpp_or_by_us(pair):
    speeds = {pair.PLAIN: 20, pair.ADAPTIVE: 30, pair.PEER_PLAIN: 10}
    result = pair.Result({0.0: rows(pair, speeds)}, [], {})
    head, _, *lines = pair.speed_table(result)
    assert "times llama.cpp, plain | temperature 0, 1 stream |" in head
    assert [line.split(" | ")[1] for line in lines] == [
        "20.0 (2.00x)",
        "30.0 (3.00x)",
        "10.0 (1.00x)",
    ]
    del speeds[pair.PEER_PLAIN]
    alone = list(pair.speed_table(replace(result, rows={0.0: rows(pair, speeds)})))
    assert "30.0 (1.50x)" in alone[-1]


def test_prompts_and_starts_have_a_table_of_their_own(pair):
    ready = {pair.PLAIN: 4.0, pair.PEER_PLAIN: 2.0}
    result = pair.Result({}, rows(pair, {pair.PLAIN: 1}), ready)
    assert list(pair.other_table(result))[2:] == [
        "| Forethought, K = 0 | 1,024.0 | 4.0 |",
        "| llama.cpp, plain |  | 2.0 |",
    ]


async def test_a_model_that_is_not_there_is_refused_before_anything_is_started(pair, monkeypatch):
    monkeypatch.setenv("PATH", "")
    options = parsed(pair, monkeypatch)
    with pytest.raises(ForethoughtError, match=r"--model target\.gguf"):
        await pair.measure_all(options, None)
