"""Writes docs/spec.md, the reference of the spec, and docs/spec.schema.json, from the schema that checks specs.

`python docs/reference.py` renews the page; `make docs` does so too, and a test fails when it is behind.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from search_spaces.presets import PRESETS
from search_spaces.samplers import SAMPLERS
from search_spaces.space import FIELDS, TOGETHER
from trainables.config import ALIASES, DATASETS, GROUPS, IMPORTANCE, MODELS, OBSERVERS, QUANTIZERS, SPARSITY
from trainables.registry import Registry
from trainables.results import METRICS
from tune_app.spec.experiment import ExperimentSpec
from tune_app.spec.json_schema import spec_schema

PAGE, SCHEMA = Path(__file__).parent / "spec.md", Path(__file__).parent / "spec.schema.json"
ROOT = "ExperimentSpec"
Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
SIGNS = {
    **{"minimum": "≥", "ge": "≥", "exclusiveMinimum": ">", "maximum": "≤", "le": "≤", "exclusiveMaximum": "<"},
    **{"minItems": "at least", "minProperties": "at least", "maxItems": "at most", "maxProperties": "at most"},
}

TITLES = {
    ROOT: "The spec",
    "Schedule": "A schedule",
    "Distillation": "A schedule's distill",
    "ModelConfig": "A model",
    "Constraint": "A constraint",
    "Range": "A range of values",
    "Choices": "A list of values",
    "Conditional": "Values under a condition",
}
"""Headings of what stands at several places; the others are headed by their place."""
NAMES = {
    ("DataConfig", "name"): DATASETS,
    ("ModelConfig", "name"): MODELS,
    ("ChannelPrune", "importance"): IMPORTANCE,
    ("Sparsify", "criterion"): SPARSITY,
    ("QuantScheme", "quantizer"): QUANTIZERS,
    ("QuantScheme", "observer"): OBSERVERS,
    ("QuantScheme", "activation_observer"): OBSERVERS,
    ("SamplerConfig", "name"): SAMPLERS,
}
"""Fields whose legal values are the names in a registry."""
EXAMPLES: dict[str, str] = YAML(typ="safe").load(Path(__file__).parent / "spec_examples.yaml")
"""Lines of a spec, from its root, by the model that they show."""
INTRO = """# The spec, key by key

