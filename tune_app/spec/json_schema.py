"""The schema of specs for editors: JSON Schema (draft 2020-12), with the short forms and units that are read."""

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel

from search_spaces.presets import PRESETS
from search_spaces.space import FIELDS, TOGETHER
from trainables.config.written import POINTS, SHARE, SIZE
from trainables.registry import Registry
from trainables.results import METRICS
from tune_app.spec.experiment import ExperimentSpec
from tune_app.spec.trackers import KINDS

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
COLUMN: Schema = {"enum": sorted(METRICS)}
SHORT: dict[str, Schema] = {
    "sampler": TEXT,
    "budget": {"type": "integer"},
    "repeats": {"type": "integer"},
    "constraints": TEXT,
    "objectives": {"anyOf": [COLUMN, {"type": "array", "items": COLUMN}]},
    "tracking": {"anyOf": [{"enum": sorted(KINDS)}, {"type": "array", "items": TEXT}, {"type": "object"}]},
}
"""What the keys of a spec take beside their long forms."""


def spec_schema() -> Schema:
    """Returns the schema. What it refuses, `tune-app validate` refuses too; that knows more rules than a schema can."""
    schema = ExperimentSpec.model_json_schema()
    parts: dict[str, Schema] = {"": schema, **schema["$defs"]}
    for model in set(_models_in(ExperimentSpec)):
        properties = parts["" if model is ExperimentSpec else model.__name__].get("properties", {})
        for name, field in model.model_fields.items():
            place = field.alias or name
            if any(unit in field.metadata for unit in (SIZE, SHARE, POINTS)):
                _widen(properties, place, TEXT)
            for registry in (mark for mark in field.metadata if isinstance(mark, Registry)):
                _widen(properties, place, {"enum": registry.names()})
    for name, form in SHORT.items():
        _widen(schema["properties"], name, form)
    space = parts["SearchSpace"].pop("additionalProperties")
    parts["SearchSpace"].update(properties=dict.fromkeys((*FIELDS, *TOGETHER), space), additionalProperties=False)
    _widen(schema["$defs"], "SearchSpace", {"enum": list(PRESETS)})
    _widen(schema["$defs"], "Constraint", TEXT)
    _widen(parts["DataConfig"]["properties"], "val_fraction", {"type": "number"})
    parts["StageConfig"]["additionalProperties"] = True  # of a package that is installed
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "A spec of tune-app"}


def _widen(properties: dict[str, Schema], name: str, form: Schema) -> None:
    """Lets a property take another form too; what describes it stays."""
    before = properties.get(name, {"description": "older spelling"})
    about: Schema = {key: before[key] for key in ("description", "default", "title") if key in before}
    properties[name] = about | {"anyOf": [{key: part for key, part in before.items() if key not in about}, form]}


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yields a model and those that its fields are made of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for field in annotation.model_fields.values():
            yield from _models_in(field.annotation)
    for part in get_args(annotation):
        yield from _models_in(part)
