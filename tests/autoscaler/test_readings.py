"""What the autoscaler exports is what the catalogue says of it."""

from autoscaler.decider import Decision, Tier
from autoscaler.needs import Need
from autoscaler.readings import read_decisions
from forethought.observability.catalogue import REPLICAS_NEEDED, REPLICAS_WANTED, SERIES
from forethought.observability.series import Process


def test_it_exports_what_the_catalogue_says_and_nothing_else():
    decision = Decision(Need(2.5, "a test"), 1, 3, is_settled=True)
    readings = list(read_decisions({Tier.DRAFT: decision}, is_leader=True))
    promised = {each for each in SERIES if each.processes == (Process.AUTOSCALER,)}
    assert {each.series for each in readings} == promised
    values = {(each.series, each.labels): each.value for each in readings}
    assert values[REPLICAS_NEEDED, ("draft",)] == 2.5
    assert values[REPLICAS_WANTED, ("draft",)] == 3