A search is one YAML file. This page is written from the schema that checks the file (`python docs/reference.py`): a
key that is not here is refused, and so is a value out of its bounds. Keys without a default are required. The examples
are lines of a spec, from its root.
[The demo's spec](../tune_app/cli/demo.yaml) is a complete example.

Short forms are read too: `sampler: grid`, `budget: 30`, `repeats: 3`, one constraint without a list, objectives as a
list of columns. Numbers may have units where they mean something: `95 %` for a share, `1pp` for a difference of two
shares, `50KB` for bytes; the values of a space may have them too.

Editors that know the YAML language server complete keys and explain them: the first line of a spec names
[the schema](spec.schema.json), `# yaml-language-server: $schema=spec.schema.json`, as those in `examples/` do.
`tune-app schema` prints it.

Relative paths start at the working directory. What decides the meaning of results (`base`, and what the rungs are)
may not change once an experiment has begun; the rest may: [how to go on](how-to/resume.md).
"""
NOTES = {
    "Constraint": "Columns that may have a bound, or be objectives: "
    + ", ".join(f"`{name}`" for name in METRICS)
    + ". [What they mean](columns.md).",
    "WandbConfig": "`tracking: wandb` is short for `tracking: [{kind: wandb}]`.",
}


def page() -> str:
    """The whole page."""
    schema = ExperimentSpec.model_json_schema()
    models = {ROOT: schema, **schema["$defs"]}
    shown = _Shown(models, _titles(models, _alternatives(schema)), _alternatives(schema))
    return "\n".join([INTRO, *(_section(name, shown) for name in shown.titles)])


def schema_text() -> str:
    """The schema for editors, as a file."""
    return json.dumps(spec_schema(), indent=1) + "\n"


def undescribed() -> list[str]:
    """Fields that say nothing of themselves: no description, no section of their own, no fixed value."""
    schema = ExperimentSpec.model_json_schema()
    return [
        f"{name}.{field}"
        for name, model in {ROOT: schema, **schema["$defs"]}.items()
        for field, content in model.get("properties", {}).items()
        if "description" not in content and "const" not in content and not list(_models_in(content))
    ]


@dataclass(frozen=True)
class _Shown:
    """The models by name, their headings in reading order, and which of them a key `kind` chooses."""

    models: dict[str, Schema]
    titles: dict[str, str]
    alternatives: set[str]

    def link(self, name: str) -> str:
        label = f"kind `{_kind(self.models[name])}`" if name in self.alternatives else self.titles[name].lower()
        return f"[{label}](#{anchor(self.titles[name])})"


def _alternatives(content: Any) -> set[str]:
    """Models that are told apart by their `kind`."""
    parts = content.values() if isinstance(content, dict) else content if isinstance(content, list) else ()
    found = {name for part in parts for name in _alternatives(part)}
    return found | set(_models_in(content)) if isinstance(content, dict) and "discriminator" in content else found


def _titles(models: dict[str, Schema], alternatives: set[str]) -> dict[str, str]:
    """What a key is made of follows the section that has the key."""
    places: dict[str, list[str]] = defaultdict(list)
    _walk(ROOT, "", models, places)
    kinds = {name: f", kind `{_kind(models[name])}`" for name in alternatives}
    headings = {n: " and ".join(f"`{place}`" for place in found) + kinds.get(n, "") for n, found in places.items()}
    return {name: TITLES.get(name) or heading for name, heading in headings.items()}


def _walk(name: str, place: str, models: dict[str, Schema], places: dict[str, list[str]]) -> None:
    if place in places[name]:
        return
    places[name].append(place)
    inside = "" if name in TITLES and name != ROOT else place
    for field, content in models[name].get("properties", {}).items():
        for part in _models_in(content):
            _walk(part, f"{inside}.{field}".lstrip("."), models, places)
    for part in _models_in(models[name].get("additionalProperties", {})):
        _walk(part, place, models, places)


def _kind(model: Schema) -> str:
    return str(model["properties"]["kind"]["const"])


def _models_in(content: Any) -> Iterator[str]:
    """Names of the models that a piece of schema refers to."""
    if isinstance(content, dict):
        if "$ref" in content:
            yield content["$ref"].rpartition("/")[2]
        for key in ("anyOf", "oneOf", "items", "additionalProperties"):
            yield from _models_in(content.get(key))
    elif isinstance(content, list):
        for part in content:
            yield from _models_in(part)


def _section(name: str, shown: _Shown) -> str:
    """One heading with its words and its table."""
    model = shown.models[name]
    words = [] if name == ROOT else [_paragraphs(model.get("description", ""))]
    words += [NOTES[name]] if name in NOTES else []
    words += _space_words() if name == "SearchSpace" else []
    words += [f"```yaml\n{EXAMPLES[name]}```"] if name in EXAMPLES else []
    rows = [_row(name, field, content, shown) for field, content in model.get("properties", {}).items()]
    table = ["| key | value | default | what it is |", "|---|---|---|---|", *rows, ""] if rows else []
    return "\n".join([f"## {shown.titles[name]}", "", *(line for word in words for line in (word, "")), *table])


def _row(name: str, field: str, content: Schema, shown: _Shown) -> str:
    value = _type(content, shown, NAMES.get((name, field)))
    required = field in shown.models[name].get("required", ()) or (field == "kind" and name in shown.alternatives)
    default = "" if required else _default(content)
    return f"| `{field}` | {value} | {default} | {_words(content, shown)} |"


def _paragraphs(docstring: str) -> str:
    """A docstring, each paragraph on a line."""
    return "\n\n".join(" ".join(part.split()) for part in docstring.split("\n\n"))


def _space_words() -> list[str]:
    fields = [f"| `{name}` | `base.{'.'.join(path)}` |" for name, path in FIELDS.items() if "." not in name]
    groups = ", ".join(f"`{group}`" for group in GROUPS)
    wider = "; ".join(f"`{name}` stands for {', '.join(parts)}" for name, parts in ALIASES.items())
    whole = "; ".join(f"`{name}` sets {', '.join(parts)}" for name, parts in TOGETHER.items())
    return [
        "Each parameter has a [range](#a-range-of-values), a [list](#a-list-of-values) or a "
        "[condition](#values-under-a-condition).",
        f"Spaces that have a name: {', '.join(f'`{name}`' for name in PRESETS)} (`tune-app spaces NAME` prints one).",
        "\n".join(["| parameter | changes |", "|---|---|", *fields]),
        f"`w_bits.GROUP` and `a_bits.GROUP` set the bits of one group of layers: {groups}; {wider}. {whole}.",
    ]


def _type(content: Schema, shown: _Shown, names: Registry[Any] | None = None) -> str:
    """What may stand there, with its bounds."""
    if names is not None:
        return ", ".join(f"`{name}`" for name in names.names()) + (" or null" if "anyOf" in content else "")
    if "$ref" in content:
        return shown.link(content["$ref"].rpartition("/")[2])
    if "const" in content:
        return f"`{content['const']}`"
    if "enum" in content:
        return ", ".join(f"`{value}`" for value in content["enum"])
    parts = content.get("anyOf") or content.get("oneOf")
    if parts:
        kinds = list(dict.fromkeys(_type(part, shown) for part in parts))
        return " or ".join(kind for kind in kinds if kind != "integer" or "number" not in kinds) + _bounds(content)
    if "prefixItems" in content:
        return f"list of {' and '.join(_type(part, shown) for part in content['prefixItems'])}"
    if content["type"] == "array":
        return f"list{_bounds(content)} of {_type(content['items'], shown)}"
    if content["type"] == "object":
        values = content.get("additionalProperties") or TEXT
        return f"mapping{_bounds(content)} of names to {'values' if values is True else _type(values, shown)}"
    plain = {"boolean": "true or false", "string": "text"}.get(content["type"]) or content["type"]
    return f"{plain}{_bounds(content)}"


def _bounds(content: Schema) -> str:
    found = [f"{sign} {_number(content[key])}" for key, sign in SIGNS.items() if key in content]
    if "pattern" in content:
        found.append("matches `" + content["pattern"].replace("|", "\\|") + "`")
    return f" ({', '.join(found)})" if found else ""


def _number(value: float) -> str:
    return f"{int(value):,}" if value == int(value) else f"{value:g}"


def _default(content: Schema) -> str:
    value = content.get("default")
    return "its own" if isinstance(value, dict) and list(_models_in(content)) else f"`{json.dumps(value)}`"


def _words(content: Schema, shown: _Shown) -> str:
    """Of the field; where it says nothing, the first sentence of the one model that it holds."""
    models = list(_models_in(content))
    text: str = content.get("description", "")
    if not text and len(models) == 1 and models[0] not in shown.alternatives:
        first = _paragraphs(shown.models[models[0]]["description"]).partition("\n")[0]
        text = first.partition(". ")[0].rstrip(".")
        text = text if _begins_with_a_name(text) else text[0].lower() + text[1:]
    return text.replace("|", "\\|").replace("<", "&lt;")


def _begins_with_a_name(text: str) -> bool:
    """Whether the capital at the start is a name's: EC2, or Compute Engine, whose next word has one too."""
    first, _, rest = text.partition(" ")
    return first != first.capitalize() or (len(first) > 3 and rest[:1].isupper())


def anchor(title: str) -> str:
    """The fragment that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


if __name__ == "__main__":
    PAGE.write_text(page())
    SCHEMA.write_text(schema_text())
    print(PAGE, SCHEMA, sep="\n")
