"""Options that several commands share, and what is made of them."""

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

Option = tuple[Any, Any]
"""Its annotation for typer, and its default."""


def with_options(
    command: Callable[..., None],
    parameter: str,
    options: Mapping[str, Option],
    make: Callable[..., Any],
) -> Callable[..., None]:
    """The command with options in place of one of its parameters.

    Args:
        command: a function with typer's annotations.
        parameter: that stands for the options.
        options: by their names.
        make: the argument for the parameter, from all options by name.
    """

    @wraps(command)
    def run(**given: Any) -> None:
        chosen = {name: given.pop(name) for name in options}
        command(**given, **{parameter: make(**chosen)})

    signature = inspect.signature(command, eval_str=True)
    parameters: list[inspect.Parameter] = []
    for each in signature.parameters.values():
        if each.name != parameter:
            parameters.append(each)
            continue
        parameters += [
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
            )
            for name, (annotation, default) in options.items()
        ]
    run.__dict__["__signature__"] = signature.replace(parameters=parameters)
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run
