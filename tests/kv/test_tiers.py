"""The tiers with a store: settings, what they say of a session, and what they log."""

from copy import copy

import pytest
from structlog.testing import capture_logs

from draft_service.__main__ import attach
from draft_service.model_proposer import ModelProposer
from draft_service.settings import DraftSettings
from forethought.engine.model.packed import BLOCK_LEN
from forethought.errors import InvalidArgumentError
from forethought.kv_archive import attach_archive
from forethought.rpc.codecs.tier.opening import open_to_proto
from forethought.sampling.params import SamplingParams
from forethought.tier import SessionOpen, VerifyRound
from target_service.servicer import TargetServicer
from target_service.settings import TargetSettings
from target_service.verifier import Verification
from tests.kv.tiers import SLOW
from tests.stack import LIMITS
from tests.waiting import until

PROMPT = [2, 3, 4, 5, 6] * 20


def settings_for(url, **more):
    return TargetSettings(model="tiny", redis_url=url, **more)


def opening():
    return open_to_proto(SessionOpen("session", PROMPT, SamplingParams(temperature=0)))


async def opened_by(loaded, settings):
    """What a fresh target says when a session is opened, and its archive when all is over."""
    servicer = TargetServicer(copy(loaded.model), loaded.info, LIMITS)
    archive = attach_archive(servicer.engine, servicer.info, settings)
    if archive is not None:
        servicer.engine.restorer.rate = SLOW
    session = servicer._open(opening())
    answer = await session.opened()
    if archive is not None:
        await servicer.engine.restorer.wait(session._sequence)
    while session._sequence.num_cached_tokens < len(PROMPT) - 1:
        await servicer.engine.run(_nothing(session))
    session.close()
    await servicer.close()
    if archive is not None:
        await archive.close()
    return answer.opened.num_cached_tokens, archive


def _nothing(session):
    request = VerifyRound(0, len(PROMPT), (), ())
    return Verification(session._sequence, request, SamplingParams(temperature=0))


async def test_a_target_says_how_much_of_a_session_it_need_not_compute(
    tiny_target, shared_server, redis
):
    settings = settings_for(shared_server.url)
    assert [(await opened_by(tiny_target, settings))[0] for _ in range(2)] == [0, 6 * BLOCK_LEN]
    assert redis.dbsize() == 6


@pytest.mark.parametrize("more", [{"kv_store": "off"}, {"redis_url": None}])
async def test_without_url_or_switched_off_there_is_no_archive(
    tiny_target, shared_server, redis, more
):
    settings = TargetSettings(**{"model": "tiny", "redis_url": shared_server.url} | more)
    assert await opened_by(tiny_target, settings) == (0, None)
    assert redis.dbsize() == 0


async def test_read_only_reads_what_others_have_written(tiny_target, shared_server, redis):
    reader = settings_for(shared_server.url, kv_store="read-only")
    assert (await opened_by(tiny_target, reader))[0] == 0
    assert redis.dbsize() == 0
    await opened_by(tiny_target, settings_for(shared_server.url))
    assert (await opened_by(tiny_target, reader))[0] == 6 * BLOCK_LEN


async def test_a_draft_with_the_same_model_finds_the_blocks_of_the_target(
    tiny_target, shared_server, redis
):
    settings = settings_for(shared_server.url)
    await opened_by(tiny_target, settings)
    proposer: ModelProposer = tiny_target.proposer()
    archive = attach_archive(proposer.engine, proposer.info, settings)
    proposer.engine.restorer.rate = SLOW
    session = proposer.open(SessionOpen("session", PROMPT, SamplingParams()))
    await until(lambda: proposer.engine.restorer.counters.num_blocks == 6)
    session.close()
    await proposer.close()
    await archive.close()


async def test_what_became_of_blocks_is_logged_at_the_end(tiny_target, shared_server, redis):
    with capture_logs() as lines:
        await opened_by(tiny_target, settings_for(shared_server.url))
    (closed,) = [line for line in lines if line["event"] == "kv_archive_closed"]
    assert closed["written"]["num_written"] == 6
    assert closed["read"]["num_found"] == 0


def test_the_url_is_not_logged():
    settings = settings_for("redis://user:secret@localhost")
    assert "secret" not in str(settings.model_dump(mode="json"))


async def test_a_url_that_is_none_is_refused_at_the_start(tiny_target):
    servicer = TargetServicer(copy(tiny_target.model), tiny_target.info, LIMITS)
    with pytest.raises(InvalidArgumentError, match="redis_url"):
        attach_archive(servicer.engine, servicer.info, settings_for("http://localhost"))


async def test_a_draft_model_has_the_archive(tiny_target, shared_server, redis):
    settings = DraftSettings(model="tiny", redis_url=shared_server.url)
    model = tiny_target.proposer()
    archive = attach(model, settings)
    assert archive is not None
    assert model.engine.restorer is not None
    await model.close()
    await archive.close()
