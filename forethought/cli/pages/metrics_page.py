"""`python -m forethought.cli.pages.metrics_page`: all metrics as a page, made from the code.

python -m forethought.cli.pages.metrics_page docs/metrics.md           writes it
python -m forethought.cli.pages.metrics_page docs/metrics.md --check   fails if it is stale
"""

import sys
from collections.abc import Iterator

from forethought.cli.pages.generated_page import run, table
from forethought.observability.catalogue import SERIES
from forethought.observability.series import MODEL_LABEL, PREFIX, Kind, Process, Series

_INTRODUCTION = f"""# Metrics

`make docs` writes this page from the code.

Every process serves its metrics at `/metrics` of its admin port (`--admin-listen`): the
orchestrator at 9100, the draft tier at 9101, the target tier at 9102, the gateway at 9103, the
autoscaler at 9104. All names begin with `{PREFIX}:`. Those that vLLM has too mean the same, have
its buckets, and a label `{MODEL_LABEL}`; with `--metrics-prefix vllm` they begin with `vllm:`, so
that its dashboards and tools find them. No label holds what a client sent.

A histogram NAME is exported as `NAME_bucket`, `NAME_count` and `NAME_sum`. Besides, each process
exports `process_…` and `python_…`, as all Python programs with prometheus-client do.

`k8s/components/prometheus` has alert rules that use these names.
"""


def make_page() -> str:
    """The page in Markdown."""
    return "\n".join([_INTRODUCTION, *_sections()])


def _sections() -> Iterator[str]:
    told: set[Series] = set()
    for title, processes in (
        ("Of every process", tuple(Process)),
        ("Of the orchestrator", (Process.ORCHESTRATOR,)),
        ("Of both tiers", (Process.TARGET, Process.DRAFT)),
        ("Of the draft tier", (Process.DRAFT,)),
        ("Of the gateway", (Process.GATEWAY,)),
        ("Of the autoscaler", (Process.AUTOSCALER,)),
    ):
        series = [each for each in SERIES if each.processes == processes]
        told.update(series)
        yield f"## {title}\n\n" + table(
            ("metric", "type", "labels", "vLLM has it", "what it is"), map(_row, series)
        )
    assert told == set(SERIES)


def _row(series: Series) -> tuple[str, ...]:
    name = series.name if series.kind is Kind.HISTOGRAM else series.sample_names[0]
    return (
        f"`{name}`",
        series.kind.value,
        ", ".join(f"`{label}`" for label in series.labels),
        "yes" if series.is_shared else "",
        series.help,
    )


if __name__ == "__main__":
    sys.exit(run("forethought.cli.pages.metrics_page", make_page, sys.argv[1:]))
