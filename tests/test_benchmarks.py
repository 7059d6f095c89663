"""The load benchmark asks valid questions, checks what it is answered, and reports every figure.

Nothing here looks at how fast anything was.
"""

from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from adcore import compile as compile_index
from benchmarks import figures, load, plot, shop
from benchmarks.answers import Replayer
from benchmarks.bodies import SHAPES, VARIANTS, Shape, calls
from benchmarks.tables import tables
from benchmarks.workload import NOW_S
from server.config import Config
from server.delivery import kevel

pytestmark = pytest.mark.plain

SEED = 7


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_calls_are_valid_and_as_long_as_they_should_be(shape: Shape) -> None:
    made = calls(shop.users(64, SEED), shape, SEED)
    assert len({call.body for call in made}) == len(made) == VARIANTS
    for call in made:
        asked = kevel.parse(call.body)
        assert shape.placements[0] <= len(asked.placements) <= shape.placements[1]
        assert abs(len(call.body) - shape.body_bytes) <= 0.1 * shape.body_bytes
    assert made == calls(shop.users(64, SEED), shape, SEED)
    assert made != calls(shop.users(64, SEED), shape, SEED + 1)


def test_the_checksum_tells_one_catalog_from_another() -> None:
    made = calls(shop.users(64, SEED), SHAPES[0], SEED)[:32]

    def checksum(seed: int) -> str:
        index = compile_index(shop.catalog(200, seed))
        return Replayer(index, Config()).checksum(made, NOW_S)

    assert checksum(SEED) == checksum(SEED)
    assert checksum(SEED) != checksum(SEED + 1)


@pytest.mark.process
def test_a_run_has_every_figure_and_no_fault(tmp_path: Path) -> None:
    run = load.measure(load.SMOKE, load.PARTS, SEED)
    path = tmp_path / "results" / "load.json"
    figures.write(path, run)
    assert figures.read(path) == run

    assert run.throughput is not None
    assert [size.name for size in run.throughput] == [shape.name for shape in SHAPES]
    for size in run.throughput:
        for served in (size.ours, size.floor):
            assert served.max_faults == sum(point.faults for point in served.open_loop) == 0
            assert served.max_rate.low > 0
            assert served.max_cpu_us.low > 0
        # The floor answers as much as we do.
        assert size.floor.answer_bytes == pytest.approx(size.ours.answer_bytes, rel=0.2)
    assert run.swap is not None
    assert (run.swap.faults, run.swap.swaps) == (0, load.SMOKE.swap.swaps)
    assert 0 < (run.swap.moment_requests or 0) <= run.swap.swap_requests
    assert run.redis_kill is not None
    assert run.redis_kill.faults == 0
    assert run.redis_kill.answered_2xx == run.redis_kill.requests > 0
    assert run.memory is not None
    assert (run.memory.faults, run.memory.requests) == (0, load.SMOKE.memory_requests)
    assert run.checksums.sampled == len(SHAPES) * load.SAMPLED
    assert run.checksums.ads > 0

    image, document = tmp_path / "load.svg", tmp_path / "README.md"
    plot.draw(run, image)
    assert "<svg" in image.read_text()
    document.write_text(f"before\n{plot.BEGIN}\nold\n{plot.END}\nafter\n")
    assert plot.insert(document, tables(run))
    text = document.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "| adcore |" in text
    assert text.count("line items are swapped") == 2


def test_a_larger_swap_is_told_beside_the_runs_own() -> None:
    run = figures.read(plot.newest("load"))
    assert run.swap is not None
    larger = replace(
        run,
        swap=replace(
            run.swap,
            line_items=1_000_000,
            moment_requests=100,
            moment_p99_9_ms=figures.Spread(3.5, 3.0, 4.0),
            moment_ratio_p99_9=1.25,
        ),
    )
    rows = [row for row in tables(run, larger).splitlines() if "are swapped" in row]
    assert rows[0] in tables(run)
    assert [row.split(" while ")[1].split("|")[0] for row in rows[-2:]] == [
        "1,000,000 line items are swapped / quiet ",
        "1,000,000 line items are swapped, the change-over alone / quiet ",
    ]
    assert "1.25 (3.50 / " in rows[-1]


def test_a_result_with_a_field_missing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "load.json"
    path.write_text('{"schema_version": 1}')
    with pytest.raises(msgspec.ValidationError, match="missing required field"):
        figures.read(path)
