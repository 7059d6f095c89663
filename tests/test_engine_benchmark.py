"""The engine benchmark compares answers before it compares times, and reports every figure.

Nothing here looks at how fast anything was.
"""

import gc
import hashlib
import time
from array import array
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

import adcore
from benchmarks import (
    by_score,
    engine,
    engine_figures,
    engine_plot,
    figures,
    plot,
    timing,
    workload,
)
from benchmarks.engine_tables import tables
from benchmarks.numbered import Numbering
from benchmarks.peers import PEERS, Columns, grouped

SEED = 7
LINES = 200
REQUESTS = 20


def test_a_run_has_every_figure(tmp_path: Path) -> None:
    run = engine.measure(engine.SMOKE, SEED)
    path = tmp_path / "results" / "engine.json"
    figures.write(path, run)
    assert engine_figures.read(path) == run

    [size] = engine.SMOKE.sizes
    assert [case.workload for case in run.cases] == list(engine.WORKLOADS)
    for case in run.cases:
        assert (case.line_items, case.compared) == (size.line_items, size.peer_requests)
        assert 0 < case.lines_matched < case.line_items
        assert [it.winners for it in case.select] == list(engine.WINNERS)
        assert [it.engine for it in case.match] == ["adcore", "CRoaring", "NumPy", "adcore's scan"]
        assert [it.latency.requests for it in case.match] == [
            size.requests,
            *[size.peer_requests] * 3,
        ]
        assert case.match[0].of_adcore.median == 1
        for it in (*case.select, *case.match):
            assert it.latency.p50_us.median <= it.latency.p99_us.median <= it.latency.max_us.median
            assert it.latency.worst_us <= it.latency.max_us.low
        for it in case.select:
            assert it.kernel.requests == it.latency.requests
            assert 0 <= it.kernel.p50_us.median <= it.latency.p50_us.median
        assert 0 < case.select[0].won <= case.select[1].won <= case.select[2].won
        assert case.select[0].answers != case.select[2].answers
    assert run.cases[0].of_ads_a.match.median == run.cases[0].of_ads_a.select.median == 1
    assert len({case.answers for case in run.cases}) == len(run.cases)
    [scored] = [case.by_score for case in run.cases if case.by_score]
    booked = run.cases[0].select[1]
    assert (scored.winners, scored.won) == (booked.winners, booked.won)
    assert scored.answers != booked.answers
    assert 0 < scored.latency.p50_us.median <= scored.latency.p99_us.median

    image = tmp_path / "engine.svg"
    engine_plot.draw(run, image)
    assert "<svg" in image.read_text()

    document = tmp_path / "README.md"
    begin, end = engine.MARKERS
    document.write_text(f"before\n{plot.BEGIN}\nload\n{plot.END}\n{begin}\nold\n{end}\nafter\n")
    assert plot.insert(document, tables(run), engine.MARKERS)
    text = document.read_text()
    assert text.startswith(f"before\n{plot.BEGIN}\nload\n{plot.END}\n{begin}\n|")
    assert text.endswith(f"{end}\nafter\n")
    assert "old" not in text
    assert all(f"| {name}, {size.line_items} line items |" in text for name in engine.WORKLOADS)


def test_a_result_from_before_scores_were_measured_is_drawn_without_them(tmp_path: Path) -> None:
    run = engine_figures.read(engine.RESULTS / "engine-full-2026-11-25.json")
    older = replace(run, cases=tuple(replace(case, by_score=None) for case in run.cases))
    assert [curve.name for curve in engine_plot.selects(older)] == ["ADS-A", "ADS-B"]
    assert [curve.name for curve in engine_plot.matches(older)] == [
        "adcore",
        "CRoaring",
        "NumPy",
        "adcore's scan",
    ]
    engine_plot.draw(older, tmp_path / "engine.svg")
    assert "by score" not in tables(older)


