"""Dataclasses to plain JSON data and back. A missing value is missing: non-finite floats become None.

What it does not do: know any particular record (records.py), or write a file.
"""

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Mapping
from typing import Any


def to_json(value: Any) -> Any:
    """A dataclass as plain JSON data; non-finite floats become None (a missing value is missing)."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): to_json(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def from_json(cls: type, data: Any) -> Any:
    """The inverse of `to_json` for the dataclasses of this file; unknown keys are ignored, missing ones default."""
    if data is None:
        return None
    if dataclasses.is_dataclass(cls):
        hints = _hints(cls)
        return cls(
            **{
                f.name: from_json(hints[f.name], data[f.name])
                for f in dataclasses.fields(cls)
                if f.name in data
            }
        )
    origin, args = typing.get_origin(cls), typing.get_args(cls)
    if origin in (typing.Union, types.UnionType):
        inner = [a for a in args if a is not type(None)]
        return from_json(inner[0], data) if len(inner) == 1 else data
    if origin is tuple:
        if len(args) == 2 and args[1] is Ellipsis:
            if args[0] in (int, str):
                return tuple(data)
            if args[0] is float:  # 100 returns of each of 5,000 runs: no call per number
                return tuple(float(v) if type(v) is int else v for v in data)
            return tuple(from_json(args[0], item) for item in data)
        return tuple(from_json(a, item) for a, item in zip(args, data, strict=True))
    if cls is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    return data


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)
