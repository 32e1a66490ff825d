"""What environment and TOML file say of the tiers that `forethought up` starts.

A tier reads both by itself. Here is only asked what they say, so that a choice that `up` makes by
default does not stand above one that somebody made.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from forethought.configuration.variables import (
    CONFIG_VARIABLE,
    env_prefix,
    is_service_link,
)
from forethought.local.plan.plan_error import PlanError


@dataclass(frozen=True, slots=True)
class TierConfig:
    """Settings of tiers that come from elsewhere than the options of `up`."""

    file: Path | None = None
    sections: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)

    def get(self, section: str, name: str) -> str | None:
        """A setting of a tier as text, by the same precedence as the tier's."""
        variable = f"{env_prefix(section)}{name}".upper()
        for given, value in self.environment.items():
            if given.upper() == variable and not is_service_link(variable, value):
                return value
        found = self.sections.get(section, {}).get(name)
        if isinstance(found, list):
            return ",".join(map(str, found))
        return None if found is None else str(found)

    def leave_out(self, section: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Default values of a tier's settings, without those that somebody else has chosen."""
        return {name: value for name, value in values.items() if self.get(section, name) is None}

    def refuse_tls(self, sections: Iterable[str]) -> None:
        """On one machine tiers are probed and called in plain text; one that speaks or expects TLS
        would be waited for in vain.

        Raises:
            PlanError: it names the setting.
        """
        for section in sections:
            for name in ("tls_cert", "tier_tls_ca"):
                if self.get(section, name):
                    variable = f"{env_prefix(section)}{name}".upper()
                    raise PlanError(
                        f"{variable} is set, there or as {name} in [{section}] of the TOML file: "
                        "what is started here speaks plain text; leave it out, or start the "
                        "processes one by one"
                    )

    @property
    def for_tiers(self) -> dict[str, str]:
        """What tiers find in their environment."""
        return {} if self.file is None else {CONFIG_VARIABLE: str(self.file.resolve())}
