"""Checks a manifest against the schema of a custom resource, unknown properties included."""

import functools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

FOLDER = Path(os.environ.get("TUNE_APP_KUBERAY") or Path(__file__).parents[3] / "shared/data/kuberay")
OBJECT_META = {"name", "namespace", "labels", "annotations"}


@functools.cache
def schema_of(kind: str) -> dict[str, Any]:
    """KubeRay's schema of a kind; the test is skipped where it is not stored."""
    path = FOLDER / f"ray.io_v1_{kind}.schema.json"
    if not path.is_file():
        pytest.skip(f"{path} is not here: name the folder of KubeRay's schemas in TUNE_APP_KUBERAY")
    return json.loads(path.read_text())


def check_manifest(manifest: dict[str, Any]) -> None:
    """Fails on a wrong value, and on a property that Kubernetes would silently drop."""
    schema = schema_of(manifest["kind"])
    _validator(manifest["kind"]).validate(manifest)
    body = {key: value for key, value in manifest.items() if key != "metadata"}
    dropped = [*unknown(body, schema)]
    assert not dropped, f"unknown properties, which Kubernetes would drop: {dropped}"
    assert manifest["metadata"].keys() <= OBJECT_META


def unknown(value: Any, schema: dict[str, Any], place: str = "") -> Iterator[str]:
    """Places of properties that the schema does not name."""
    if isinstance(value, dict):
        known, others = schema.get("properties", {}), schema.get("additionalProperties")
        free = schema.get("x-kubernetes-preserve-unknown-fields", False)
        for key, inner in value.items():
            where = f"{place}.{key}".lstrip(".")
            if key in known or isinstance(others, dict):
                yield from unknown(inner, known.get(key, others), where)
            elif not free:
                yield where
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from unknown(inner, schema.get("items", {}), f"{place}.{i}")


@functools.cache
def _validator(kind: str) -> jsonschema.Draft7Validator:
    return jsonschema.Draft7Validator(schema_of(kind))
