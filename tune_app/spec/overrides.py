"""Parts of a spec from a command line: `base.seed=1` sets a key, `w_bits=4,a_bits=8` is a point."""

from collections.abc import Iterable
from typing import Any

from pydantic import TypeAdapter
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from search_spaces.parameters import Value
from trainables.errors import ConfigError

POINT_VALUE: TypeAdapter[Value] = TypeAdapter(Value)


def with_settings(content: dict[str, Any], settings: Iterable[str]) -> dict[str, Any]:
    """Returns the content of a spec with settings such as `base.quantize.schedule.epochs=20`, the last one last.

    A value is YAML: `space.w_bits=[2, 4]`. Mappings on the way to a key are made where they are missing.

    Raises:
        ConfigError: a setting is not KEY=VALUE, or its key lies in something that is no mapping.
    """
    for setting in settings:
        key, value = _pair(setting, "--set", "budget.trials=30")
        *parents, name = key.split(".")
        content = inner = dict(content)
        for i, parent in enumerate(parents):
            found = inner.get(parent)
            if found is not None and not isinstance(found, dict):
                there = ".".join(parents[: i + 1])
                raise ConfigError(f"--set {key}: {there} is {found!r} in the spec, no mapping: set {there} itself.")
            inner[parent] = inner = dict(found or {})
        inner[name] = value
    return content


def read_point(text: str) -> dict[str, Value]:
    """Reads a point as a command line has it: `prune_frac=0.3,w_bits=4,a_bits=8`.

    Raises:
        ConfigError: a part is not NAME=VALUE, a value is neither a number nor text, or a name stands twice.
    """
    point: dict[str, Value] = {}
    for part in text.split(","):
        name, value = _pair(part, "--point", "w_bits=4,a_bits=8")
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ConfigError(f"--point: {name} is a number or text, but got {part!r}: write {name}=4.")
        if name in point:
            raise ConfigError(f"--point: {name} stands twice: keep one.")
        point[name] = POINT_VALUE.validate_python(value)
    return point


def _pair(text: str, option: str, example: str) -> tuple[str, Any]:
    """Splits KEY=VALUE at the first sign of equality, and reads the value as YAML."""
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not all(key.split(".")):
        raise ConfigError(f"{option} takes {example}, but got {text!r}.")
    try:
        return key, YAML(typ="safe", pure=True).load(value)
    except (YAMLError, ValueError, LookupError, RecursionError) as err:
        raise ConfigError(f"{option} {key}: {value!r} is not readable as YAML: write {example}.") from err
