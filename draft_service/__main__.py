"""`python -m draft_service`: runs the draft tier until SIGTERM."""

from __future__ import annotations

import signal

from forethought.extras import require

if __name__ == "__main__":  # an interrupt amid the imports ends the process without a word
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    require("engine")

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import structlog

from draft_service.proposer import Proposer
from draft_service.readings import read_proposer
from draft_service.servicer import DraftServicer
from draft_service.settings import DraftSettings
from forethought.errors import ModelReferenceError, VocabularyMismatchError
from forethought.models.feature_draft import is_feature_draft
from forethought.models.files.reference import resolve
from forethought.models.text.tokenizer import TextTokenizer, load_tokenizer
from forethought.observability.series import Source
from forethought.rpc.serving.server import LateServices, run_process, serve_loaded
from forethought.rpc.serving.server_options import server_options
from forethought.runtime.openmp import spin_briefly
from forethought.v1.draft_pb2 import DESCRIPTOR
from forethought.v1.draft_pb2_grpc import add_DraftServiceServicer_to_server

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forethought.counts.table import CountsTable
    from forethought.kv_archive import KVArchive

_log = structlog.get_logger(__name__)

SERVICE_NAME = DESCRIPTOR.services_by_name["DraftService"].full_name


async def serve(settings: DraftSettings) -> None:
    """Loads the proposer and serves it."""
    if settings.store_url is not None:
        from forethought.store.start_check import require_block_store  # noqa: PLC0415 - needs redis

        await require_block_store(settings.store_url, settings.kv_store)
    spin_briefly()  # before anything imports torch
    options = server_options(
        settings, (SERVICE_NAME,), unread_timeout_s=settings.session_idle_timeout_s
    )
    async with AsyncExitStack() as cleanup:

        def add(proposer: Proposer, services: LateServices) -> None:
            archive = attach(proposer, settings)
            if archive is not None:
                cleanup.push_async_callback(archive.close)
            servicer = DraftServicer(proposer, idle_timeout_s=settings.session_idle_timeout_s)
            add_DraftServiceServicer_to_server(servicer, services)
            services.sources.append(Source(proposer.info.name, lambda: read_proposer(proposer)))

        await serve_loaded(options, lambda: load_proposer(settings), add)


def attach(proposer: Proposer, settings: DraftSettings) -> KVArchive | None:
    """Gives a proposer its archive, on the event loop; a feature draft needs none."""
    from draft_service.feature_proposer import FeatureProposer  # noqa: PLC0415
    from draft_service.model_proposer import ModelProposer  # noqa: PLC0415
    from forethought.kv_archive import attach_archive  # noqa: PLC0415

    if isinstance(proposer, FeatureProposer):
        return None  # its keys and values do not follow from tokens
    assert isinstance(proposer, ModelProposer)
    return attach_archive(proposer.engine, proposer.info, settings)


def load_proposer(settings: DraftSettings) -> Proposer:
    """A proposer with its model, and with it torch, whose import takes seconds.

    Raises:
        ModelReferenceError: the model cannot be loaded.
        VocabularyMismatchError: it has too little of the vocabulary that is asked for.
    """
    from draft_service.model_proposer import ModelProposer  # noqa: PLC0415
    from draft_service.translated_proposer import TranslatedProposer  # noqa: PLC0415
    from forethought.engine.loading.warm_up import load_for_tier  # noqa: PLC0415

    if is_feature_draft(resolve(settings.model)):
        return load_features(settings)
    target = None
    if settings.target_vocabulary is not None:
        target = load_tokenizer(resolve(settings.target_vocabulary, with_weights=False))
    loaded = load_for_tier(settings, lambda draft: scored_tokens(settings, draft, target))
    if target is not None and target.fingerprint != loaded.info.vocabulary_fingerprint:
        translated = TranslatedProposer(loaded, target, settings.max_support)
        translated.min_prob = settings.min_prob
        return translated
    if target is not None:
        _log.info("vocabularies_equal", draft=settings.model, target=target.name)
    proposer = ModelProposer(
        loaded.model,
        loaded.info,
        loaded.tokenizer.vocab_size,
        settings.max_support,
        loaded.limits,
    )
    proposer.min_prob = settings.min_prob
    proposer.num_bets = settings.lookahead
    return proposer


def scored_tokens(
    settings: DraftSettings, draft: TextTokenizer, target: TextTokenizer | None
) -> Sequence[int]:
    """The tokens that the draft model is to score; empty if it scores all.

    Args:
        settings: of the tier.
        draft: the draft model's tokenizer.
        target: that of the sessions, where it may be another one.

    Raises:
        ModelReferenceError: the file of counts is not sound.
        VocabularyMismatchError: it is of another vocabulary than the draft model's, or the draft
            model has too little of the target's.
    """
    from draft_service.frequent_tokens import frequent_tokens  # noqa: PLC0415
    from draft_service.vocabulary import shared_vocabulary  # noqa: PLC0415

    if settings.vocab_size is None:
        return ()
    is_translated = target is not None and target.fingerprint != draft.fingerprint
    counts = _counts(settings, draft, is_translated=is_translated)
    shared = None
    if target is not None and is_translated:
        shared = set(shared_vocabulary(target, draft).draft_token_ids.tolist())
    chosen = frequent_tokens(draft, settings.vocab_size, counts, shared)
    if chosen:
        _log.info(
            "draft_vocabulary",
            num_tokens=len(chosen),
            vocab_size=draft.vocab_size,
            by="merges" if counts is None else "counts",
        )
    return chosen


def _counts(
    settings: DraftSettings, draft: TextTokenizer, *, is_translated: bool
) -> CountsTable | None:
    """The counts that the settings name; raises as `scored_tokens`."""
    from forethought.counts.file import read_counts  # noqa: PLC0415

    if settings.vocab_counts is None:
        return None
    try:
        return read_counts(settings.vocab_counts, draft.fingerprint).table
    except VocabularyMismatchError as error:
        cure = (
            "leave --vocab-counts out"
            if is_translated
            else "--target-vocabulary (--translate-draft of `forethought up`) has it guess the "
            "tokens that both hold, without counts"
        )
        raise VocabularyMismatchError(
            f"draft model {settings.model} has another vocabulary than the target whose texts "
            f"{settings.vocab_counts} counts: {cure}",
            metadata=error.metadata,
        ) from error


def load_features(settings: DraftSettings) -> Proposer:
    """A draft that guesses from the target's hidden states; its tokens are the target's.

    Raises:
        ModelReferenceError: the draft cannot be loaded.
    """
    if settings.vocab_size is not None:
        raise ModelReferenceError(
            f"--vocab-size {settings.vocab_size}: {settings.model} is a feature draft, which has "
            "a part of the vocabulary of its own"
        )
    from draft_service.feature_proposer import FeatureProposer  # noqa: PLC0415
    from forethought.engine.loading.warm_up import load_feature_draft_for_tier  # noqa: PLC0415

    proposer = FeatureProposer(load_feature_draft_for_tier(settings), settings.max_support)
    proposer.min_prob = settings.min_prob
    return proposer


if __name__ == "__main__":
    run_process(serve(DraftSettings.from_command_line()))
