"""The dashboard asks for metrics and labels that the processes export, and is found by Grafana."""

import json
import re
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest

from forethought.observability.catalogue import SERIES
from forethought.observability.series import MODEL_LABEL, PREFIX
from tests.deployment.manifests import ROOT, of_kind, render_with

COMPONENT = ROOT / "k8s/components/grafana"
DASHBOARD = json.loads((COMPONENT / "forethought.json").read_text())
LABELS = {name: {*each.labels, MODEL_LABEL} for each in SERIES for name in each.sample_names}
SCRAPED = {"namespace", "app_kubernetes_io_component", "pod", "le"}  # labels of all


def queries(dashboard: dict[str, Any]) -> Iterator[str]:
    """All of them, that of the variable included."""
    for panel in dashboard["panels"]:
        yield from (target["expr"] for target in panel.get("targets", []))
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["query"]


def problems(dashboard: dict[str, Any]) -> Iterator[str]:
    """Metrics and labels that nobody exports."""
    for query in queries(dashboard):
        names = re.findall(rf"{PREFIX}:(\w+)", query)
        if not names:
            yield f"{query} asks for nothing of ours"
        yield from (f"{name} is exported by nobody" for name in names if name not in LABELS)
        known = set(SCRAPED).union(*(LABELS.get(name, ()) for name in names))
        grouped = re.findall(r"\bby \(([^)]*)\)", query)
        wanted = {label.strip() for group in grouped for label in group.split(",")}
        wanted |= set(re.findall(r"[{,]\s*(\w+)\s*=", query))
        yield from (f"{label} is no label of {names}" for label in wanted - known)


def test_every_metric_and_label_that_it_asks_for_is_exported():
    assert not list(problems(DASHBOARD))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (f"{PREFIX}:generation_tokens_total", f"{PREFIX}:generation_tokens"),
        (f"{PREFIX}:speculative_k", "speculative_k"),
        ("by (phase)", "by (step)"),
        ('phase=\\"verification\\"', 'step=\\"verification\\"'),
    ],
)
def test_a_query_for_nothing_is_noticed(old: str, new: str):
    text = json.dumps(DASHBOARD)
    assert old in text
    assert list(problems(json.loads(text.replace(old, new))))


def test_it_shows_the_three_steps():
    rows = [each["title"] for each in DASHBOARD["panels"] if each["type"] == "row"]
    for step in ("speculation", "verification", "rejection"):
        assert any(step in row for row in rows)


def test_panels_have_ids_of_their_own_and_lie_beside_each_other():
    panels = deepcopy(DASHBOARD["panels"])
    assert len({each["id"] for each in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for place in (each["gridPos"] for each in panels):
        cells = {
            (place["x"] + column, place["y"] + row)
            for column in range(place["w"])
            for row in range(place["h"])
        }
        assert not cells & taken
        assert place["x"] + place["w"] <= 24
        taken |= cells


def test_the_sidecar_of_grafana_finds_it_by_its_label():
    config = next(
        each
        for each in of_kind(render_with(COMPONENT), "ConfigMap")
        if "forethought.json" in each["data"]
    )
    assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(config["data"]["forethought.json"]) == DASHBOARD
