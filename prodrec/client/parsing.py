"""JSON to values: members that a newer server adds are passed over, those with a default may be missing."""

import base64
import dataclasses
import types
import typing
from datetime import datetime
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")


def parse(kind: type[T], value: object) -> T:
    """Makes a value of JSON.

    Args:
        kind: a class of `prodrec.client.answers`.

    Raises:
        ValueError: `value` has another form; the message says where.
    """
    made: T = _parse(kind, value, "")
    return made


def _parse(kind: Any, value: Any, where: str) -> Any:
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind):
        return _parse_members(kind, value, where)
    match typing.get_origin(kind):
        case types.UnionType:
            return _parse_either(typing.get_args(kind), value, where)
        case origin if origin is tuple:
            return _parse_items(typing.get_args(kind), value, where)
        case origin if origin is dict:
            of = typing.get_args(kind)[1]
            return {name: _parse(of, item, f"{where}.{name}") for name, item in _checked(dict, value, where).items()}
    return _parse_scalar(kind, value, where)


def _parse_members(kind: Any, value: Any, where: str) -> Any:
    tree = _checked(dict, value, where)
    members = {name: _parse(of, tree[name], f"{where}.{name}") for name, of in _members(kind).items() if name in tree}
    try:
        return kind(**members)
    except TypeError as error:
        raise ValueError(f"{where or 'the answer'}: {error}") from error


@cache
def _members(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _parse_either(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    *others, last = (kind for kind in kinds if kind is not type(None))
    for kind in others:
        try:
            return _parse(kind, value, where)
        except ValueError:
            continue
    return _parse(last, value, where)


def _parse_items(kinds: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    items = _checked(list, value, where)
    each = (kinds[0],) * len(items) if kinds[1:] == (Ellipsis,) else kinds
    if len(each) != len(items):
        raise ValueError(f"{where}: expected {len(each)} items, found {len(items)}")
    return tuple(_parse(kind, item, f"{where}[{number}]") for number, (kind, item) in enumerate(zip(each, items, strict=True)))


def _parse_scalar(kind: Any, value: Any, where: str) -> Any:
    if kind is float:
        return float(_checked((int, float), value, where))
    if kind is datetime:
        return datetime.fromisoformat(_checked(str, value, where))
    if kind is bytes:
        return base64.b64decode(_checked(str, value, where), validate=True)
    return _checked(kind, value, where)


def _checked(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{where or 'the answer'}: {type(value).__name__} is not what was expected")
    return value
