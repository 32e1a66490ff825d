"""Tables and JSON documents, the same for each benchmark."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Generic, TextIO, TypeVar

from rich.box import SIMPLE_HEAD
from rich.console import Console, JustifyMethod
from rich.table import Table

from forethought.bench.machine import Machine

R = TypeVar("R")

_FILE_WIDTH = 200  # columns; tables take what they need


@dataclass(frozen=True, slots=True)
class Column(Generic[R]):
    """A column of a table over rows of type `R`."""

    title: str
    cell: Callable[[R], str]
    is_number: bool = True  # to the right


def build_table(columns: Sequence[Column[R]], rows: Iterable[R]) -> Table:
    """A table with a line for each row."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=0)
    for column in columns:
        justify: JustifyMethod = "right" if column.is_number else "left"
        table.add_column(column.title, justify=justify, no_wrap=True)
    for row in rows:
        table.add_row(*(column.cell(row) for column in columns))
    return table


def print_table(table: Table) -> None:
    """Prints to stdout. In a file nothing is cut off, however narrow the terminal is."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_FILE_WIDTH)
    console.print(table)


def write_document(
    out: TextIO,
    benchmark: str,
    machine: Machine,
    settings: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    **results: Any,
) -> None:
    """One JSON document: what was measured, on what, how, and the numbers; with further `results`
    that are none of a row.

    Units are in the names: `_ms` is milliseconds, `_s` seconds. What does not apply is null.
    """
    document = {
        "benchmark": benchmark,
        "machine": asdict(machine),
        "settings": dict(settings),
        "rows": list(rows),
        **results,
    }
    json.dump(document, out, indent=2, ensure_ascii=False, default=str)
    out.write("\n")


def number(value: float | None, digits: int = 1) -> str:
    """A number for a table; nothing for None."""
    return "" if value is None else f"{value:,.{digits}f}"


def percent(value: float | None) -> str:
    """A share of 1 as a percentage; nothing for None."""
    return "" if value is None else f"{value:.0%}"


def times(value: float | None) -> str:
    """A ratio, such as 1.25x; nothing for None."""
    return "" if value is None else f"{value:.2f}x"
