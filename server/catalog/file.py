"""A catalog file as plain values, with the line of each of them.

YAML (`document.py`) is for people, JSON for programs and large catalogs: it reads nine times as
fast (17 MB/s, 1.9 MB/s). In both, a key that appears twice in a mapping is a fault, because one of
the two values would silently be dropped.
"""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from server.catalog import places
from server.catalog.document import Document
from server.catalog.fault import Fault, Steps
from server.errors import CatalogError

YAML_BYTES_MAX: Final = 32 << 20  # 20 s to read; more than that is written by a program
JSON_BYTES_MAX: Final = 256 << 20  # 280,000 line items; checking takes 12 times that in memory


class Source(NamedTuple):
    """A file that was read: its value, and what is wrong with the file as such."""

    name: str
    value: Any
    faults: list[Fault]
    lines: Callable[[Iterable[Steps]], dict[Steps, int]]

    def located(self, faults: Iterable[Fault]) -> list[Fault]:
        """Give each fault its line, that of the nearest value around it, in the file's order."""
        faults = list(faults)
        lines = self.lines({fault.steps for fault in faults if fault.line is None})
        located = [
            fault if fault.line else fault._replace(line=lines[fault.steps]) for fault in faults
        ]
        return sorted(located, key=lambda fault: fault.line or 0)


def read(path: Path) -> Source:
    """Read a `.json` file as JSON and any other as YAML; CatalogError if there is none to read."""
    as_json = path.suffix.lower() == ".json"
    bytes_max = JSON_BYTES_MAX if as_json else YAML_BYTES_MAX
    try:
        with path.open("rb") as file:
            content = file.read(bytes_max + 1)
    except OSError as error:
        raise CatalogError(f"can't read {path}: {error.strerror}") from None
    if len(content) > bytes_max:
        hint = "" if as_json else "; JSON may be larger"
        raise CatalogError(f"{path} is larger than {bytes_max >> 20} MiB{hint}")
    return (_read_json if as_json else _read_yaml)(str(path), content)


def _read_yaml(name: str, content: bytes) -> Source:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return _unreadable(name, content, error.start, "not UTF-8")
    document = Document(text)
    return Source(name, document.value, document.faults, document.lines)


def _unreadable(name: str, content: bytes, offset: int, message: str) -> Source:
    line = content.count(b"\n", 0, offset) + 1
    fault = Fault((), message, line=line)
    return Source(name, None, [fault], lambda wanted: dict.fromkeys(wanted, line))


# -- JSON ------------------------------------------------------------------------------------------


def _read_json(name: str, content: bytes) -> Source:
    try:
        text = content.decode()
        value = msgspec.json.decode(content)
        repeated = places.repeated_keys(text)
    except UnicodeDecodeError as error:
        return _unreadable(name, content, error.start, "not UTF-8")
    except msgspec.DecodeError as error:
        offset = re.search(r"\(byte (\d+)\)", str(error))
        at = int(offset[1]) if offset else len(content)
        return _unreadable(name, content, at, f"not JSON: {error}")
    except RecursionError:
        return _unreadable(name, content, 0, "nested too deep")
    return Source(name, value, repeated, lambda wanted: places.lines(text, wanted))
