"""An address has a place when the database knows one; no file and no header makes us guess."""

from pathlib import Path

import pytest
from mmdb_writer import MMDBWriter
from netaddr import IPSet

from server.delivery.clients import ADDRESS_CHARS_MAX
from server.delivery.geo import NOWHERE, Geo, Place, country_from_header
from server.errors import ConfigError

BERLIN = {
    "country": {"iso_code": "DE", "names": {"en": "Germany"}},
    "subdivisions": [{"iso_code": "BE"}, {"iso_code": "XX"}],
    "city": {"names": {"en": "Berlin", "de": "Berlin"}},
    "location": {"latitude": 52.5},
}
NEW_YORK = {
    "country": {"iso_code": "US"},
    "subdivisions": [{"iso_code": "NY"}],
    "city": {"names": {"en": "New York"}},
    "location": {"metro_code": 501},
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    writer = MMDBWriter(ip_version=6, ipv4_compatible=True, database_type="GeoIP2-City")
    writer.insert_network(IPSet(["203.0.113.0/24"]), BERLIN)
    writer.insert_network(IPSet(["198.51.100.0/24"]), NEW_YORK)
    writer.insert_network(IPSet(["2001:db8::/48"]), {"country": {"iso_code": "AT"}})
    writer.insert_network(IPSet(["192.0.2.0/25"]), {"country": "not a record", "city": []})
    writer.insert_network(IPSet(["192.0.2.128/25"]), {"subdivisions": [], "location": {}})
    path = tmp_path_factory.mktemp("geo") / "city.mmdb"
    writer.to_db_file(str(path))
    return path


@pytest.fixture
def geo(path: Path):
    geo = Geo(path)
    yield geo
    geo.close()


@pytest.mark.parametrize(
    ("ip", "place"),
    [
        ("203.0.113.5", Place("DE", "DE-BE", "Berlin", None)),
        ("198.51.100.255", Place("US", "US-NY", "New York", "501")),
        ("2001:db8::7", Place("AT", None, None, None)),
        ("203.0.113.5:80", Place("DE", "DE-BE", "Berlin", None)),
        ("::ffff:203.0.113.5", Place("DE", "DE-BE", "Berlin", None)),
        ("2001:db8:1::7", NOWHERE),
        ("127.0.0.1", NOWHERE),
        # Records of another shape.
        ("192.0.2.1", NOWHERE),
        ("192.0.2.129", NOWHERE),
        # What is no address.
        ("", NOWHERE),
        ("203.0.113", NOWHERE),
        ("é\ud800\0", NOWHERE),
        ("1" * 100_000, NOWHERE),
    ],
)
def test_places(geo, ip, place):
    assert geo.read(ip) == place
    assert geo.read(ip) == place  # and from the cache


def test_the_cache_is_bounded_in_entries_and_in_their_size(path):
    geo = Geo(path, cache_size=8)
    for n in range(100):
        geo.read(f"203.0.113.{n}")
    assert geo._cached.cache_info().currsize == 8
    geo.read("9" * (ADDRESS_CHARS_MAX + 1))
    assert geo.lookups() == (0, 100)
    geo.close()


def test_an_address_of_the_wrong_family_is_nowhere(tmp_path):
    writer = MMDBWriter(ip_version=4)
    writer.insert_network(IPSet(["203.0.113.0/24"]), BERLIN)
    path = tmp_path / "four.mmdb"
    writer.to_db_file(str(path))
    geo = Geo(path)
    assert geo.read("2001:db8::1") == NOWHERE
    assert geo.read("203.0.113.1").country == "DE"
    geo.close()


@pytest.mark.parametrize("content", [b"", b"not a database" * 100, None, "cut"])
def test_a_database_that_can_not_be_used_is_a_fault_of_the_settings(tmp_path, path, content):
    broken = tmp_path / "broken.mmdb"
    if content == "cut":
        broken.write_bytes(path.read_bytes()[:-100])
    elif content is not None:
        broken.write_bytes(content)
    with pytest.raises(ConfigError, match="geo database"):
        Geo(broken)


def test_a_database_damaged_inside_places_nobody_and_harms_nothing(tmp_path, path):
    content = bytearray(path.read_bytes())
    metadata = content.rindex(b"\xab\xcd\xefMaxMind.com")
    for at in range(0, metadata, 7):
        content[at] ^= 0xFF
    broken = tmp_path / "damaged.mmdb"
    broken.write_bytes(content)
    geo = Geo(broken)
    for n in range(256):
        assert isinstance(geo.read(f"{n}.51.100.{n}"), Place)
    geo.close()


@pytest.mark.parametrize(
    ("value", "country"),
    [
        ("DE", "DE"),
        ("de", "DE"),
        ("XX", None),
        ("xx", None),
        ("ZZ", None),
        ("T1", None),
        ("", None),
        (None, None),
        ("D", None),
        ("DEU", None),
        ("ÄÖ", None),
        ("ßß", None),
        ("D ", None),
        ("DE,AT", None),
    ],
)
def test_a_country_header_is_two_letters_that_mean_a_country(value, country):
    assert country_from_header(value) == country
