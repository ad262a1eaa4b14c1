"""Frozen: the base of every value that comes from a file (torch-free)."""

from functools import cache
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict, model_validator

MAY_HOLD_FLAGS = {bool, list, tuple, dict}
"""The types of values that are flags or may hold them: a value of any other type needs no look."""


class Frozen(BaseModel):
    """A value that never changes; it refuses unknown keys, NaN, and `true` where a number is meant."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_flag_for_a_number(cls, content: Any) -> Any:
        if isinstance(content, dict):
            for name, value in content.items():
                if type(value) in MAY_HOLD_FLAGS and name in _numbers(cls):
                    refuse_flags(value, name)
        return content


def refuse_flags(value: Any, name: str) -> None:
    """Raises ValueError where a value is a flag, or a list or mapping that holds one: Python would count it as 1."""
    if value is True or value is False:
        raise ValueError(f"{name} must be a number, but got {str(value).lower()}")
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    for part in parts:
        refuse_flags(part, name)


@cache
def _numbers(model: type[BaseModel]) -> frozenset[str]:
    """Returns the fields of a model that are numbers, or lists or mappings of them, and take no flag."""
    parts = {field.alias or name: set(_leaves(field.annotation)) for name, field in model.model_fields.items()}
    return frozenset(name for name, leaves in parts.items() if leaves & {int, float} and not leaves & {bool, Any})


def _leaves(annotation: Any) -> list[Any]:
    """Returns the types that an annotation is made of; a model within it checks its own fields."""
    inside = get_args(annotation)[:1] if get_origin(annotation) is Annotated else get_args(annotation)
    if not inside:
        model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
        return [Any if model else bool if isinstance(annotation, bool) else annotation]
    return [leaf for part in inside for leaf in _leaves(part)]
