"""Who drafts in a deployment on this machine."""

from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import typer

from forethought.errors import ModelReferenceError
from forethought.local.defaults import DEFAULT_MODEL
from forethought.local.plan_options import PlanOptions
from forethought.models.reference import resolve

SHIPPED_DRAFTS = {DEFAULT_MODEL: "draft:smollm2-135m-instruct"}
"""Drafts that come with Forethought, by their targets."""
SHIPPED_COUNTS = "answers.counts"
"""File beside such a draft: what the target's texts were counted to."""
LOOKUPS = ("suffix", "ngram", "counts")
"""What an orchestrator can look up."""


class ProposerName(StrEnum):
    """Who guesses the next tokens."""

    NGRAM = "ngram"
    SUFFIX = "suffix"
    COUNTS = "counts"
    MODEL = "model"
    HYBRID = "hybrid"


@dataclass(frozen=True, slots=True)
class DraftChoice:
    """Who drafts."""

    proposer: str | None  # of the draft tier; None: there is none
    model: str | None  # None: the target's
    counts: Path | None = None
    lookup: tuple[str, ...] = ()  # of the orchestrator, before it asks the draft tier


def shipped_draft(model: str) -> str | None:
    """The draft that comes with Forethought for a target, if there is one."""
    reference = SHIPPED_DRAFTS.get(model)
    if reference is None:
        return None
    try:
        resolve(reference)
    except ModelReferenceError:
        return None
    return reference


def shipped_counts(model: str) -> Path | None:
    """The counts that come with Forethought for a target, if there are any."""
    reference = shipped_draft(model)
    if reference is None:
        return None
    path = resolve(reference).folder / SHIPPED_COUNTS
    return path if path.is_file() else None


def choose_draft(
    model: str,
    proposer: ProposerName | None,
    draft_model: str | None,
    counts: Path | None = None,
    lookup: tuple[str, ...] | None = None,
) -> DraftChoice:
    """Who drafts in a deployment with these options: what comes along for its target, if nothing
    else is named; raises as `choose_proposer` does.

    That is what the orchestrator looks up, which takes next to no time. Before a target as small as
    those that something comes along for, the way to a draft tier and the passes of its model cost
    more than they bring.
    """
    counted = shipped_counts(model)
    if lookup:
        return _looking_up(lookup, proposer, draft_model, counts or counted)
    if draft_model is None and counts is None:
        if counted is not None and proposer is None and lookup is None:
            return DraftChoice(None, None, counted, ("suffix", "counts"))
        if counted is not None and proposer is ProposerName.COUNTS:
            return DraftChoice(proposer, None, counted)
        if proposer in (ProposerName.MODEL, ProposerName.HYBRID):
            return DraftChoice(proposer, shipped_draft(model))
    return DraftChoice(choose_proposer(proposer, draft_model, counts), draft_model, counts)


def _looking_up(
    lookup: tuple[str, ...],
    proposer: ProposerName | None,
    draft_model: str | None,
    counts: Path | None,
) -> DraftChoice:
    """Lookups in the orchestrator, and behind them a draft tier only where one is named."""
    if "counts" in lookup and counts is None:
        raise typer.BadParameter("counts are looked up in a file: name it with --counts")
    if proposer is not None or draft_model is not None:
        takes_counts = proposer in (ProposerName.COUNTS, ProposerName.HYBRID)
        proposer = ProposerName(
            choose_proposer(proposer, draft_model, counts if takes_counts else None)
        )
    uses_counts = "counts" in lookup or proposer in (ProposerName.COUNTS, ProposerName.HYBRID)
    return DraftChoice(proposer, draft_model, counts if uses_counts else None, lookup)


def choose_proposer(
    proposer: ProposerName | None, draft_model: str | None, counts: Path | None = None
) -> str:
    """The proposer of a deployment with these options.

    Raises:
        typer.BadParameter: they contradict each other.
    """
    lookups = (ProposerName.NGRAM, ProposerName.SUFFIX, ProposerName.COUNTS)
    if proposer in lookups and draft_model is not None:
        raise typer.BadParameter(
            f"the {proposer} proposer runs no model: "
            f"leave out --proposer {proposer} or --draft-model"
        )
    if counts is None and proposer is ProposerName.COUNTS:
        raise typer.BadParameter("the counts proposer needs --counts")
    if counts is None:
        return proposer or (ProposerName.NGRAM if draft_model is None else ProposerName.MODEL)
    if proposer not in (None, ProposerName.COUNTS, ProposerName.HYBRID):
        raise typer.BadParameter(
            f"the {proposer} proposer takes no counts: leave out --proposer {proposer} or --counts"
        )
    return proposer or ProposerName.HYBRID


def drafted_by(options: PlanOptions, chosen: DraftChoice) -> PlanOptions:
    """The same plan with these drafts."""
    return replace(
        options,
        proposer=chosen.proposer,
        draft_model=chosen.model,
        counts=chosen.counts,
        lookup=chosen.lookup,
    )


def runs_draft_model(options: PlanOptions) -> bool:
    """Whether the draft tier has passes to make."""
    if options.proposer == "hybrid":
        return options.counts is None or options.draft_model is not None
    return options.proposer == "model"


def describe_drafting(options: PlanOptions) -> str:
    """Who drafts, in words."""
    if options.proposer not in {"model", "hybrid", None}:
        return " and ".join((*options.lookup, options.proposer))
    parts = {
        "lookup": options.proposer == "hybrid" or "suffix" in options.lookup,
        "counts": options.counts is not None,
        options.draft_model or options.model: runs_draft_model(options),
    }
    return " and ".join(name for name, takes_part in parts.items() if takes_part)
