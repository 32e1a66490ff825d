"""The commands of `forethought keys`."""

import json
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from forethought.cli.failure import print_failure
from forethought.cli.generate.prompt_input import check_unicode
from forethought.cli.views.tokens import harmless
from forethought.errors import KeyFileError
from forethought.keys.key_file import MAX_TENANT_CHARS, ApiKey, make_key, read_keys, write_keys

_FAILED = 1

app = typer.Typer(
    name="keys",
    help="The API keys of a deployment, in the file that the orchestrator reads by --api-keys. "
    "What changes there counts within a second.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

File = Annotated[
    Path,
    typer.Option(
        envvar="FORETHOUGHT_API_KEYS",
        metavar="FILE",
        dir_okay=False,
        help="The file of keys. It holds a hash of each.",
    ),
]
Tenant = Annotated[
    str,
    typer.Option(metavar="NAME", help="On whose behalf calls are that show the key."),
]
RequestsPerMinute = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Most calls a minute.", show_default="any")
]
TokensPerMinute = Annotated[
    int | None,
    typer.Option(
        min=1, metavar="N", help="Most tokens a minute, of prompts and answers.", show_default="any"
    ),
]
MaxConcurrent = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Most calls at a time.", show_default="any")
]
Statistics = Annotated[
    bool,
    typer.Option("--statistics", help="Let it read how the deployment does: forethought doctor."),
]
KeyId = Annotated[str, typer.Argument(metavar="ID", help="As `forethought keys list` shows it.")]
AsJson = Annotated[bool, typer.Option("--json", help="A JSON object a line.")]

_DEFAULT_FILE = Path("forethought-keys.json")


@app.command()
def add(
    *,
    tenant: Tenant,
    file: File = _DEFAULT_FILE,
    requests_per_minute: RequestsPerMinute = None,
    tokens_per_minute: TokensPerMinute = None,
    max_concurrent: MaxConcurrent = None,
    statistics: Statistics = False,
) -> None:
    """Make a key, and print it: it is shown this once, and kept nowhere.

    Example: `forethought keys add --tenant alice --requests-per-minute 60`
    """
    check_unicode(tenant, "--tenant")
    if len(tenant) > MAX_TENANT_CHARS:
        raise typer.BadParameter(
            f"has more than {MAX_TENANT_CHARS} characters", param_hint="--tenant"
        )
    secret, key = make_key(
        tenant,
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
        max_concurrent=max_concurrent,
        reads_statistics=statistics,
    )
    try:
        write_keys(file, (*(read_keys(file).keys if file.exists() else ()), key))
    except KeyFileError as error:
        _fail(error)
    print(secret)
    Console(stderr=True).print(f"Key {key.id} is in {file}.", style="dim", highlight=False)


@app.command("list")
def list_keys(*, file: File = _DEFAULT_FILE, as_json: AsJson = False) -> None:
    """List all keys, by their ids and without what is secret."""
    keys = _read(file)
    if as_json:
        for key in keys:
            print(json.dumps(key.model_dump(exclude={"sha256"})))
        return
    table = Table("id", "tenant", "requests/min", "tokens/min", "at a time", "statistics", "made")
    for key in keys:
        limits = (key.requests_per_minute, key.tokens_per_minute, key.max_concurrent)
        table.add_row(
            key.id,
            harmless(key.tenant),
            *("any" if limit is None else str(limit) for limit in limits),
            "yes" if key.reads_statistics else "no",
            key.created[:10],
        )
    Console().print(table)


@app.command()
def revoke(key_id: KeyId, *, file: File = _DEFAULT_FILE) -> None:
    """Take a key out of the file: calls that show it are refused within a second."""
    keys = _read(file)
    left = tuple(key for key in keys if key.id != key_id)
    if len(left) == len(keys):
        print_failure(
            Console(stderr=True), f"{file} has no key {key_id!r}", "see forethought keys list"
        )
        raise typer.Exit(_FAILED)
    try:
        write_keys(file, left)
    except KeyFileError as error:
        _fail(error)
    Console(stderr=True).print(f"Key {key_id} is revoked.", style="dim", highlight=False)


def _read(file: Path) -> tuple[ApiKey, ...]:
    try:
        return read_keys(file).keys
    except KeyFileError as error:
        _fail(error)


def _fail(error: KeyFileError) -> NoReturn:
    print_failure(Console(stderr=True), error.message)
    raise typer.Exit(_FAILED) from error
