"""YAML as plain values, each with its line, from libyaml's events.

Composing from events rather than with PyYAML's own composer keeps every bound in our hands: that
one crashes the process on 100,000 open brackets. Scalars follow YAML 1.2: in 1.1 `NO` is false, not
Norway, and 01067 is 567, not a part of Dresden. Moments stay text, which msgspec reads.
"""

import re
from collections.abc import Iterable
from typing import Any, Final, NoReturn

import yaml

from server.catalog.fault import DEPTH_MAX, Fault, Steps

ALIASED_VALUES_MAX: Final = 100_000  # repeated by aliases: more is a bomb, not a convenience

_CONSTANTS: Final[dict[str, bool | None]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_WHOLE: Final = re.compile(r"[-+]?(0|[1-9][0-9_]{0,30})", re.ASCII)
_DECIMAL: Final = re.compile(r"[-+]?([0-9]+\.[0-9]*|\.?[0-9]+)([eE][-+]?[0-9]{1,3})?", re.ASCII)
_LEADING_ZERO: Final = re.compile(r"[-+]?0[0-9]", re.ASCII)
_TEXT_TAGS: Final = ("!", "tag:yaml.org,2002:str")


class Document:
    """What was read: its value, its faults, and the line of each value, aliases at their anchor."""

    def __init__(self, text: str) -> None:
        self.value: Any = None
        self.faults: list[Fault] = []
        self._line = 1
        self._entries: dict[int, dict[Any, int]] = {}  # lines, by id of the mapping or sequence
        self._open: list[_Open] = []
        self._anchors: dict[str, tuple[Any, int]] = {}  # the value, and how many it consists of
        self._values = 0
        self._aliased_values = 0
        try:
            for event in yaml.parse(text, Loader=yaml.CSafeLoader):
                self._add(event, event.start_mark.line + 1 if event.start_mark else 1)
        except _BrokenError as error:
            self._give_up(error.fault)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            line = mark.line + 1 if mark is not None else 1
            context = f" {error.context}" if error.context else ""
            self._give_up(Fault((), f"not YAML: {error.problem}{context}", line=line))
        except yaml.YAMLError:  # the reader's, which knows no line
            self._give_up(Fault((), "not YAML: it contains control characters", line=1))

    def _give_up(self, fault: Fault) -> None:
        """Half a file is no value: its end would be missed everywhere."""
        self.value = None
        self.faults.append(fault)

    def lines(self, wanted: Iterable[Steps]) -> dict[Steps, int]:
        return {steps: self._line_of(steps) for steps in wanted}

    def _line_of(self, steps: Steps) -> int:
        line, value = self._line, self.value
        for step in steps:
            entries = self._entries.get(id(value), {})
            if step not in entries:
                break
            line, value = entries[step], value[step]
        return line

    def _add(self, event: yaml.Event, line: int) -> None:
        if isinstance(event, yaml.ScalarEvent):
            self._add_scalar(event, line)
        elif isinstance(event, yaml.MappingStartEvent):
            self._start({}, event, line)
        elif isinstance(event, yaml.SequenceStartEvent):
            self._start([], event, line)
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            self._end()
        elif isinstance(event, yaml.AliasEvent):
            self._add_alias(event.anchor, line)
        elif isinstance(event, yaml.DocumentStartEvent) and self._values:
            self._break(line, "a second document; a catalog is one")

    def _add_key(self, key: str, line: int) -> None:
        parent = self._open[-1]
        parent.key = key
        if key == "<<":
            self._break(line, "merge keys (<<) are not understood; repeat the fields")
        if key in parent.value:
            self.faults.append(Fault(self._steps(), "appears twice in one mapping", line=line))
        self._entries[id(parent.value)][key] = line

    def _add_scalar(self, event: yaml.ScalarEvent, line: int) -> None:
        if event.tag is not None and event.tag not in _TEXT_TAGS:
            self._break(line, "tags (!) are not understood")
        is_key = bool(self._open) and self._open[-1].wants_key
        is_text = is_key or event.tag is not None or not event.implicit[0]
        value = event.value if is_text else _resolved(event.value)
        self._values += 1
        if event.anchor is not None:
            self._anchors[event.anchor] = value, 1
        if is_key:
            self._add_key(value, line)
        else:
            self._place(value, line)

    def _start(
        self, value: Any, event: yaml.MappingStartEvent | yaml.SequenceStartEvent, line: int
    ) -> None:
        if event.tag is not None:
            self._break(line, "tags (!) are not understood")
        if len(self._open) == DEPTH_MAX:
            self._break(line, f"nested deeper than {DEPTH_MAX}")
        opened = _Open(value, event.anchor, self._values, self._steps())
        self._place(value, line)
        self._entries[id(value)] = {}
        self._open.append(opened)
        self._values += 1

    def _end(self) -> None:
        ended = self._open.pop()
        if ended.anchor is not None:
            self._anchors[ended.anchor] = ended.value, self._values - ended.values_before

    def _add_alias(self, anchor: str | None, line: int) -> None:
        if anchor is None or anchor not in self._anchors:
            self._break(line, f"*{anchor} comes before the end of its anchor")
        value, count = self._anchors[anchor]
        self._values += count
        self._aliased_values += count
        if self._aliased_values > ALIASED_VALUES_MAX:
            self._break(line, f"aliases repeat more than {ALIASED_VALUES_MAX} values")
        self._place(value, line)

    def _place(self, value: Any, line: int) -> None:
        if not self._open:
            self.value, self._line = value, line
            return
        parent = self._open[-1]
        if parent.wants_key:
            self._break(line, "a key must be text")
        if isinstance(parent.value, list):
            self._entries[id(parent.value)][len(parent.value)] = line
            parent.value.append(value)
        else:
            parent.value[parent.key] = value
            parent.key = None

    def _steps(self) -> Steps:
        """Return the way to what comes next."""
        if not self._open:
            return ()
        parent = self._open[-1]
        step = len(parent.value) if isinstance(parent.value, list) else parent.key
        return parent.steps if step is None else (*parent.steps, step)

    def _break(self, line: int, message: str) -> NoReturn:
        raise _BrokenError(Fault(self._steps(), message, line=line))


class _BrokenError(Exception):
    """Reading can't go on after this fault."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(str(fault))
        self.fault = fault


class _Open:
    """A mapping or sequence whose end has not come yet."""

    def __init__(self, value: Any, anchor: str | None, values_before: int, steps: Steps) -> None:
        self.value = value
        self.anchor = anchor
        self.values_before = values_before
        self.steps = steps
        self.key: str | None = None  # of a mapping: its value comes next

    @property
    def wants_key(self) -> bool:
        return self.key is None and isinstance(self.value, dict)


def _resolved(text: str) -> Any:
    """Read a plain scalar: a constant, a number, or the text that it is."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if text[0] not in "+-.0123456789":
        return text
    if _WHOLE.fullmatch(text):
        return int(text)
    if _DECIMAL.fullmatch(text) and not _LEADING_ZERO.match(text):
        return float(text)
    return text
