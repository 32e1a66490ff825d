"""Feature drafts over several replicas: what they guess from survives the loss of any of them."""

from dataclasses import replace

import pytest
import structlog

from forethought.deployment import Standing
from forethought.tier import HiddenStatesNeed
from tests.draft.feature_reference import write_feature_draft
from tests.lifecycle.requests import asking
from tests.replicas.test_drafts import (
    LONG,
    drafting,
    says_what_the_target_says_alone,
    until_drafts_again,
)
from tests.replicas.test_targets import held_midway
from tests.replicas.tiers import EXACT, a_draft, a_fleet
from tests.stack import LoadedModel, generate
from tests.waiting import until

PARAMS = pytest.mark.parametrize("params", EXACT.values(), ids=EXACT)


@pytest.fixture(scope="module")
def feature_draft(tmp_path_factory: pytest.TempPathFactory, long_target: LoadedModel):
    folder = tmp_path_factory.mktemp("feature")
    return long_target.feature(write_feature_draft(folder, long_target.info, range(2, 11)))


@pytest.fixture(scope="module")
def foreign_draft(tmp_path_factory: pytest.TempPathFactory, long_target: LoadedModel):
    """Trained on another target."""
    folder = tmp_path_factory.mktemp("foreign")
    other = replace(long_target.info, weights_fingerprint="another")
    return long_target.feature(write_feature_draft(folder, other, range(2, 11)))


@PARAMS
async def test_a_session_whose_target_dies_goes_on_with_drafts_and_the_same_text(
    long_target, feature_draft, params
):
    async with a_fleet(long_target, feature_draft) as fleet:
        expected = await generate(fleet.client, asking(params))
        async with held_midway(fleet, asking(params)) as (reader, task, held):
            num_before = len(reader.steps)
            await held.die()
            await task
        assert [token.token_id for token in reader.tokens] == expected.token_ids
        # The round that was asked again has its draft; so have those behind it.
        assert all(step.drafted for step in reader.steps[num_before + 1 : -1])


async def test_a_draft_that_takes_over_guesses_from_what_there_is(long_target, feature_draft):
    async with (
        a_fleet(long_target, feature_draft) as fleet,
        drafting(fleet, asking(**LONG)) as (reader, lost),
    ):
        [other] = fleet.others(lost)
        await lost.die()
        await until_drafts_again(fleet, reader)
        assert other.num_sessions == 1
        assert await says_what_the_target_says_alone(fleet, reader, EXACT["greedy"])


async def test_the_draft_of_another_target_is_refused_and_no_error(
    long_target, feature_draft, foreign_draft
):
    with structlog.testing.capture_logs() as logs:
        async with (
            a_draft(foreign_draft) as foreign,
            a_fleet(
                long_target, feature_draft, num_drafts=0, more_drafts=[foreign.address]
            ) as fleet,
        ):
            await until(lambda: fleet.known(foreign).standing is Standing.REFUSED)
            answer = await generate(fleet.client, asking())
            assert fleet.known(foreign).num_refusals
    assert answer.finished.speculation.num_draft_tokens == 0
    assert foreign_draft.info.hidden_states_need == HiddenStatesNeed("another", 32)
    refusals = [log for log in logs if log["event"] == "replica_refused"]
    assert "hidden states of another model" in refusals[0]["why"]
