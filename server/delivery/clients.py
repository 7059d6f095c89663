"""Who is asking: the client's address behind proxies.

Anybody can send X-Forwarded-For. Each proxy adds the address that it saw at the right end, so the
list is read from the right, and only as far as the proxies that the operator named go.
"""

import ipaddress
from collections.abc import Iterable, Sequence
from functools import lru_cache

from server.errors import ConfigError
from server.events.privacy import CACHE_ADDRESSES

HOPS_MAX = 16  # a chain of CDN, balancer, ingress and sidecar has five
ADDRESS_CHARS_MAX = 64  # the longest, IPv6 with a zone and a port, has 62 with a Linux interface


class Proxies:
    """The networks whose X-Forwarded-For is believed."""

    def __init__(self, ranges: Iterable[str]) -> None:
        try:
            self._networks = tuple(ipaddress.ip_network(text, strict=False) for text in ranges)
        except ValueError as error:
            raise ConfigError(f"trusted proxies: {error}") from None
        self.trusts = lru_cache(CACHE_ADDRESSES)(self._trusts)

    def __bool__(self) -> bool:
        return bool(self._networks)

    def _trusts(self, ip: str) -> bool:
        address = ipaddress.ip_address(ip)
        return any(address in network for network in self._networks)


def client_ip(peer: str, forwarded_for: Sequence[str], proxies: Proxies) -> str:
    """Name the rightmost address that is not one of our proxies', or "" when there is none.

    `forwarded_for` holds the header's values in order of arrival. An empty peer is a unix socket:
    who can open it is on this machine, and counts as a proxy if any does. Something that is no
    address ends the walk, because nothing left of it was seen by a proxy of ours.
    """
    ip = plain_ip(peer)
    if not proxies or not forwarded_for or (ip and not proxies.trusts(ip)):
        return ip
    for hop in reversed(",".join(forwarded_for).rsplit(",", HOPS_MAX)[-HOPS_MAX:]):
        nearer, ip = ip, plain_ip(hop)
        if not ip:
            return nearer
        if not proxies.trusts(ip):
            return ip
    return ip


def plain_ip(text: str) -> str:
    """Write the address one way, without brackets, port and zone; "" when it is none.

    An IPv4 address mapped into IPv6, which is how a dual-stack socket says it, is written as IPv4.
    """
    return _plain_ip(text) if len(text) <= ADDRESS_CHARS_MAX else ""


@lru_cache(CACHE_ADDRESSES)
def _plain_ip(text: str) -> str:
    text = text.strip(" \t")
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return str(address)
