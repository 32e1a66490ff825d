"""What is installed on demand: a missing package, and the extra of `pip install` that brings it."""

import re
import sys
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec

_REQUIREMENT = re.compile(
    r"""^(?P<name>[\w.-]+)(?:\[(?P<extras>[\w,\s-]+)\])?[^;]*"""
    r""";\s*(?P<elsewhere>.*\band\b)?.*extra\s*==\s*['"](?P<extra>[\w-]+)['"]"""
)
_REFUSED = 2  # exit code, as of settings that are wrong


def extra_of(module: str) -> str | None:
    """The extra that installs a module's package; None: none of them does."""
    package = _normal(module.partition(".")[0])
    found = (each["extra"] for each in _requirements() if _normal(each["name"]) == package)
    return next(found, None)


def is_installed(module: str) -> bool:
    """Whether a module of an extra can be imported."""
    return find_spec(module) is not None


def describe_missing(error: ModuleNotFoundError) -> str | None:
    """What to install where an import failed; None: no extra has it, so it is a fault of ours."""
    extra = extra_of(error.name or "")
    return None if extra is None else _advice(error.name or "", extra)


def describe_missing_of(extra: str) -> str:
    """What to install where an extra is not, or not all of it; empty where it is."""
    missing = _missing_of(extra)
    return _advice(missing, extra) if missing else ""


def require(extra: str) -> None:
    """Ends the process in one line where an extra is not installed, before an import fails.

    Raises:
        SystemExit: what to install stands on stderr.
    """
    if problem := describe_missing_of(extra):
        sys.stderr.write(f"{problem}\n")
        raise SystemExit(_REFUSED)


def _missing_of(extra: str) -> str:
    """The first package of an extra that is not there."""
    for requirement in _requirements():
        if requirement["extra"] != extra or requirement["elsewhere"]:  # not on every machine
            continue
        if requirement["name"] == "forethought":
            others = (requirement["extras"] or "").split(",")
            missing = next(filter(None, map(_missing_of, map(str.strip, others))), "")
        else:
            missing = "" if _is_distributed(requirement["name"]) else requirement["name"]
        if missing:
            return missing
    return ""


def _advice(package: str, extra: str) -> str:
    return f"{package} is not installed: pip install 'forethought[{extra}]'"


def _requirements() -> Iterator[re.Match[str]]:
    """Those of all extras."""
    try:
        requirements = metadata.requires("forethought") or []
    except metadata.PackageNotFoundError:  # run from a folder that is not installed
        return iter(())
    return filter(None, map(_REQUIREMENT.match, requirements))


def _is_distributed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _normal(name: str) -> str:
    return name.lower().replace("_", "-")
