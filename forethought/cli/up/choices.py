"""What a local deployment runs with, in words: one line for each choice."""

import sys
from pathlib import Path
from shutil import which

from forethought.cli.views.served import Served
from forethought.local.plan.plan import Plan
from forethought.local.plan.plan_options import PlanOptions


def describe_choices(plan: Plan, served: Served | None) -> list[tuple[str, str]]:
    """Names and values, as far as they are known."""
    options = plan.options
    model = options.model
    if served is not None and served.dtype:
        threads = f", {options.num_threads} threads" if options.num_threads else ""
        model += f", {served.dtype} on {served.device}{threads}, up to {served.max_model_len:,}"
        model += " tokens"
    lines = [("model", model), ("drafts", _drafts(options, served))]
    if served is not None and served.policy:
        k = served.num_speculative_tokens
        how = f"up to {k}, chosen round by round" if served.policy == "adaptive" else f"always {k}"
        lines.append(("K", f"{how} (policy {served.policy}); mode {served.verification_mode}"))
    if served is not None and served.sampling:
        words = ", ".join(served.sampling)
        lines.append(("samples", f"{words}; the model suggests it (--generation-config none)"))
    lines.append(("store", _store(plan)))
    return lines


def _drafts(options: PlanOptions, served: Served | None) -> str:
    lookups = (options.lookup or ()) if served is None else served.lookups
    parts = []
    if lookups:
        parts.append(f"looked up by {', '.join(lookups)} in the orchestrator")
    if options.draft_model is None:
        parts.append("no draft tier")
    else:
        dtype = options.draft_dtype or options.dtype
        size = options.draft_vocab_size
        words = [f"model {options.draft_model}", *([dtype] if dtype else [])]
        words += [] if size is None else [f"which guesses its {size:,} most frequent tokens"]
        parts.append(", ".join(words))
    if options.counts is not None:
        parts.append(f"counts of {short_path(options.counts)}")
    return "; ".join(parts)


def _store(plan: Plan) -> str:
    if plan.redis_url is not None:
        return "the Redis or Valkey of --redis-url"
    if not plan.options.embedded_store:
        return "none: sessions end with their request (--no-store)"
    return "an embedded Valkey, in memory: sessions end with this deployment"


def short_path(path: Path) -> str:
    """A path from here, where that is shorter."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)


def how_called() -> str:
    """The command line's name as the user would type it again."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return f"{_short_program(Path(sys.executable))} -m forethought.cli"
    return _short_program(called)


def _short_program(program: Path) -> str:
    """A program's name where the shell finds it by that, else its path."""
    found = which(program.name)
    if found is not None and Path(found).absolute() == program.absolute():
        return program.name
    path = program.absolute()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
