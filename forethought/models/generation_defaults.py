"""How a model's author suggests to sample from it, for requests that do not say.

Taken as vLLM takes it: from generation_config.json, whatever `do_sample` says there. A GGUF file
has the same under `general.sampling`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from forethought.errors import InvalidArgumentError, ModelReferenceError
from forethought.models.files.gguf_header import read_gguf_metadata
from forethought.models.files.json_file import read_json
from forethought.models.files.reference import ModelFiles
from forethought.sampling.params import SamplingParams

_MOST = 2**31 - 1
"""More than any parameter may be; JSON has numbers that no machine word holds."""
_KEYS = {
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "repetition_penalty": "repetition_penalty",
    "max_new_tokens": "max_tokens",
}
_GGUF_KEYS = {
    "general.sampling.temp": "temperature",
    "general.sampling.top_k": "top_k",
    "general.sampling.top_p": "top_p",
    "general.sampling.min_p": "min_p",
}


@dataclass(frozen=True, slots=True)
class GenerationDefaults:
    """What a request gets where it leaves a field open."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    max_tokens: int | None = None  # None: the deployment's

    @classmethod
    def read(cls, files: ModelFiles) -> Self:
        """What the model's files say; what they do not say changes nothing.

        Raises:
            ModelReferenceError: a value is out of range.
        """
        if files.gguf is not None:
            place = files.gguf
            stated: Mapping[str, Any] = read_gguf_metadata(files.gguf)
            keys = _GGUF_KEYS
        else:
            place = files.folder / "generation_config.json"
            stated, keys = read_json(place), _KEYS
        given: dict[str, Any] = {}
        for key, name in keys.items():
            value = _number(stated.get(key), name)
            given |= {} if value is None else {name: value}
        defaults = cls(**given)
        try:
            defaults.sampling(seed=0)
        except InvalidArgumentError as error:
            raise ModelReferenceError(
                f"The sampling parameters in {place} are out of range: {error.message}. Correct "
                "them, or leave them out with generation_config = none"
            ) from error
        return defaults

    def sampling(self, *, seed: int, **given: float | None) -> SamplingParams:
        """The sampling parameters of a request: those it gives, and these for the rest.

        Raises:
            InvalidArgumentError: a value is out of range.
        """
        values: dict[str, Any] = {
            each.name: getattr(self, each.name)
            for each in fields(self)
            if each.name != "max_tokens"
        }
        values |= {name: value for name, value in given.items() if value is not None}
        return SamplingParams(seed=seed, **values)


def _number(value: Any, name: str) -> float | None:
    """None where nothing usable is stated; transformers writes null, 0 or -1 for "all tokens"."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if name in {"top_k", "max_tokens"}:
        return int(min(value, _MOST)) if value > 0 else None
    return float(max(min(value, _MOST), -_MOST))
