"""Settings that were removed, and what replaces each: one table for flags, variables and TOML keys.

What meant something once is refused by the name of what replaces it, and not as if it had never
been.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from forethought.configuration.variables import env_prefix, is_service_link


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting of a process, or an option of `forethought up`."""

    section: str
    name: str

    @property
    def flag(self) -> str:
        """As in a command line of its own."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def variable(self) -> str:
        """As in the environment."""
        return f"{env_prefix(self.section)}{self.name}".upper()

    @property
    def key(self) -> str:
        """As in the TOML file."""
        return f"{self.name} in [{self.section}]"


_LOOKUP = Setting("orchestrator", "lookup")
_LOOKED_UP = "guesses are looked up by the orchestrator"
_SAME_OF_THE_ORCHESTRATOR = (
    *("counts_file", "counts_first_min_prob", "counts_min_prob"),
    *("ngram_max_match", "ngram_min_match"),
    *("suffix_max_match", "suffix_memory", "suffix_min_match", "suffix_min_prob"),
)
_REMOVED: Mapping[Setting, tuple[str, tuple[Setting, ...]]] = {
    Setting("up", "proposer"): (
        "a draft tier runs where a draft model is named, and guesses are looked up before",
        (Setting("up", "draft_model"), Setting("up", "lookup")),
    ),
    Setting("draft", "proposer"): (
        f"a draft tier always drafts with its model, and {_LOOKED_UP}",
        (_LOOKUP,),
    ),
    Setting("draft", "hybrid_lookup"): (_LOOKED_UP, (_LOOKUP,)),
    Setting("draft", "hybrid_fallback"): (_LOOKED_UP, (_LOOKUP,)),
    Setting("draft", "hybrid_min_match"): (
        _LOOKED_UP,
        (Setting("orchestrator", "suffix_min_match"), Setting("orchestrator", "ngram_min_match")),
    ),
    **{
        Setting("draft", name): (_LOOKED_UP, (Setting("orchestrator", name),))
        for name in _SAME_OF_THE_ORCHESTRATOR
    },
}


def removed_flag(section: str, flag: str) -> str:
    """Why a process or command has no such flag any more; empty where it never had one."""

    def spell(setting: Setting) -> str:
        other = "" if setting.section == section else f" of {setting.section}"
        return f"{setting.flag}{other}"

    return _describe(Setting(section, flag.removeprefix("--").replace("-", "_")), spell)


def removed_key(section: str, name: str) -> str:
    """Why a section of the TOML file has no such key any more; empty where it never had one."""
    return _describe(Setting(section, name), lambda setting: setting.key)


def removed_variables(section: str, environment: Mapping[str, str]) -> Iterator[str]:
    """Why variables of a process mean nothing any more."""
    given = {
        name.upper() for name, value in environment.items() if not is_service_link(name, value)
    }
    for setting in _REMOVED:
        if setting.section == section and setting.variable in given:
            yield _describe(setting, lambda setting: setting.variable)


def removed_keys(sections: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Why keys of a TOML file mean nothing any more."""
    for section, content in sections.items():
        yield from filter(None, (removed_key(section, name) for name in content))


def _describe(setting: Setting, spell: Callable[[Setting], str]) -> str:
    if setting not in _REMOVED:
        return ""
    why, replacements = _REMOVED[setting]
    return f"{spell(setting)} was removed: {why}; see {' and '.join(map(spell, replacements))}"
