"""Parameters that a conversation may change, by the names of the command line's options."""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

from forethought.generation import GenerationParams
from forethought.sampling.types import VerificationMode

_KINDS: dict[str, Callable[[str], Any]] = {
    "max_tokens": int,
    "temperature": float,
    "top_k": int,
    "top_p": float,
    "min_p": float,
    "repetition_penalty": float,
    "seed": int,
    "num_speculative_tokens": int,
    "verification_mode": VerificationMode,
}
_SHORT = {"k": "num_speculative_tokens", "mode": "verification_mode"}
_DEFAULT = "default"


class SettingError(ValueError):
    """No such parameter, or no value of it."""


def set_param(params: GenerationParams, name: str, text: str) -> GenerationParams:
    """The parameters with another value; `default` leaves it to the deployment again. Ranges are
    the server's to check.

    Raises:
        SettingError: says what is wrong.
    """
    field = name.lstrip("-").replace("-", "_")
    field = _SHORT.get(field, field)
    if field not in _KINDS:
        raise SettingError(f"there is no {name!r}; there are {', '.join(_names())}")
    if text == _DEFAULT:
        return replace(params, **{field: getattr(GenerationParams(), field)})
    try:
        value = _KINDS[field](text)
    except ValueError:
        if _KINDS[field] is VerificationMode:
            modes = ", ".join(mode.value for mode in VerificationMode)
            raise SettingError(f"{name} is one of {modes}, not {text!r}") from None
        kind = "a whole number" if _KINDS[field] is int else "a number"
        raise SettingError(f"{name} is {kind}, not {text!r}") from None
    return replace(params, **{field: value})


def describe_params(params: GenerationParams) -> list[str]:
    """A line for each parameter."""
    values = {each.name: getattr(params, each.name) for each in fields(params)}
    return [f"{name} = {_shown(values[_SHORT.get(name, name)])}" for name in _names()]


def _names() -> list[str]:
    short = {long: name for name, long in _SHORT.items()}
    return [short.get(name, name) for name in _KINDS]


def _shown(value: Any) -> str:
    if value is None:
        return _DEFAULT
    return value.value if isinstance(value, VerificationMode) else f"{value}"
