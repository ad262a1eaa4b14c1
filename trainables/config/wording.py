"""Wording: what is wrong with a value of a configuration, in words (torch-free)."""

from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

Problem = Mapping[str, Any]
"""One of the `errors()` of a pydantic ValidationError."""
QUOTED = "this is a {} in YAML; put it in quotes to have the text"


def in_words(problem: Problem) -> str:
    """Says the rule that a value breaks, as a clause: `must be at least 1`."""
    say = WORDS.get(problem["type"])
    return say(problem) if say else str(problem["msg"]).removeprefix("Value error, ")


def _text(problem: Problem) -> str:
    value = problem["input"]
    kinds = {bool: "true or false", int: "number", float: "number", date: "date"}
    kind = next((name for of, name in kinds.items() if isinstance(value, of)), None)
    return "must be text" + (f": {QUOTED.format(kind)}" if kind else "")


def _always(words: str) -> Callable[[Problem], str]:
    return lambda _: words


def _bound(words: str, key: str) -> Callable[[Problem], str]:
    return lambda problem: f"must be {words} {_plain(problem['ctx'][key])}"


def _plain(number: float) -> str:
    return f"{int(number):,}" if number == int(number) else f"{number:g}"


def _length(problem: Problem) -> str:
    context = problem["ctx"]
    most, least = context.get("max_length"), context.get("min_length")
    return f"may have {most} entries at most" if least is None else f"must have at least {least} of them"


WORDS: dict[str, Callable[[Problem], str]] = {
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), _always("must be a whole number")),
    "int_parsing_size": _always("must be a smaller number"),
    **dict.fromkeys(("float_type", "float_parsing"), _always("must be a number")),
    "finite_number": _always("must be a finite number"),
    "string_type": _text,
    "string_too_short": lambda problem: f"must have {problem['ctx']['min_length']} characters at least",
    "string_too_long": lambda problem: f"may have {problem['ctx']['max_length']} characters at most",
    **dict.fromkeys(("bool_type", "bool_parsing"), _always("must be true or false")),
    **dict.fromkeys(("tuple_type", "list_type"), _always("must be a list: [a, b]")),
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), _always("must be a mapping: {key: value}")),
    **dict.fromkeys(("too_short", "too_long"), _length),
    "greater_than": _bound("more than", "gt"),
    "greater_than_equal": _bound("at least", "ge"),
    "less_than": _bound("less than", "lt"),
    "less_than_equal": _bound("at most", "le"),
    "literal_error": lambda problem: f"must be {problem['ctx']['expected']}",
}
"""By type of problem what to say of it; other types bring words of ours."""
