"""A snapshot file gives back what was written; one that is not whole is refused."""

import msgspec
import pytest
from msgspec.structs import replace

from adcore.catalog import Ad, Catalog
from server.delivery.bundle import Bundle, make_current
from server.delivery.conversions import Lookbacks
from server.delivery.render import Renderer
from server.delivery.snapshot import Holder
from server.errors import SnapshotError
from tests import catalogs
from tests.delivery import BASE_URL, NOW_S, write_bundle


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "snapshot-7.bin"
    write_bundle(path, catalogs.minimal())
    return path


def test_what_was_written_is_read(written):
    catalog, bundle = catalogs.minimal(), Bundle(written)
    assert (bundle.head.generation, bundle.head.line_items) == (7, 2)
    renderer = Renderer(catalog, BASE_URL)
    ads = [(line, ad.creative_id) for line in catalog.line_items for ad in line.ads]
    assert [bundle.ad(number) for number in range(len(ads))] == [
        renderer.template(line, creative_id) for line, creative_id in ads
    ]
    assert [bundle.click_url(creative.id) for creative in catalog.creatives] == [
        creative.click_url for creative in catalog.creatives
    ]
    assert [bundle.click_url(creative_id) for creative_id in (0, 49, 53, 2**63)] == [None] * 4
    assert (bundle.index.line_count, bundle.index.ad_count) == (2, 3)


def test_a_line_item_s_lookbacks_are_its_own_or_the_usual_ones(tmp_path):
    records = catalogs.minimal_records()
    given = {40: Lookbacks(0, 86_400), 41: Lookbacks(30 * 86_400, 0), 7: Lookbacks(3600, 60)}
    records["line_items"].append({**records["line_items"][1], "id": 2**63 - 1})
    records["line_items"].append({**records["line_items"][1], "id": 7})
    for record in records["line_items"]:
        if record["id"] in given:
            own = given[record["id"]]
            record |= {"click_lookback_s": own.click_s, "view_lookback_s": own.view_s}
    write_bundle(tmp_path / "snapshot-1.bin", msgspec.convert(records, Catalog))
    make_current(tmp_path, "snapshot-1.bin")
    holder = Holder(tmp_path)
    assert holder.lookbacks(40) == Lookbacks() == (30 * 86_400, 86_400)
    assert holder.poll(NOW_S)
    assert {id_: holder.lookbacks(id_) for id_ in given} == given
    for other in (2**63 - 1, 0, 8, 39, 42, 2**63):
        assert holder.lookbacks(other) == Lookbacks()


def test_no_temporary_file_is_left(written):
    assert [path.name for path in written.parent.iterdir()] == [written.name]


def test_no_temporary_file_is_left_when_a_catalog_can_not_be_written(tmp_path):
    catalog = catalogs.minimal()
    lost = replace(catalog.line_items[0], ads=(Ad(creative_id=999),))
    with pytest.raises(ValueError, match="no such creative"):
        write_bundle(tmp_path / "snapshot-7.bin", replace(catalog, line_items=(lost,)))
    assert list(tmp_path.iterdir()) == []


def test_tables_of_many_records_are_read(tmp_path):
    """More than the file's buffer holds, so that offsets are written behind what is flushed."""
    catalog = catalogs.minimal()
    line = catalog.line_items[0]
    many = tuple(replace(line, id=number) for number in range(1, 3001))
    write_bundle(tmp_path / "snapshot-7.bin", replace(catalog, line_items=many))
    bundle, renderer = Bundle(tmp_path / "snapshot-7.bin"), Renderer(catalog, BASE_URL)
    creative_id = line.ads[0].creative_id
    for number in (0, 1, 1499, 2999):
        ad = number * len(line.ads)
        assert bundle.ad(ad) == renderer.template(many[number], creative_id)
    assert (tmp_path / "snapshot-7.bin").stat().st_size > 1 << 20


def test_a_file_cut_anywhere_is_refused(written):
    whole = written.read_bytes()
    for size in sorted({*range(600), *range(0, len(whole), 97), len(whole) - 1}):
        written.write_bytes(whole[:size])
        try:
            bundle = Bundle(written)
        except SnapshotError:
            continue
        # Only the padding after the last section is missing.
        assert bundle.click_url(52) == "http://zenith.example:8080/"


def test_a_file_with_any_bit_of_the_head_changed_is_refused(written):
    whole = written.read_bytes()
    head_bytes = int.from_bytes(whole[8:12], "little")
    for bit in range(8 * (16 + head_bytes)):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        written.write_bytes(changed)
        with pytest.raises(SnapshotError) as caught:
            Bundle(written)
        assert caught.value.reason == "decode"


def test_the_holder_follows_the_link_and_keeps_the_last_good_one(tmp_path):
    holder = Holder(tmp_path)
    assert not holder.poll(NOW_S)
    assert holder.snapshot is None
    assert holder.click_url(50) is None
    write_bundle(tmp_path / "snapshot-1.bin", catalogs.minimal(), generation=1)
    make_current(tmp_path, "snapshot-1.bin")
    assert holder.poll(NOW_S)
    assert not holder.poll(NOW_S)
    first = holder.snapshot
    (tmp_path / "snapshot-2.bin").write_bytes(b"adcore")
    make_current(tmp_path, "snapshot-2.bin")
    assert not holder.poll(NOW_S)
    assert holder.snapshot is first
    write_bundle(tmp_path / "snapshot-3.bin", catalogs.minimal(), generation=3)
    make_current(tmp_path, "snapshot-3.bin")
    (tmp_path / "snapshot-1.bin").unlink()
    assert holder.poll(NOW_S)
    assert holder.snapshot.generation == 3
    # The file of the first is gone; who still holds it can still use it.
    assert first.click_url(50) == "https://acme.example/spring"
