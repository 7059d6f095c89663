"""The client's address is the rightmost that is no proxy of ours; the rest is anybody's word."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.delivery import clients
from server.delivery.clients import (
    ADDRESS_CHARS_MAX,
    HOPS_MAX,
    Proxies,
    client_ip,
    plain_ip,
)
from server.errors import ConfigError
from server.events.privacy import cut_ip

OURS = Proxies(["10.0.0.0/8", "2001:db8:ffff::/48", "192.0.2.1"])
NOBODY = Proxies([])
SIDECAR, BALANCER, CLIENT, LIAR = "10.1.1.1", "10.2.2.2", "198.51.100.7", "203.0.113.9"


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "proxies", "ip"),
    [
        # Nobody is believed: the header says nothing.
        (CLIENT, [], NOBODY, CLIENT),
        (CLIENT, [LIAR], NOBODY, CLIENT),
        (SIDECAR, [LIAR], NOBODY, SIDECAR),
        # A peer that is not ours speaks for itself only.
        (CLIENT, [LIAR], OURS, CLIENT),
        # Our proxies' words count, from the right, as far as they go.
        (SIDECAR, [CLIENT], OURS, CLIENT),
        (SIDECAR, [f"{CLIENT}, {BALANCER}"], OURS, CLIENT),
        (SIDECAR, [f"{LIAR},{CLIENT},{BALANCER}"], OURS, CLIENT),
        (SIDECAR, [f"127.0.0.1, {BALANCER}, {CLIENT}"], OURS, CLIENT),
        # Several lines are one list, in order.
        (SIDECAR, [LIAR, CLIENT], OURS, CLIENT),
        (SIDECAR, [LIAR, CLIENT, BALANCER], OURS, CLIENT),
        # All ours: the one furthest away.
        (SIDECAR, [f"{BALANCER}, 10.3.3.3"], OURS, BALANCER),
        (SIDECAR, [], OURS, SIDECAR),
        # A word that is no address ends the walk.
        (SIDECAR, [f"{CLIENT}, unknown"], OURS, SIDECAR),
        (SIDECAR, [f"{CLIENT}, _hidden, {BALANCER}"], OURS, BALANCER),
        (SIDECAR, [f"{CLIENT},"], OURS, SIDECAR),
        (SIDECAR, [""], OURS, SIDECAR),
        (SIDECAR, ["1" * 100_000], OURS, SIDECAR),
        # Other spellings.
        (SIDECAR, ["198.51.100.7:4711"], OURS, CLIENT),
        (SIDECAR, ["[2001:DB8::1]:443"], OURS, "2001:db8::1"),
        (SIDECAR, ["[2001:db8::1]"], OURS, "2001:db8::1"),
        (SIDECAR, ["fe80::1%eth0"], OURS, "fe80::1"),
        (SIDECAR, ["2001:db8::1, 2001:db8:ffff::5"], OURS, "2001:db8::1"),
        # A dual-stack socket writes IPv4 in IPv6.
        ("::ffff:10.1.1.1", [CLIENT], OURS, CLIENT),
        ("::ffff:198.51.100.7", [LIAR], NOBODY, CLIENT),
        (SIDECAR, ["::ffff:198.51.100.7"], OURS, CLIENT),
        # A unix socket has no address.
        ("", [CLIENT], OURS, CLIENT),
        ("", [CLIENT], NOBODY, ""),
        ("", [], OURS, ""),
        ("", ["unknown"], OURS, ""),
    ],
)
def test_the_rightmost_address_that_is_not_ours(peer, forwarded_for, proxies, ip):
    assert client_ip(peer, forwarded_for, proxies) == ip


def test_no_more_hops_are_walked_than_the_bound():
    chain = [f"10.0.0.{n}" for n in range(HOPS_MAX)]
    assert client_ip(SIDECAR, [", ".join([CLIENT, *chain[1:]])], OURS) == CLIENT
    assert client_ip(SIDECAR, [", ".join([CLIENT, *chain])], OURS) == chain[0]
    assert client_ip(SIDECAR, [",".join([CLIENT] * 300 + chain)], OURS) == chain[0]


addresses = st.ip_addresses().map(str)
networks = st.sampled_from(["10.0.0.0/8", "0.0.0.0/1", "8000::/1", "::/0"])
words = st.one_of(addresses, st.sampled_from(["", "unknown", "10.1.1.1", "1.2.3"]), st.text())


def slow_client_ip(peer: str, hops: list[str], ranges: list[str]) -> str:
    """Say the same as one rule over the whole list."""
    trusted = [ipaddress.ip_network(text) for text in ranges]
    walked = [plain_ip(peer)]
    for hop in reversed(hops):
        ip = walked[-1]
        if not any(ipaddress.ip_address(ip) in network for network in trusted) or not plain_ip(hop):
            break
        walked.append(plain_ip(hop))
    return walked[-1]


@given(addresses, st.lists(words.filter(lambda word: "," not in word), max_size=HOPS_MAX), networks)
def test_the_walk_equals_its_rule(peer, hops, network):
    forwarded_for = [", ".join(hops)] if hops else []
    expected = slow_client_ip(peer, hops, [network])
    assert client_ip(peer, forwarded_for, Proxies([network])) == expected


@given(st.text())
def test_whatever_is_sent_the_answer_is_an_address_or_nothing(text):
    ip = plain_ip(text)
    assert ip == "" or str(ipaddress.ip_address(ip)) == ip


def test_long_text_is_not_remembered():
    before = clients._plain_ip.cache_info().currsize
    assert plain_ip("7" * (ADDRESS_CHARS_MAX + 1)) == ""
    assert clients._plain_ip.cache_info().currsize == before


@pytest.mark.parametrize(
    ("ip", "cut"),
    [
        ("198.51.100.77", "198.51.100.0"),
        ("255.255.255.255", "255.255.255.0"),
        ("2001:db8:aaaa:bbbb:cccc::1", "2001:db8:aaaa::"),
        ("::1", "::"),
        ("", ""),
    ],
)
def test_the_cut_keeps_the_network_only(ip, cut):
    assert cut_ip(ip) == cut


@given(st.ip_addresses())
def test_the_cut_is_the_network_of_the_address(address):
    bits = 24 if address.version == 4 else 48
    host_bits = address.max_prefixlen - bits
    expected = type(address)(int(address) >> host_bits << host_bits)
    assert cut_ip(str(address)) == str(expected)


def test_a_range_that_is_none_is_a_fault_of_the_settings():
    with pytest.raises(ConfigError, match=r"10\.0\.0\.0/99"):
        Proxies(["10.0.0.0/99"])
