"""Strict validation of manifests: a field that the schemas do not name is refused."""

import json
from functools import cache
from pathlib import Path

import jsonschema
import kubernetes_validate

from tests.deployment.manifests import Manifest, name_of

KUBERNETES = "1.37"
_CUSTOM = Path(__file__).with_name("schemas")  # README.md there says where they are from


class InvalidManifestError(Exception):
    """A manifest does not fit the schema of its kind, or there is none."""


def validate(manifest: Manifest) -> None:
    """Holds a manifest against the schema of its kind.

    Raises:
        InvalidManifestError: it does not fit, or its kind has no schema here.
    """
    _validate(json.dumps(manifest, sort_keys=True))


@cache  # components share the base
def _validate(text: str) -> None:
    manifest = json.loads(text)
    try:
        if (schema := _custom_schema(manifest["kind"])) is not None:
            schema.validate(manifest)
        else:
            kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    except (
        jsonschema.ValidationError,
        kubernetes_validate.ValidationError,
        kubernetes_validate.SchemaNotFoundError,
    ) as error:
        raise InvalidManifestError(f"{name_of(manifest)}: {error}") from error


@cache
def _custom_schema(kind: str) -> jsonschema.Draft7Validator | None:
    path = _CUSTOM / f"{kind}.json"
    return jsonschema.Draft7Validator(json.loads(path.read_text())) if path.exists() else None
