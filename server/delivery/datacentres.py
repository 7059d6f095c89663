"""Addresses of data centres: nobody browses from one, so what comes from there is not billed.

The file has one CIDR range a line, IPv4 or IPv6; `#` begins a comment. Ranges may overlap. They are
merged into edges, a first address and the end behind a last one in turn, and an address lies in a
range if the number of edges up to it is odd: one binary search, however many lines there were.
"""

import ipaddress
import os
from bisect import bisect_right
from collections.abc import Iterable
from pathlib import Path
from socket import AF_INET, AF_INET6, inet_pton
from typing import Final

from server.errors import ConfigError

RANGES_MAX: Final = 262_144  # the large clouds together publish 100,000; 26 MB a worker at most
LINE_CHARS_MAX: Final = 256  # 43 for a range; the rest is comment and line end
FAULTS_MAX: Final = 20  # shown; a file of another kind has one in each line
# One slip of the pen must not stop billing for half of the internet: the largest blocks that anyone
# was ever given are these.
PREFIX_BITS_MIN: Final = {4: 8, 6: 16}

Span = tuple[bytes, bytes]  # a range's first address and its last, 4 or 16 bytes each


class Ranges:
    """Addresses, as merged ranges: `ip in ranges`."""

    def __init__(self, spans: Iterable[Span] = ()) -> None:
        held = sorted(spans)
        self._edges_v4 = _edges(span for span in held if len(span[0]) == 4)
        self._edges_v6 = _edges(span for span in held if len(span[0]) == 16)

    def __contains__(self, ip: str) -> bool:
        """Whether the address is in a range; text that is no address is in none."""
        try:
            if ":" in ip:
                return bisect_right(self._edges_v6, inet_pton(AF_INET6, ip)) & 1 == 1
            return bisect_right(self._edges_v4, inet_pton(AF_INET, ip)) & 1 == 1
        except (OSError, ValueError):
            return False


def read_ranges(path: str | os.PathLike[str]) -> Ranges:
    """Read a file of ranges; ConfigError names its faults by line. An empty path is no range."""
    if not os.fspath(path):
        return Ranges()
    spans: list[Span] = []
    faults: list[str] = []
    try:
        with Path(path).open(encoding="utf-8") as lines:
            for number, line in enumerate(iter(lambda: lines.readline(LINE_CHARS_MAX + 1), ""), 1):
                try:
                    spans += _spans(line)
                except ValueError as error:
                    faults.append(f"line {number}: {error}")
                if len(spans) > RANGES_MAX:
                    faults.append(f"line {number}: more than {RANGES_MAX} ranges")
                    break
                if len(line) > LINE_CHARS_MAX or len(faults) == FAULTS_MAX:
                    break
    except OSError as error:
        faults.append(error.strerror or str(error))
    except UnicodeDecodeError:
        faults.append("not UTF-8")
    if faults:
        name = "ADCORE_DATACENTRE_RANGES"
        raise ConfigError("\n".join(f"{name}: {fault}" for fault in faults))
    return Ranges(spans)


def _spans(line: str) -> list[Span]:
    """Read the range in a line, if there is one; ValueError says what is wrong with it."""
    if len(line) > LINE_CHARS_MAX:
        raise ValueError(f"longer than {LINE_CHARS_MAX} characters")
    text = line.partition("#")[0].strip()
    if not text:
        return []
    network = ipaddress.ip_network(text)
    bits = PREFIX_BITS_MIN[network.version]
    if network.prefixlen < bits:
        raise ValueError(f"{text!r} is wider than /{bits}, which is no data centre")
    if isinstance(network, ipaddress.IPv6Network):
        if network.network_address.ipv4_mapped:
            # Clients' addresses are never written so: the range would be of no effect.
            raise ValueError(f"{text!r} is to be written as IPv4")
        if network.network_address.scope_id:
            raise ValueError(f"{text!r} has a zone")
    # Bytes, for they sort at once: networks themselves take four seconds for 100,000.
    return [(network.network_address.packed, network.broadcast_address.packed)]


def _edges(spans: Iterable[Span]) -> list[bytes]:
    """Merge ranges, which come in order of their first address."""
    edges: list[bytes] = []
    reached = -2  # the last address merged so far, as a number
    for first, last in spans:
        if int.from_bytes(last) <= reached:
            continue
        if int.from_bytes(first) <= reached + 1:
            edges.pop()
        else:
            edges.append(first)
        # One byte more sorts behind the last address and before the next, also where there is none.
        edges.append(last + b"\0")
        reached = int.from_bytes(last)
    return edges
