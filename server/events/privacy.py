"""How much of a person's request may be kept in a record."""

import ipaddress
from functools import lru_cache
from typing import Final

CACHE_ADDRESSES: Final = 65_536  # 15 MB at most; a worker sees fewer in a minute
USER_AGENT_BYTES_MAX: Final = 512  # enough to know a robot by, small enough for millions of frames


@lru_cache(CACHE_ADDRESSES)
def cut_ip(ip: str) -> str:
    """Keep what tells networks apart and not people: IPv4's /24, IPv6's /48."""
    if not ip:
        return ""
    bits = 48 if ":" in ip else 24
    return str(ipaddress.ip_network(f"{ip}/{bits}", strict=False).network_address)


def cut_user_agent(user_agent: str | None) -> str:
    """Cut and escape: one line, whatever was sent."""
    if not user_agent:
        return ""
    escaped = user_agent[:USER_AGENT_BYTES_MAX].encode("unicode_escape")
    return escaped[:USER_AGENT_BYTES_MAX].decode("ascii")
