"""What a benchmark shows: tables, JSON, plots."""

import io
import json

import pytest
from rich.console import Console

from forethought.bench import plot
from forethought.bench.generation_arm import generation_sender
from forethought.bench.machine import describe_machine
from forethought.bench.plot import Line, Panel, Plot, PlotError, write_plot
from forethought.bench.prompts import DEFAULT_PROMPTS, PromptFileError, load_prompts
from forethought.bench.report import Column, build_table, number, write_document
from forethought.bench.statistics import summarise
from forethought.cli.bench.throughput_report import (
    ProgressView,
    throughput_json,
    throughput_plot,
    throughput_table,
)
from forethought.generation import ChatMessage, GenerationParams
from tests.bench.samples import burst, sample, speculation
from tests.cli import recorded

ROWS = summarise(
    [
        *(burst("plain", 1, 2.0), burst("speculative", 1, 1.0)),
        burst("plain", 8, 1.0),
        burst("speculative", 8, 1.0, [sample(speculation=speculation(2, 6, 3))]),
    ]
)


def printed(table, width=80):
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    return console.file.getvalue()


def test_the_table_fits_a_narrow_terminal_and_says_what_speculation_brought():
    lines = printed(throughput_table(ROWS, "plain")).splitlines()
    assert not any("…" in line for line in lines)
    (line,) = (line for line in lines if "speculative" in line and "2.00x" in line)
    assert line.split()[:4] == ["1", "speculative", "5.0", "2.00x"]
    assert any("50%" in line and "2.50" in line for line in lines)


def test_json_rows_have_medians_on_top_and_each_repeat_below():
    row = throughput_json(ROWS, "plain")[1]
    assert row["arm"] == "speculative"
    assert row["concurrency"] == 1
    assert row["speedup"] == 2
    assert row["ttft_p50_ms"] == pytest.approx(100)
    assert row["tpot_p99_ms"] == pytest.approx(100)
    assert row["acceptance_rate"] is None
    assert [repeat["tokens_per_s"] for repeat in row["repeats"]] == [5]


def test_the_document_says_what_was_measured_on_what():
    out = io.StringIO()
    write_document(out, "throughput", describe_machine(), {"repeats": 3}, [{"arm": "plain"}])
    document = json.loads(out.getvalue())
    assert document["benchmark"] == "throughput"
    assert document["settings"] == {"repeats": 3}
    assert document["rows"] == [{"arm": "plain"}]
    assert document["machine"]["num_cores"] >= 1
    assert document["machine"]["cpu"]
    assert "grpcio" in document["machine"]["versions"]


def test_other_benchmarks_share_the_table():
    columns = [
        Column("T", lambda row: str(row[0])),
        Column("ratio", lambda row: number(row[1], 2)),
    ]
    assert "1.31" in printed(build_table(columns, [(1, 1.312), (4, None)]))


def test_the_plot_has_a_panel_for_throughput_and_for_each_latency(tmp_path):
    file = tmp_path / "throughput.svg"
    write_plot(file, throughput_plot(ROWS, "a model"))
    text = file.read_text()
    for name in ("Throughput", "Time to first token", "speculative p99", "a model"):
        assert name in text


def test_without_matplotlib_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(plot, "find_spec", lambda _: None)
    panel = Panel("", "", [Line("a", [1], [1])])
    with pytest.raises(PlotError, match=r"pip install 'forethought\[bench\]'"):
        write_plot(tmp_path / "x.svg", Plot("", "", [panel]))


def test_a_file_that_cannot_be_drawn_is_a_clear_error(tmp_path):
    panel = Panel("", "", [Line("a", [1], [1])])
    with pytest.raises(PlotError, match=r"cannot draw .*x\.doc"):
        write_plot(tmp_path / "x.doc", Plot("", "", [panel]))


def test_elsewhere_than_on_a_terminal_progress_is_a_line_for_each_burst():
    console = Console(file=io.StringIO(), width=100)
    view = ProgressView(console, 4)
    with view.live():
        view.warming_up("plain")
        view.began("plain", 2)
        view.answered(sample())
        view.ended(burst("plain", 2, 0.5))
    assert console.file.getvalue() == (
        "plain, concurrency 2: 10.0 tokens/s, first token 100.0 ms\n"
    )


def test_prompts_are_a_line_each(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("one\n\n  two \n")
    assert load_prompts(file) == [[ChatMessage("user", "one")], [ChatMessage("user", "two")]]


def test_a_file_without_prompts_is_refused(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("\n \n")
    with pytest.raises(PromptFileError, match="has no prompts"):
        load_prompts(file)
    with pytest.raises(PromptFileError, match="No such file"):
        load_prompts(tmp_path / "none.txt")


def test_the_default_prompts_are_all_different():
    assert len(set(DEFAULT_PROMPTS)) == len(load_prompts(None)) == len(DEFAULT_PROMPTS)


class Client:
    """Replays a recorded generation and remembers the requests."""

    def __init__(self):
        self.requests = []

    async def generate(self, request, *, timeout_s=None):
        self.requests.append(request)
        for event in recorded.EVENTS:
            yield event


async def test_prompts_come_round_and_each_request_has_a_seed_of_its_own():
    client = Client()
    send = generation_sender(client, ["a", "b"], GenerationParams(seed=7), timeout_s=1)
    samples = [await send(index) for index in range(3)]
    assert [request.prompt for request in client.requests] == ["a", "b", "a"]
    assert [request.params.seed for request in client.requests] == [7, 8, 9]
    assert samples[0].num_tokens == len(recorded.TOKENS)
    assert 0 < samples[0].first_token_s <= samples[0].last_token_s
    assert samples[0].speculation.num_rounds == 3
