"""What a tier does, and why it ended, out of its log."""

import ast
import re
from collections import deque
from itertools import islice
from pathlib import Path

_NUM_LAST_LINES = 15
_FAILED = re.compile(
    r"""start_failed.*?\bdetail=(?P<detail>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|\S+)"""
)
_REFUSED = re.compile(r"^(?:target|draft|orchestrator): (?P<complaint>.+)$")
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


_ADMIN = re.compile(r"\badmin_listening\s+address=(\S+)")
_NUM_FIRST_LINES = 50
_EVENT = re.compile(r"\] (?P<event>[a-z_]+)(?P<fields> .*)?$")
_NUM_BYTES = re.compile(r"\bnum_bytes=(\d+)")
_OF_BYTES = re.compile(r"\bof_bytes=(\d+)")
_DOING = {
    "model_loading": "reads the model",
    "model_reading": "reads the model",
    "model_warm": "measures its passes",
    "waiting_for_target": "waits for the target",
    "target_not_ready": "waits for the target",
    "waiting_for_turn": "waits until the other tier on these cores has loaded",
    "turn_not_waited_for": "loads beside the other tier on these cores",
}


def describe_progress(path: Path) -> str:
    """What a tier that is not ready does just now, as far as its log says."""
    for line in reversed(read_last_lines(path)):
        match = _EVENT.search(line)
        if match and match["event"] in _DOING:
            return _DOING[match["event"]] + _describe_size(match["fields"] or "")
    return ""


def _describe_size(fields: str) -> str:
    size, whole = _NUM_BYTES.search(fields), _OF_BYTES.search(fields)
    if size is None:
        return ""
    megabytes = f"{int(size[1]) / 1e6:,.0f}"
    return f": {megabytes} of {int(whole[1]) / 1e6:,.0f} MB" if whole else f" of {megabytes} MB"


def find_admin_address(path: Path) -> str:
    """Where a tier serves /metrics over HTTP; empty where its log does not say."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            for line in islice(file, _NUM_FIRST_LINES):
                if match := _ADMIN.search(_ANSI.sub("", line)):
                    return match[1]
    except OSError:
        pass
    return ""


def read_last_lines(path: Path) -> list[str]:
    """The last lines of a log; none where there is no log."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            lines = deque(file, maxlen=_NUM_LAST_LINES)
    except OSError:
        return []
    return [_ANSI.sub("", line.rstrip("\n")) for line in lines]


def find_cause(lines: list[str]) -> str:
    """What a tier said of why it cannot start; empty where it did not say."""
    for line in reversed(lines):
        if match := _FAILED.search(line):
            detail = match["detail"]
            return str(ast.literal_eval(detail)) if detail[0] in "'\"" else detail
        if match := _REFUSED.match(line):
            return match["complaint"]
    return ""
