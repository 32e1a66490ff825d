"""The queries of alert rules and dashboards, and the names in them."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

K8S = Path(__file__).parents[2] / "k8s"
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_DURATION = re.compile(r"\[[^\]]*\]")
_MATCHERS = re.compile(r"\{([^}]*)\}")
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)")
_WORDS = {
    *("and", "or", "unless", "offset", "bool", "inf", "nan"),
    *("sum", "min", "max", "avg", "count", "topk", "bottomk", "stddev", "quantile"),
    *("rate", "irate", "increase", "delta", "changes", "histogram_quantile", "clamp_min"),
    *("clamp_max", "label_replace", "label_values", "max_over_time", "min_over_time", "time"),
    *("avg_over_time", "abs", "absent", "scalar", "vector", "label_join", "ceil"),
}


def names_in(query: str) -> set[str]:
    """Metrics that a query of Prometheus asks for."""
    bare = _GROUPING.sub(" ", _MATCHERS.sub(" ", _DURATION.sub(" ", _STRING.sub(" ", query))))
    return {name for name in _NAME.findall(bare) if name not in _WORDS}


def labels_in(query: str) -> set[str]:
    """Labels that a query selects or groups by."""
    bare = _DURATION.sub(" ", _STRING.sub(" ", query))
    places = [*_MATCHERS.findall(bare), *(each.split("(")[1] for each in _GROUPING.findall(bare))]
    return {name for place in places for name in _NAME.findall(place)}


def rules() -> list[dict[str, Any]]:
    """The alert rules."""
    path = K8S / "components" / "prometheus" / "rules.yaml"
    return [
        rule
        for group in yaml.safe_load(path.read_text())["spec"]["groups"]
        for rule in group["rules"]
    ]


def scaler_queries() -> Iterator[str]:
    """Those by which KEDA scales."""
    for path in sorted(K8S.glob("components/keda/*.yaml")):
        for trigger in yaml.safe_load(path.read_text()).get("spec", {}).get("triggers", ()):
            yield trigger["metadata"]["query"]


def dashboard_queries() -> Iterator[str]:
    """Those of all panels and variables of all dashboards."""
    for path in sorted(K8S.glob("components/grafana/*.json")):
        yield from _queries(json.loads(path.read_text()))


def _queries(part: Any) -> Iterator[str]:
    if isinstance(part, list):
        for each in part:
            yield from _queries(each)
    elif isinstance(part, dict):
        for key, value in part.items():
            if key == "expr":
                yield value
            elif key == "query" and isinstance(value, str) and value.startswith("label_values("):
                yield value.removeprefix("label_values(").rsplit(",", 1)[0]
            else:
                yield from _queries(value)
