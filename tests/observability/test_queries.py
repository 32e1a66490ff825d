"""Alert rules and dashboards ask for what processes export, and for nothing else."""

import shutil
import subprocess

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.observability.queries import (
    K8S,
    dashboard_queries,
    labels_in,
    names_in,
    rules,
    scaler_queries,
)

OF_PROMETHEUS = {"up"}
OF_CLUSTER = {"namespace", "pod", "job", "instance", "container", "app_kubernetes_io_component"}
"""Labels that Prometheus adds."""

QUERIES = [
    *(pytest.param(rule["expr"], id=rule["alert"]) for rule in rules()),
    *(pytest.param(query, id=f"scaler {index}") for index, query in enumerate(scaler_queries())),
    *(pytest.param(query, id=f"panel {index}") for index, query in enumerate(dashboard_queries())),
]


@pytest.fixture(scope="module")
def exported(scrapes) -> dict[str, set[str]]:
    """The labels of each name that some process exports."""
    labels: dict[str, set[str]] = {}
    for scrape in scrapes.values():
        for family in text_string_to_metric_families(scrape.text):
            for sample in family.samples:
                labels.setdefault(sample.name, set()).update(sample.labels)
    return labels


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_asks_for_names_and_labels_that_are_exported(exported, query):
    names = names_in(query)
    assert names
    assert names - OF_PROMETHEUS <= exported.keys()
    known = OF_CLUSTER.union(*(exported.get(name, ()) for name in names))
    assert labels_in(query) - known == set()


def test_there_are_rules_and_panels():
    assert len(rules()) > 10
    assert len(list(dashboard_queries())) > 20
    assert len(list(scaler_queries())) == 6


def test_a_misspelt_name_or_label_is_noticed(exported):
    assert names_in("rate(forethought:round_total[5m])") - exported.keys()
    query = 'sum by (tier) (forethought:replicas{standig="lost"})'
    assert labels_in(query) == {"tier", "standig"}
    assert names_in(query) == {"forethought:replicas"}


def test_each_alert_says_how_bad_it_is_and_what_to_do():
    for rule in rules():
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert rule["annotations"].keys() == {"summary", "description"}
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names)


def test_promtool_takes_the_rules(tmp_path):
    promtool = shutil.which("promtool")
    spec = yaml.safe_load((K8S / "components/prometheus/rules.yaml").read_text())["spec"]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump(spec))
    if promtool is None:  # of the Debian package prometheus
        assert all(rule["expr"].count("(") == rule["expr"].count(")") for rule in rules())
        return
    command = [promtool, "check", "rules", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert not done.returncode, done.stdout + done.stderr
