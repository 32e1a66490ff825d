"""What a line that begins with a slash does."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from forethought.cli.chat.dialogue import Dialogue
from forethought.cli.chat.settable import SettingError, describe_params, set_param
from forethought.generation import GenerationRequest


class LeaveError(Exception):
    """The user wants to leave."""


@dataclass
class ChatState:
    """What commands work on."""

    dialogue: Dialogue
    say: Callable[[str], None]  # a line for the user, which is no part of an answer
    last_statistics: str = ""


Command = Callable[[ChatState, str], GenerationRequest | None]
"""Takes what stands behind its name. May bring a request whose answer is to be shown."""


def run_command(state: ChatState, line: str) -> GenerationRequest | None:
    """Does what a line says that begins with a slash.

    Raises:
        LeaveError: the program is to end.
    """
    name, _, argument = line[1:].partition(" ")
    found = COMMANDS.get(name)
    if found is None:
        state.say(f"There is no /{name}. /help lists what there is; // begins a text with a slash.")
        return None
    return found[0](state, argument.strip())


def _help(state: ChatState, _: str) -> None:
    width = max(len(usage) for _command, usage, _text in COMMANDS.values())
    for _command, usage, text in COMMANDS.values():
        state.say(f"{usage:<{width}}  {text}")
    state.say("Ctrl-C stops an answer, Ctrl-D leaves; a backslash at its end continues a line.")


def _leave(_: ChatState, __: str) -> None:
    raise LeaveError


def _new(state: ChatState, _: str) -> None:
    state.dialogue.restart()
    state.say("A new conversation.")


def _system(state: ChatState, text: str) -> None:
    if text:
        state.dialogue.instruct(None if text == "-" else text)
    state.say(f"System message: {state.dialogue.system or 'none'}")


def _seed(state: ChatState, text: str) -> None:
    _set(state, f"seed {text or 'default'}")


def _set(state: ChatState, text: str) -> None:
    name, _, value = text.replace("=", " ").partition(" ")
    if not name:
        for line in describe_params(state.dialogue.params):
            state.say(line)
        return
    try:
        state.dialogue.params = set_param(state.dialogue.params, name, value.strip())
    except SettingError as error:
        state.say(f"Not set: {error}.")
    else:
        state.say(f"{name} = {value.strip()}, from the next answer on.")


def _steps(state: ChatState, _: str) -> None:
    state.dialogue.include_steps = not state.dialogue.include_steps
    state.say("Rounds are shown." if state.dialogue.include_steps else "Rounds are not shown.")


def _stats(state: ChatState, _: str) -> None:
    state.say(state.last_statistics or "There was no answer yet.")


def _session(state: ChatState, _: str) -> None:
    state.say(state.dialogue.session_id or "The next turn goes on from no stored session.")


def _resume(state: ChatState, _: str) -> GenerationRequest | None:
    request = state.dialogue.resume()
    if request is None:
        state.say("No answer of a stored session was broken off.")
    return request


def _save(state: ChatState, name: str) -> None:
    if not name:
        state.say("Where to? /save FILE; .json holds messages, anything else Markdown.")
        return
    messages = state.dialogue.all_messages
    if name.endswith(".json"):
        content = json.dumps([asdict(each) for each in messages], ensure_ascii=False, indent=2)
    else:
        content = "\n\n".join(f"**{each.role}**\n\n{each.content}" for each in messages)
    try:
        Path(name).expanduser().write_text(content + "\n", encoding="utf-8")
    except (OSError, RuntimeError) as error:
        state.say(f"Not saved: {error}.")
    else:
        state.say(f"{len(messages)} messages are in {name}.")


COMMANDS: dict[str, tuple[Command, str, str]] = {
    "help": (_help, "/help", "this list"),
    "exit": (_leave, "/exit", "leave; the session stays in the store"),
    "quit": (_leave, "/quit", "the same"),
    "new": (_new, "/new", "begin another conversation"),
    "system": (_system, "/system TEXT", "another system message; - for none"),
    "seed": (_seed, "/seed N", "of the next answers; without N a random one for each"),
    "set": (_set, "/set NAME VALUE", "a parameter, such as temperature 0.7; VALUE may be default"),
    "steps": (_steps, "/steps", "show each round of speculation, or no longer"),
    "stats": (_stats, "/stats", "tokens a second and acceptance of the last answer"),
    "session": (_session, "/session", "the id of the stored session"),
    "resume": (_resume, "/resume", "go on with an answer that was broken off"),
    "save": (_save, "/save FILE", "what was said so far"),
}
"""By name: what it does, how it is written, and its line of help."""
