"""Why a value is not of a type: every fault of it, each at the smallest value that is wrong.

msgspec stops at the first fault. This walks the type beside the value and asks msgspec about ever
smaller parts, so the verdict is always msgspec's: a part that it takes has no faults here, a part
that it refuses has at least one.
"""

import re
import typing
from collections.abc import Iterator
from difflib import get_close_matches
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from msgspec import Struct
from msgspec.structs import FieldInfo

from adcore.catalog import Account, AssetUrl, HttpUrl, Label, Name
from server.catalog.fault import DEPTH_MAX, Fault, Steps, shown

_KINDS_OF_VALUE = {
    "array": "a list",
    "object": "a mapping",
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "null": "nothing",
    "datetime": "a moment",
}
_LENGTHS = {"str": "characters", "array": "entries"}
_MOMENT = "not a moment with its offset from UTC, such as 2026-07-01T00:00:00+02:00"


def faults(value: Any, hint: Any) -> list[Fault]:
    """Return every fault that keeps msgspec from converting `value` to the type `hint`."""
    return list(_walk(value, hint, ()))


def _walk(value: Any, hint: Any, steps: Steps) -> Iterator[Fault]:
    try:
        msgspec.convert(value, hint)
        return
    except msgspec.ValidationError as error:
        refusal = str(error)
    except RecursionError:
        refusal = ""
    if len(steps) >= DEPTH_MAX:
        yield Fault(steps, f"nested deeper than {DEPTH_MAX}")
        return
    inner = list(_inside(value, hint, steps))
    yield from inner or [Fault(steps, _in_words(value, hint, refusal))]


def _inside(value: Any, hint: Any, steps: Steps) -> Iterator[Fault]:
    """Yield the faults of the parts of `value`."""
    members = [hint for hint in _members(hint) if hint is not type(None)]
    structs = [member for member in members if _is_struct(member)]
    if isinstance(value, dict) and structs:
        struct = structs[0] if len(structs) == 1 else _tagged(value, structs)
        if struct is None:
            yield _tag_fault(value, structs, steps)
        else:
            yield from _fields(value, struct, steps)
    elif isinstance(value, list) and get_origin(_bare(members[0])) is tuple:
        item = get_args(_bare(members[0]))[0]
        for position, entry in enumerate(value):
            yield from _walk(entry, item, (*steps, position))


def _fields(value: dict[str, Any], struct: type[Struct], steps: Steps) -> Iterator[Fault]:
    fields = _fields_of(struct)
    tag_field = struct.__struct_config__.tag_field
    for name, entry in value.items():
        if name in fields:
            yield from _walk(entry, fields[name].type, (*steps, name))
        elif name != tag_field:
            close = get_close_matches(name, fields, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            yield Fault((*steps, name), f"no such field{hint}")
    for name, field in fields.items():
        if field.required and name not in value:
            yield Fault((*steps, name), "missing")


@cache
def _fields_of(struct: type[Struct]) -> dict[str, FieldInfo]:
    return {field.encode_name: field for field in msgspec.structs.fields(struct)}


def _tagged(value: dict[str, Any], structs: list[type[Struct]]) -> type[Struct] | None:
    tags = {struct.__struct_config__.tag: struct for struct in structs}
    tag = value.get(_tag_field(structs))
    return tags.get(tag) if isinstance(tag, str) else None


def _tag_fault(value: dict[str, Any], structs: list[type[Struct]], steps: Steps) -> Fault:
    tag_field = _tag_field(structs)
    tags = ", ".join(str(struct.__struct_config__.tag) for struct in structs)
    found = f", not {shown(value[tag_field])}" if tag_field in value else "; missing"
    return Fault((*steps, tag_field), f"must be one of {tags}{found}")


def _tag_field(structs: list[type[Struct]]) -> str:
    return str(structs[0].__struct_config__.tag_field)


# -- types -----------------------------------------------------------------------------------------


def _bare(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _members(hint: Any) -> tuple[Any, ...]:
    bare = _bare(hint)
    return get_args(bare) if get_origin(bare) in (UnionType, typing.Union) else (hint,)


def _is_struct(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, Struct)


# -- words -----------------------------------------------------------------------------------------


def _pattern(hint: Any) -> str:
    return next(str(meta.pattern) for meta in hint.__metadata__ if meta.pattern is not None)


_PATTERNS = {
    _pattern(Name): "control characters are not allowed",
    _pattern(Label): "not a label: small letters, digits, and after the first one . _ -",
    _pattern(HttpUrl): "not an http(s) URL without credentials and spaces",
    _pattern(AssetUrl): "neither an http(s) URL nor a path such as folder/picture.svg",
    _pattern(_fields_of(Account)["currency"].type): "not a currency code such as EUR",
}


def _in_words(value: Any, hint: Any, refusal: str) -> str:
    """Say for people what msgspec's message says for programmers."""
    choices = [choice for member in _members(hint) for choice in get_args(_literal(member))]
    if choices:
        return f"must be one of {', '.join(choices)}, not {shown(value)}"
    if "datetime" in refusal or "timezone" in refusal:
        return f"{_MOMENT}; {shown(value)} is not" if not isinstance(value, str) else _moment(value)
    if match := re.match(r"Expected `(\w+)` of length ([<>]=) (\d+)", refusal):
        kind, sign, length = match.groups()
        return f"number of {_LENGTHS[kind]} must be {sign} {length}, not {len(value)}"
    if match := re.match(r"Expected `\w+` ([<>]=) (\S+)", refusal):
        return f"must be {match[1]} {match[2].removesuffix('.0')}, not {shown(value)}"
    if "matching regex" in refusal:
        words = next((words for text, words in _PATTERNS.items() if repr(text) in refusal), refusal)
        return f"{words}: {shown(value)}"
    if match := re.match(r"Expected `([\w |]+)`, got `(\w+)`", refusal):
        expected = [_KINDS_OF_VALUE.get(kind, kind) for kind in match[1].split(" | ")]
        got = _KINDS_OF_VALUE.get(match[2], match[2])
        quote = " (quotes make it text)" if "text" in expected and got not in _CONTAINERS else ""
        wanted = " or ".join(kind for kind in expected if kind != "nothing")
        return f"must be {wanted}, not {got}{quote}"
    return refusal


_CONTAINERS = ("a list", "a mapping", "nothing")


def _moment(value: str) -> str:
    return f"{_MOMENT}: {shown(value)}"


def _literal(hint: Any) -> Any:
    return hint if get_origin(_bare(hint)) is Literal else None
