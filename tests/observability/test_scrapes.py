"""What processes export is the catalogue, and the numbers are those of what they did."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from forethought.observability.catalogue import SERIES
from forethought.observability.series import PREFIX, Process
from tests.observability.conftest import NUM_TOKENS, PROMPT
from tests.observability.deployment import deployed

ORCHESTRATOR, TARGET, DRAFT = Process.ORCHESTRATOR, Process.TARGET, Process.DRAFT


@pytest.mark.parametrize("process", [ORCHESTRATOR, TARGET, DRAFT])
def test_a_process_exports_what_the_catalogue_says_and_nothing_else(scrapes, process):
    promised = {
        f"{PREFIX}:{name}"
        for series in SERIES
        if process in series.processes
        for name in series.sample_names
    }
    exported = {name for name in scrapes[process].names if ":" in name}
    assert exported == promised


@pytest.mark.parametrize("process", [ORCHESTRATOR, TARGET, DRAFT])
def test_a_scrape_tells_each_sample_once(scrapes, process):
    lines = [line for line in scrapes[process].text.splitlines() if not line.startswith("#")]
    told = [line.rpartition(" ")[0] for line in lines]
    assert len(set(told)) == len(told)


@pytest.mark.parametrize("process", [ORCHESTRATOR, TARGET, DRAFT])
def test_a_scrape_has_nothing_that_a_client_sent(scrapes, process):
    assert "secret" not in scrapes[process].text


def test_names_and_help_are_told_once():
    names = [name for series in SERIES for name in series.sample_names]
    assert len(set(names)) == len(names)
    assert all(series.help.endswith(".") for series in SERIES)


def test_requests_are_counted_once_in_all_processes(scrapes):
    def count(name, **labels):
        return sum(scrape.value(f"{PREFIX}:{name}", **labels) for scrape in scrapes.values())

    assert count("request_success_total", finished_reason="length") == 2
    assert count("request_success_total", finished_reason="error") == 1
    assert count("request_failures_total", reason="INVALID_ARGUMENT") == 1
    assert count("num_requests_running") == count("num_requests_waiting") == 0
    assert count("prompt_tokens_total") == 2 * len(PROMPT)
    assert count("generation_tokens_total") == 2 * NUM_TOKENS
    assert count("request_generation_tokens_sum") == 2 * NUM_TOKENS
    assert count("request_params_max_tokens_count") == 2
    for name in ("time_to_first_token", "e2e_request_latency", "request_decode_time"):
        assert count(f"{name}_seconds_count") == 2
    parts = count("request_queue_time_seconds_sum") + count("request_inference_time_seconds_sum")
    assert parts == pytest.approx(count("e2e_request_latency_seconds_sum"))


def test_drafts_are_counted_by_place_verdict_and_outcome(scrapes):
    def count(name, **labels):
        return scrapes[ORCHESTRATOR].value(f"{PREFIX}:{name}", **labels)

    num_drafted = count("spec_decode_num_draft_tokens_total")
    num_accepted = count("spec_decode_num_accepted_tokens_total")
    num_drafts = count("spec_decode_num_drafts_total")
    assert num_drafted > num_accepted > 0
    assert count("spec_decode_num_accepted_tokens_per_pos_total") == num_accepted
    first = count("spec_decode_num_accepted_tokens_per_pos_total", position="0")
    assert num_accepted / 3 <= first <= num_drafts
    assert count("draft_tokens_total", proposer="model") == num_drafted
    assert count("draft_tokens_total", verdict="accepted") == num_accepted
    judged = ("all_accepted", "some_accepted", "none_accepted")
    assert sum(count("rounds_total", outcome=each) for each in judged) == num_drafts
    assert count("rounds_total") == 2 * NUM_TOKENS - num_accepted
    assert count("round_phase_seconds_count", phase="verification") == count("rounds_total")
    assert count("round_phase_seconds_count", phase="speculation") == num_drafts
    assert count("speculative_k") == 8


def test_tiers_tell_of_passes_and_the_cache(scrapes):
    for process in (TARGET, DRAFT):

        def count(name, scrape=scrapes[process], **labels):
            return scrape.value(f"{PREFIX}:{name}", **labels)

        num_passes = count("tier_pass_seconds_count")
        assert num_passes == count("iteration_tokens_total_count") > 0
        assert count("tier_pass_floor_seconds_total") > 0
        assert count("tier_queue_seconds_count") > 0
        assert count("prefix_cache_queries_total") >= len(PROMPT)
        assert count("tier_sessions") == count("kv_cache_usage_perc") == 0
        assert count("cache_config_info", block_size="16") == 1
    assert scrapes[DRAFT].value(f"{PREFIX}:draft_wasted_tokens_total") > 0


def test_the_orchestrator_tells_of_replicas_bytes_and_the_store(scrapes):
    def count(name, **labels):
        return scrapes[ORCHESTRATOR].value(f"{PREFIX}:{name}", **labels)

    for tier in ("draft", "target"):
        assert count("replicas", tier=tier, standing="serving") == 1
        assert count("replicas", tier=tier) == 1
        assert count("replica_sessions", tier=tier) == count("replica_moves_total", tier=tier) == 0
        assert count("rpc_bytes_total", tier=tier, direction="sent") > 100
        assert count("rpc_bytes_total", tier=tier, direction="received") > 1000
    assert count("store_write_seconds_count") >= 2
    assert count("undurable_sessions") == 0


def test_shared_metrics_name_the_model_and_no_label_has_what_clients_send(scrapes):
    names = {
        f"{PREFIX}:{name}" for series in SERIES if series.is_shared for name in series.sample_names
    }
    for process, scrape in scrapes.items():
        for family in text_string_to_metric_families(scrape.text):
            for sample in family.samples:
                is_shared = sample.name in names
                assert ("model_name" in sample.labels) is is_shared, sample
                if is_shared:
                    folder = "draft" if process is DRAFT else "target"
                    assert sample.labels["model_name"].endswith(folder)


async def test_shared_metrics_bear_the_names_of_vllm_if_they_are_told_to(
    tiny_target_folder, tiny_draft_folder
):
    async with deployed(tiny_target_folder, tiny_draft_folder, metrics_prefix="vllm") as deployment:
        scrape = await deployment.scrape(ORCHESTRATOR)
    for series in SERIES:
        prefix = "vllm" if series.is_shared else PREFIX
        if ORCHESTRATOR in series.processes and series.name not in _OF_EVENTS:
            assert {f"{prefix}:{name}" for name in series.sample_names} <= scrape.names
    lines = [line for line in scrape.text.splitlines() if line.startswith("vllm:spec_decode")]
    assert {line.split("{")[0] for line in lines} == {
        "vllm:spec_decode_num_drafts_total",
        "vllm:spec_decode_num_draft_tokens_total",
        "vllm:spec_decode_num_accepted_tokens_total",
    }


_OF_EVENTS = {
    *("request_failures", "draft_tokens", "spec_decode_num_accepted_tokens_per_pos"),
    *("store_write_seconds", "undurable_sessions"),
}
"""Metrics that need an event, or a store, to have a value."""
