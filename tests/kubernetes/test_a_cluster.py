"""The demo in a real cluster: off by default, `make test-kubernetes KUBECONFIG=FILE` runs it.

The steps build on each other, in the order of this file.
"""

import os
import sys
from collections.abc import Iterator

import pytest

from tests.kubernetes import steps
from tests.kubernetes.cluster import Cluster, Options

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(0)]


def say(text: str) -> None:
    sys.stdout.write(f"\n  {text.strip()}\n")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    try:
        cluster = Cluster(Options.from_environment(os.environ))
    except ValueError as error:
        pytest.exit(str(error), returncode=2)
    with cluster.namespace():
        steps.deploy(cluster, say)
        yield cluster


@pytest.fixture(scope="module")
def expected(cluster: Cluster) -> str:
    return steps.answers(cluster, say).text


def test_a_text_comes_through_all_tiers_and_is_the_same_again(cluster: Cluster, expected: str):
    assert steps.answers(cluster, say).text == expected


def test_disruption_budgets_count_the_pods_of_their_tiers(cluster: Cluster):
    steps.each_budget_has_pods(cluster, say)


def test_a_stream_goes_on_when_its_target_is_killed(cluster: Cluster, expected: str):
    steps.a_target_is_killed(cluster, say, expected)


def test_the_draft_tier_goes_to_zero_and_comes_back(cluster: Cluster, expected: str):
    steps.drafts_go_and_come_back(cluster, say, expected)


def test_texts_are_the_same_before_during_and_after_a_rolling_update(
    cluster: Cluster, expected: str
):
    steps.all_tiers_roll_under_load(cluster, say, expected)


def test_only_wanted_calls_get_through(cluster: Cluster):
    if not steps.only_wanted_calls_get_through(cluster, say):
        pytest.skip("this cluster's network enforces no policies")


def test_no_process_has_rights(cluster: Cluster):
    steps.nobody_has_rights(cluster, say)


def test_the_namespace_refuses_pods_that_are_not_restricted(cluster: Cluster):
    steps.an_open_pod_is_refused(cluster, say)


def test_nothing_was_restarted(cluster: Cluster):
    steps.nothing_was_restarted(cluster, say)
