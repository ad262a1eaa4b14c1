"""Preset search spaces for people: all of them in a table, or one as YAML to copy into a spec."""

import difflib
import io
import json as json_text
from typing import Any

from search_spaces.presets import PRESETS, Preset
from search_spaces.space import SearchSpace
from trainables.errors import ConfigError


def describe() -> list[dict[str, Any]]:
    """Name, number of points, parameters, the parts of `base` that it needs, and what it is for, of each preset."""
    return [_row(name, preset) for name, preset in PRESETS.items()]


def as_yaml(name: str) -> str:
    """A preset as the `space` of a spec.

    Raises:
        ConfigError: there is no preset of that name.
    """
    if name not in PRESETS:
        close = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(PRESETS)}."
        raise ConfigError(f"unknown space {name!r}; {hint}")
    preset = PRESETS[name]
    lines = [f"# {preset.description}; base needs {', '.join(preset.needs)}", "space:"]
    lines += [f"  {parameter}: {_flow(values)}" for parameter, values in preset.space.items()]
    return "\n".join(lines) + "\n"


def print_spaces(name: str, *, json: bool) -> None:
    """The table of all presets, or one preset as YAML; with `json` their rows.

    Raises:
        ConfigError: there is no preset of that name.
    """
    if json:
        rows = [row for row in describe() if name in ("", row["name"])]
        if not rows:
            as_yaml(name)
        print(json_text.dumps(rows, indent=1))
    elif name:
        print(as_yaml(name), end="")
    else:
        _print_table(describe())


def _row(name: str, preset: Preset) -> dict[str, Any]:
    space = SearchSpace.model_validate(name)
    return {
        "name": name,
        "points": space.size,
        "parameters": list(space.root),
        "needs": list(preset.needs),
        "description": preset.description,
        "space": preset.space,
    }


def _flow(values: Any) -> str:
    """In one line of YAML."""
    from ruamel.yaml import YAML

    writer, stream = YAML(typ="safe"), io.StringIO()
    writer.default_flow_style, writer.width = True, 1_000
    writer.dump(values, stream)
    return stream.getvalue().strip()


def _print_table(rows: list[dict[str, Any]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=0)
    for head in ("space", "points", "parameters", "what for"):
        table.add_column(head, justify="right" if head == "points" else "left")
    for row in rows:
        table.add_row(row["name"], f"{row['points']:,}", ", ".join(row["parameters"]), row["description"])
    Console(highlight=False).print(table)
