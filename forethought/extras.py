"""What is installed on demand: a missing package, and the extra of `pip install` that brings it."""

import re
from importlib import metadata
from importlib.util import find_spec

_REQUIREMENT = re.compile(r"""^(?P<name>[\w.-]+).*;.*extra\s*==\s*['"](?P<extra>[\w-]+)['"]""")


def extra_of(module: str) -> str | None:
    """The extra that installs a module's package; None: none of them does."""
    package = module.partition(".")[0].lower().replace("_", "-")
    try:
        requirements = metadata.requires("forethought") or []
    except metadata.PackageNotFoundError:  # run from a folder that is not installed
        return None
    for requirement in requirements:
        match = _REQUIREMENT.match(requirement)
        if match and match["name"].lower().replace("_", "-") == package:
            return match["extra"]
    return None


def is_installed(module: str) -> bool:
    """Whether a module of an extra can be imported."""
    return find_spec(module) is not None


def describe_missing(error: ModuleNotFoundError) -> str | None:
    """What to install where an import failed; None: no extra has it, so it is a fault of ours."""
    extra = extra_of(error.name or "")
    if extra is None:
        return None
    return f"{error.name} is not installed: pip install 'forethought[{extra}]'"