def test_the_readme_has_a_place_for_the_tables() -> None:
    text = engine.README.read_text()
    begin, end = (text.index(marker) for marker in engine.MARKERS)
    assert begin < end


def test_figures_of_no_worth_are_not_written_down() -> None:
    with pytest.raises(SystemExit):
        engine.main(["--write"])


# -- answers ---------------------------------------------------------------------------------------


def prepared(name: str) -> engine.Prepared:
    return engine.prepare(name, engine.Size(LINES, REQUESTS, REQUESTS), SEED)


@pytest.mark.parametrize("name", engine.WORKLOADS)
def test_a_peer_with_another_answer_ends_the_run(name: str) -> None:
    """A line too few, a line too many, and as many lines of which one is another."""
    ours, *peers = prepared(name).matchers
    matched = [ours.lines(ours.subject.ask(*call)) for call in ours.subject.calls]
    full = next(number for number, lines in enumerate(matched) if len(lines))
    spoiled = {
        "less": lambda lines: lines[:-1],
        "more": lambda lines: np.append(lines, LINES),
        "else": lambda lines: np.append(lines[:-1], LINES),
    }
    for peer in peers:
        engine.check("here", ours, peer)
        for spoil in spoiled.values():
            calls = peer.subject.calls[full : full + 1]
            alone = replace(ours, subject=ours.subject._replace(calls=ours.subject.calls[full:]))
            tampered = engine.Matcher(
                peer.subject._replace(calls=calls),
                lambda answer, peer=peer, spoil=spoil: spoil(peer.lines(answer)),
            )
            with pytest.raises(ValueError, match=f"here, request 0: {peer.subject.name} finds"):
                engine.check("here", alone, tampered)


def test_a_run_whose_peer_forgets_excludes_gives_no_figures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The peers are built from the lines: a wrong line is a wrong answer, and so an error."""
    lines_of = Numbering.lines

    def forgetful(numbering: Numbering, catalog: adcore.Catalog) -> object:
        for line in lines_of(numbering, catalog):
            yield tuple(term for term in line if not term.negated)

    monkeypatch.setattr(Numbering, "lines", forgetful)
    with pytest.raises(ValueError, match=r"ADS-A, 300 line items, request \d+: CRoaring finds"):
        engine.measure(engine.SMOKE, SEED)


def test_the_checksum_tells_one_catalog_from_another() -> None:
    def answers(seed: int) -> str:
        index = adcore.compile(engine.catalog("ADS-A", LINES, seed))
        live = index.live(workload.NOW_S)
        asked = engine.requests("ADS-A", REQUESTS, SEED)
        return engine.checksum(engine.found(index.matching(it, live)) for it in asked)[0]

    assert answers(SEED) == answers(SEED)
    assert answers(SEED) != answers(SEED + 1)


def test_where_an_answer_ends_is_in_the_checksum() -> None:
    one, two = np.array([1], np.uint32), np.array([1, 2], np.uint32)
    none = np.array([], np.uint32)
    assert engine.checksum([two, none])[0] != engine.checksum([one, two[1:]])[0]
    assert engine.checksum([two, none])[1] == 1


def test_peers_know_a_catalog_without_lines() -> None:
    columns = Columns(())
    for peer in (made(columns) for made in PEERS):
        assert peer.lines(peer.match(grouped({0: (1,)}))).tolist() == []


def test_winners_that_are_not_the_best_by_score_end_the_run() -> None:
    source = engine.catalog("ADS-A", LINES, SEED)
    index = adcore.compile(source)
    scored = by_score.scored(index, source, SEED)
    asked = engine.requests("ADS-A", REQUESTS, SEED, winners=3)
    subject = by_score.select(index, scored, asked)
    by_score.check(index, subject, scored.scores, REQUESTS)

    as_booked = [(request, index.live(workload.NOW_S), draw) for request, _, draw in subject.calls]
    with pytest.raises(ValueError, match=r"scores .* win, not"):
        by_score.check(index, subject._replace(calls=as_booked), scored.scores, REQUESTS)


# -- the dump --------------------------------------------------------------------------------------


def numbers_of(path: Path) -> list[list[int]]:
    return [[int(number) for number in line.split()] for line in path.read_text().splitlines()]


def holds(line: list[int], request: list[int]) -> bool:
    """The dump's form, read the way a peer in another language would read it."""
    asked, place = {}, 1
    for _ in range(request[0]):
        dimension, count = request[place : place + 2]
        asked[dimension] = set(request[place + 2 : place + 2 + count])
        assert len(asked[dimension]) == count > 0
        place += 2 + count
    assert place == len(request)
    answers, place = [], 1
    for _ in range(line[0]):
        dimension, negated, count = line[place : place + 3]
        values = set(line[place + 3 : place + 3 + count])
        answers.append(bool(values & asked.get(dimension, set())) != bool(negated))
        place += 3 + count
    assert place == len(line)
    return all(answers)


