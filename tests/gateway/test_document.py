"""The OpenAPI document, and requests that are made from it: no answer contradicts it."""

import asyncio

import hypothesis
import pytest
import schemathesis
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
PATHS = (
    ("post", "/v1/chat/completions"),
    ("post", "/v1/completions"),
    ("post", "/v1/responses"),
    ("get", "/v1/responses/{response_id}"),
    ("delete", "/v1/responses/{response_id}"),
    ("post", "/v1/responses/{response_id}/cancel"),
    ("post", "/tokenize"),
    ("post", "/detokenize"),
    ("get", "/v1/models"),
    ("get", "/v1/models/{model}"),
    ("get", "/tokenizer_info"),
    ("get", "/version"),
    ("get", "/health"),
)
BODIES = {"/v1/chat/completions", "/v1/completions", "/v1/responses", "/tokenize", "/detokenize"}
SETTINGS = hypothesis.settings(
    max_examples=12,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_no_request_is_answered_otherwise_than_the_document_says(http, url, method, path):
    schema = schemathesis.openapi.from_dict((await http.get("/openapi.json")).json())
    operation = schema[path][method]
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
        if mode is GenerationMode.NEGATIVE and path not in BODIES:
            continue
        checks = [*CHECKS, negative_data_rejection] if mode is GenerationMode.NEGATIVE else CHECKS

        await asyncio.to_thread(_ask, url, operation.as_strategy(generation_mode=mode), checks)


def _ask(url, cases, checks):
    """Makes requests in a thread of its own: both libraries block."""

    @SETTINGS
    @hypothesis.given(cases)
    def ask(case):
        if isinstance(case.body, dict):
            case.body.pop("stream", None)  # a stream is no JSON
        case.validate_response(case.call(base_url=url, timeout=60), checks=checks)

    ask()


async def test_every_route_is_in_the_document(http):
    document = (await http.get("/openapi.json")).json()
    assert {(m, path) for path, methods in document["paths"].items() for m in methods} == set(PATHS)
