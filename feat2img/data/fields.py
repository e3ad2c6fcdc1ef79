"""Values of a settings class, checked against the types that its fields declare."""

import math
from dataclasses import fields
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin


def check_fields(settings: Any) -> None:
    """Raises ValueError for the first field of a dataclass instance whose value is not of the declared type.

    A whole number counts as float, a list as tuple; NaN and infinity count as no number. What a `Literal` allows is
    left to the class.
    """
    for field in fields(settings):
        value = getattr(settings, field.name)
        if not _fits(value, field.type):
            raise ValueError(f"{field.name} is {value!r}; expected {_shown(field.type)}")


def _fits(value: Any, kind: Any) -> bool:
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        return any(_fits(value, part) for part in get_args(kind))
    if origin is Literal:
        return isinstance(value, str)
    if origin is tuple:
        return isinstance(value, tuple | list) and all(_fits(item, get_args(kind)[0]) for item in value)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, kind) and not (kind is int and isinstance(value, bool))


def _shown(kind: Any) -> str:
    names = {int: "a whole number", float: "a number", str: "a text", bool: "True or False", NoneType: "None"}
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(_shown(part) for part in get_args(kind))
    if get_origin(kind) is tuple:
        return f"a tuple, each {_shown(get_args(kind)[0])}"
    return names.get(kind, "a text")
