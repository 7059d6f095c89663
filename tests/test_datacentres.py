"""Data centres' ranges: each address is in or out as `ipaddress` says, each bad line is named."""

import ipaddress
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.delivery import datacentres
from server.delivery.datacentres import FAULTS_MAX, LINE_CHARS_MAX, Ranges, read_ranges
from server.errors import ConfigError

pytestmark = pytest.mark.plain

BITS = {4: 32, 6: 128}
ADDRESS = {4: IPv4Address, 6: IPv6Address}


@st.composite
def networks(draw):
    """Close together, so that they touch, overlap, and reach both ends of all addresses."""
    version = draw(st.sampled_from([4, 6]))
    bits = BITS[version]
    prefix = draw(st.integers(bits - 5, bits))
    near = draw(st.sampled_from([0, 1 << (bits - 8), (1 << bits) - 64]))
    number = (near + draw(st.integers(0, 63))) >> (bits - prefix) << (bits - prefix)
    return ip_network((number, prefix))


def ranges_of(*held) -> Ranges:
    return Ranges((network[0].packed, network[-1].packed) for network in held)


def around(network) -> list[str]:
    first, last = int(network.network_address), int(network.broadcast_address)
    version = network.version
    return [
        str(ADDRESS[version](number))
        for number in {first - 1, first, first + 1, last - 1, last, last + 1}
        if 0 <= number < 1 << BITS[version]
    ]


@given(st.lists(networks(), max_size=12))
def test_an_address_is_in_as_ipaddress_says(held):
    ranges = ranges_of(*held)
    for ip in [ip for network in held for ip in around(network)] + ["192.0.2.1", "2001:db8::1"]:
        assert (ip in ranges) == any(ip_address(ip) in network for network in held)


@given(st.lists(networks(), max_size=12))
def test_edges_are_in_order_and_ranges_that_touch_are_one(held):
    ranges = ranges_of(*held)
    for version, edges in ((4, ranges._edges_v4), (6, ranges._edges_v6)):
        apart = ipaddress.collapse_addresses(n for n in held if n.version == version)
        assert edges == sorted(set(edges))
        assert len(edges) <= 2 * len(list(apart))


def test_ranges_that_touch_are_one():
    both = ranges_of(ip_network("192.0.3.0/24"), ip_network("192.0.2.0/24"))
    assert len(both._edges_v4) == 2


@pytest.mark.parametrize("ip", ["", "-", "1.2.3", "1.2.3.4.5", "::g", "1.2.3.4\0", "é", ":" * 99])
def test_what_is_no_address_is_in_no_range(ip):
    assert ip not in ranges_of(ip_network("0.0.0.0/0"), ip_network("::/0"))


def test_the_ends_of_all_addresses_can_be_in():
    whole = ranges_of(ip_network("0.0.0.0/0"), ip_network("::/0"))
    for ip in ("0.0.0.0", "255.255.255.255", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"):
        assert ip in whole
        assert ip not in Ranges()


# -- the file


def write(path, text: str | bytes):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def faults_of(path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read_ranges(path)
    lines = str(caught.value).splitlines()
    assert all(line.startswith("ADCORE_DATACENTRE_RANGES: ") for line in lines)
    return [line.partition(": ")[2] for line in lines]


def test_a_file_is_read(tmp_path):
    ranges = read_ranges(
        write(
            tmp_path / "ranges",
            "# clouds\r\n\n  192.0.2.0/25 # one\n192.0.2.128/25\n\t198.51.100.7\n2001:DB8::/32",
        )
    )
    for ip in ("192.0.2.0", "192.0.2.128", "192.0.2.255", "198.51.100.7", "2001:db8:ffff::1"):
        assert ip in ranges
    for ip in ("192.0.1.255", "192.0.3.0", "198.51.100.6", "198.51.100.8", "2001:db9::"):
        assert ip not in ranges


def test_no_file_is_no_range():
    assert "192.0.2.1" not in read_ranges("")


def test_every_bad_line_is_named(tmp_path):
    faults = faults_of(
        write(
            tmp_path / "ranges",
            "192.0.2.0/24\n"
            "192.0.2.1/24\n"
            "cloud\n"
            "192.0.2.0/33\n"
            "\n"
            "0.0.0.0/0\n"
            "::/0 # everyone\n"
            "::ffff:192.0.2.0/120\n"
            "fe80::%eth0/64\n"
            "192.0.2.0/24, 198.51.100.0/24\n",
        )
    )
    assert [fault.partition(":")[0] for fault in faults] == [
        f"line {number}" for number in (2, 3, 4, 6, 7, 8, 9, 10)
    ]


@pytest.mark.parametrize(("bits", "wide"), [("2.0.0.0/8", "2.0.0.0/7"), ("2000::/16", "2000::/15")])
def test_a_range_is_at_most_as_wide_as_one_owner_s(tmp_path, bits, wide):
    read_ranges(write(tmp_path / "ranges", bits))
    assert "wider" in faults_of(write(tmp_path / "ranges", wide))[0]


def test_a_file_of_another_kind_is_refused(tmp_path):
    assert faults_of(tmp_path / "missing") == ["No such file or directory"]
    assert faults_of(tmp_path) == ["Is a directory"]
    assert faults_of(write(tmp_path / "binary", b"\xff\xfe")) == ["not UTF-8"]
    assert len(faults_of(write(tmp_path / "prose", "word\n" * 1_000))) == FAULTS_MAX


def test_a_file_is_bounded(tmp_path, monkeypatch):
    long = "192.0.2.0/24 #".ljust(LINE_CHARS_MAX - 1, "x")
    read_ranges(write(tmp_path / "ranges", long + "\n" + long + "\n"))
    (fault,) = faults_of(write(tmp_path / "ranges", long + "xx" * 1_000_000))
    assert fault == f"line 1: longer than {LINE_CHARS_MAX} characters"
    monkeypatch.setattr(datacentres, "RANGES_MAX", 2)
    read_ranges(write(tmp_path / "ranges", "192.0.2.1\n" * 2 + "# end\n"))
    assert faults_of(write(tmp_path / "ranges", "192.0.2.1\n" * 3)) == [
        "line 3: more than 2 ranges"
    ]
