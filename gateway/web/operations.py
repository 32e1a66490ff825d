"""What the gateway can be asked, as one table: it is routed and described by it."""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from forethought import __version__
from gateway.web.body import OtherFields, RequestBody
from gateway.web.errors import ErrorBody

Endpoint = Callable[[Request], Awaitable[Response]]
_REF = "#/components/schemas/{name}"
_JSON = "application/json"
_BEARER = "bearer"
_REFUSALS: dict[str, dict[str, Any]] = {
    "401": {
        "description": "The API key is missing or not known",
        "headers": {"WWW-Authenticate": {"schema": {"const": "Bearer"}}},
    },
    "403": {"description": "The API key may not do this"},
    "429": {
        "description": "The API key has used what it may, or the deployment is full",
        "headers": {
            "Retry-After": {
                "description": "seconds until it may be tried again",
                "schema": {"type": "integer", "minimum": 1},
            }
        },
    },
}
"""Of callers, by status."""


@dataclass(frozen=True, slots=True)
class Body:
    """What a request holds."""

    kind: type[RequestBody]
    others: OtherFields


@dataclass(frozen=True, slots=True)
class Parameter:
    """A part of the query."""

    name: str
    schema: Mapping[str, Any]
    description: str


@dataclass(frozen=True, slots=True)
class Operation:
    """A method of a path."""

    method: str
    path: str  # as Starlette writes it
    endpoint: Endpoint
    summary: str
    body: Body | None = None
    answer: type[msgspec.Struct] | None = None
    event: type[msgspec.Struct] | None = None  # of a stream
    query: tuple[Parameter, ...] = ()
    is_for_callers: bool = True  # and not for everybody, with a key or without


def routes(operations: Iterable[Operation], for_callers: Sequence[Middleware]) -> list[Route]:
    """For Starlette, with what is around each operation that is for callers."""
    return [
        Route(
            each.path,
            each.endpoint,
            methods=[each.method],
            middleware=for_callers if each.is_for_callers else (),
        )
        for each in operations
    ]


def document(operations: Sequence[Operation], *, needs_key: bool) -> dict[str, Any]:
    """OpenAPI 3.1 of the operations.

    Args:
        operations: all of them.
        needs_key: whether those for callers want an API key, or mind none.
    """
    kinds: set[type[msgspec.Struct]] = {ErrorBody}
    for each in operations:
        kinds |= {kind for kind in (each.answer, each.event) if kind is not None}
        kinds |= {each.body.kind} if each.body is not None else set()
    ordered = sorted(kinds, key=str)
    schemas, components = msgspec.json.schema_components(ordered, ref_template=_REF)
    found = dict(zip(ordered, schemas, strict=True))
    paths: dict[str, Any] = {}
    for each in operations:
        if each.body is not None:
            name = found[each.body.kind]["$ref"].rpartition("/")[2]
            components[name] = _with_others(components[name], each.body.others)
        path = paths.setdefault(each.path.replace(":path}", "}"), {})
        path[each.method.lower()] = described = _described(each, found)
        if each.is_for_callers:
            described["security"] = [{_BEARER: []}] if needs_key else [{}, {_BEARER: []}]
            described["responses"] |= {
                status: {"$ref": f"#/components/responses/{status}"} for status in _REFUSALS
            }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Forethought", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": components,
            "responses": {
                status: refusal | _error(refusal["description"], found)
                for status, refusal in _REFUSALS.items()
            },
            "securitySchemes": {_BEARER: {"type": "http", "scheme": "bearer"}},
        },
    }


def _described(operation: Operation, schemas: Mapping[Any, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if operation.answer is not None:
        content[_JSON] = {"schema": schemas[operation.answer]}
    if operation.event is not None:
        content["text/event-stream"] = {"schema": schemas[operation.event]}
    answer: dict[str, Any] = {"description": "The answer"}
    if content:
        answer["content"] = content
    described: dict[str, Any] = {
        "summary": operation.summary,
        "responses": {"200": answer, "default": _error("An error", schemas)},
    }
    parameters: list[dict[str, Any]] = [
        {"name": each.name, "in": "query", "description": each.description, "schema": each.schema}
        for each in operation.query
    ]
    for name in _names_in(operation.path):
        kind = {"type": "string", "minLength": 1}
        parameters.append({"name": name, "in": "path", "required": True, "schema": kind})
    if parameters:
        described["parameters"] = parameters
    if operation.body is not None:
        schema = schemas[operation.body.kind]
        described["requestBody"] = {"required": True, "content": {_JSON: {"schema": schema}}}
    return described


def _error(description: str, schemas: Mapping[Any, Any]) -> dict[str, Any]:
    content = {_JSON: {"schema": schemas[ErrorBody]}}
    return {"description": description, "content": content}


def _names_in(path: str) -> list[str]:
    return [re.split("[:}]", part)[0] for part in path.split("{")[1:]]


def _with_others(schema: dict[str, Any], others: OtherFields) -> dict[str, Any]:
    """The schema of a body with the fields that it may have besides, and no others."""
    required = schema.get("required", [])
    properties: dict[str, Any] = {name: {} for name in others.harmless}
    properties |= {name: _one_of(values) for name, values in others.fixed.items()}
    properties |= {
        name: each if name in required else _or_null(each)
        for name, each in schema["properties"].items()
    }
    return {**schema, "properties": properties, "additionalProperties": False}


def _one_of(values: Iterable[Any]) -> dict[str, Any]:
    """Each of them; what an object has besides is null, and so as good as absent."""
    kinds: list[dict[str, Any]] = [{"type": "null"}]
    for each in values:
        kinds.append({"const": each})
        if isinstance(each, dict):
            properties = {name: {"const": value} for name, value in each.items()}
            kinds[-1] = {
                "type": "object",
                "properties": properties,
                "required": list(properties),
                "additionalProperties": {"type": "null"},
            }
    return {"anyOf": kinds}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    given = schema.get("anyOf", [schema])
    return {"anyOf": [*given, *([] if {"type": "null"} in given else [{"type": "null"}])]}
