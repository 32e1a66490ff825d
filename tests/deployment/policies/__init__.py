"""What every rendered deployment must keep to. Each policy lists what breaks it."""

from collections.abc import Callable, Iterator, Sequence

from tests.deployment.manifests import Manifest
from tests.deployment.policies import certificates, pods, ports, processes, relations

Policy = Callable[[Sequence[Manifest]], Iterator[str]]

POLICIES: tuple[Policy, ...] = (
    pods.is_restricted,
    pods.has_no_token,
    pods.names_its_images,
    pods.has_limits,
    pods.has_probes,
    pods.has_no_surge_of_devices,
    relations.has_only_deployments,
    relations.has_budgets_and_policies,
    relations.has_selectors_that_match,
    relations.leaves_replicas_to_scalers,
    relations.refers_to_what_exists,
    ports.lead_to_services,
    ports.lead_to_containers,
    certificates.names_fit,
    certificates.tiers_ask_for_names,
    processes.ends_in_time,
    processes.listens_where_it_is_called,
    processes.is_scraped,
)