@pytest.mark.parametrize("name", engine.WORKLOADS)
def test_whoever_reads_the_dump_finds_the_same_lines(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "workload.txt"
    options = ["--workload", name, "--lines", str(LINES), "--requests", str(REQUESTS)]
    engine.main(["--dump", str(path), *options, "--seed", str(SEED)])
    written = numbers_of(path)
    assert len(written) == LINES + REQUESTS
    lines, requests = written[:LINES], written[LINES:]
    found = [[n for n, line in enumerate(lines) if holds(line, request)] for request in requests]
    digest = hashlib.sha256()
    for numbers in found:
        digest.update(b"".join(n.to_bytes(8, "little") for n in (len(numbers), *numbers)))
    told = capsys.readouterr().out
    assert f" {sum(map(len, found))} in all (SHA-256 {digest.hexdigest()})" in told
    assert sum(map(len, found)) > 0


# -- times -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "share", "expected"),
    [(1, 0.5, 1), (1, 1, 1), (2, 0.5, 1), (2, 0.99, 2), (100, 0.99, 99), (101, 0.99, 100)],
)
def test_a_percentile_is_a_time_that_was_measured(count: int, share: float, expected: int) -> None:
    assert timing.percentile(range(count, 0, -1), share) == expected


def test_the_clock_is_taken_off_and_the_worst_request_is_slow_in_every_round() -> None:
    rounds = [array("q", times) for times in ([1100, 2100, 9100], [1200, 2200, 3200])]
    found = timing.latency(rounds, 100)
    assert found.requests == 3
    assert found.p50_us == figures.Spread(2.05, 2.0, 2.1)
    assert (found.max_us.low, found.max_us.high) == (3.1, 9.0)
    assert found.worst_us == 3.1


def test_a_replay_is_what_more_of_them_take_longer() -> None:
    """Reading takes ten times as long as what is repeated, and isn't in the figure."""
    asked = []

    def ask(request: int, times: int) -> None:
        asked.append((request, times))
        end = time.perf_counter_ns() + 2_000_000 + times * 200_000
        while time.perf_counter_ns() < end:
            pass

    times = timing.timed(timing.Subject("kernel", ask, [(7,), (8,)], replays=10))
    assert asked == [(request, count) for request in (7, 8) for count in (1, 1, 11)]
    assert len(times) == 2
    assert all(150_000 < it < 1_000_000 for it in times)


def test_a_ratio_is_over_the_requests_that_both_were_asked() -> None:
    many, few = array("q", [1100, 1100, 9100, 9100, 9100]), array("q", [3100, 3100])
    assert timing.ratio([few], [many], 100) == figures.Spread(3.0, 3.0, 3.0)


def test_the_collector_runs_again_afterwards() -> None:
    def fails() -> None:
        with timing.no_garbage_collection():
            assert not gc.isenabled()
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0
