"""What people are told of a decision: by the API with the ops key, and on the command line."""

import json

import pytest

from adcore.reasons import Reason, Verdict
from server.delivery.waterfall import LINES_SHOWN_MAX, waterfall
from tests import catalogs
from tests.serving import ServerProcess, publish, start_server, wait_until
from tests.test_delivery import ASK, ask, beacons, path_of

KEY = "c0ffee00-4f4a-4b19-9d0f-3f2d7a9f2b61"
EXPLAIN = {"X-Adcore-Explain": "1", "Authorization": f"Bearer {KEY}"}
# A Monday and a Tuesday noon in Berlin: the native line runs on Mondays and Sundays only.
MONDAY, TUESDAY = "1773054000", "1773140400"


@pytest.fixture(scope="module")
def server(redis_server):
    publish(redis_server.url)
    with start_server(redis_server.url, ops_key=KEY) as running:
        yield running


def explained(server: ServerProcess, **headers: str) -> dict:
    """Ask until the second has come in which nobody was explained anything yet."""
    answers = []

    def answered() -> bool:
        answers.append(server.post("/api/v2", json.dumps(ASK).encode(), EXPLAIN | headers))
        return answers[-1].status != 429

    wait_until(answered, "an explanation")
    assert answers[-1].status == 200, answers[-1].body
    return json.loads(answers[-1].body)


@pytest.mark.process
def test_the_ops_key_opens_the_waterfall(server):
    answer = explained(server, **{"X-Adcore-Time": TUESDAY})
    told = answer["explain"]
    assert told.keys() == answer["decisions"].keys() == {"top", "side"}
    for placement, ad in answer["decisions"].items():
        won = [it for it in told[placement]["lineItems"] if it["reason"] == "won"]
        assert [it["lineItemId"] for it in won] == ([ad["flightId"]] if ad else [])
        assert sum(told[placement]["counts"].values()) == len(catalogs.minimal().line_items)
    native = next(it for it in told["side"]["lineItems"] if it["lineItemId"] == 41)
    assert (native["reason"], native["name"]) == ("daypart", catalogs.minimal().line_items[1].name)


@pytest.mark.process
def test_what_is_explained_is_never_billed(server):
    ad = explained(server)["decisions"]["top"]
    before = len(beacons(server))
    assert server.get(path_of(ad["impressionUrl"])).status == 200
    assert [frame.outcome for frame in beacons(server)[before:]] == [1]  # a preview


@pytest.mark.process
@pytest.mark.parametrize(
    "key", [None, "Bearer ", f"Bearer {KEY}x", f"Basic {KEY}", KEY, "Bearer é"]
)
def test_without_the_key_nothing_is_told_or_decided(server, key):
    headers = {"X-Adcore-Explain": "1"} | ({} if key is None else {"Authorization": key})
    answer = server.post("/api/v2", json.dumps(ASK).encode(), headers)
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert b"decisions" not in answer.body


@pytest.mark.process
def test_one_request_a_second_is_explained_and_the_others_are_answered(server):
    statuses = [server.post("/api/v2", json.dumps(ASK).encode(), EXPLAIN).status for _ in range(30)]
    assert set(statuses) <= {200, 429}
    assert 429 in statuses
    assert "explain" not in ask(server)
    assert ask(server)["decisions"]["top"]


@pytest.mark.process
def test_a_server_without_a_key_explains_nothing(redis_url):
    publish(redis_url)
    with start_server(redis_url) as server:
        assert "explain" not in ask(server, **EXPLAIN)


@pytest.mark.process
def test_the_command_explains_a_file_and_a_published_catalog(adcore):
    request = ("explain", "examples/request.json")
    everything = adcore(*request, "--catalog", "examples/catalog.yaml", "--time", TUESDAY)
    assert everything.startswith("header: 1 won")
    assert "targeting: its targeting is not met, on" in everything
    assert "nothing is published" in adcore(*request, code=1)
    adcore("publish", "examples/catalog.yaml")
    assert adcore(*request, "--time", TUESDAY) == everything
    told = json.loads(adcore(*request, "--time", TUESDAY, "--json"))
    (won,) = [it for it in told["header"]["lineItems"] if it["reason"] == "won"]
    one = adcore(*request, "--time", TUESDAY, "--line-item", won["lineItemId"])
    assert one.splitlines()[0] == "header: won"


@pytest.mark.process
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere.json",), "nowhere.json: No such file"),
        (("README.md",), "not JSON"),
        (("examples/request.json", "--line-item", 1), "no line item 1"),
        (("examples/request.json", "--decision-id", "zz"), "not an answer's decisionId"),
        (("examples/request.json", "--header", "nothing"), "not NAME: VALUE"),
    ],
)
def test_what_can_not_be_explained_is_named(adcore, arguments, message):
    assert message in adcore("explain", *arguments, "--catalog", "examples/catalog.yaml", code=1)


@pytest.mark.process
def test_a_decision_id_explains_its_own_decision(redis_url, adcore):
    publish(redis_url)
    with start_server(redis_url) as server:
        answer = ask(server)
    told = json.loads(
        adcore(
            "explain", "-", "--json", "--decision-id", answer["decisionId"],
            stdin=json.dumps(ASK), ADCORE_REDIS_PREFIX="adcore",
        )
    )  # fmt: skip
    won = [it["lineItemId"] for it in told["top"]["lineItems"] if it["reason"] == "won"]
    assert won == [answer["decisions"]["top"]["flightId"]]


def test_a_long_waterfall_is_cut_and_says_so():
    class Endless:
        def __len__(self) -> int:
            return LINES_SHOWN_MAX + 3

        def __getitem__(self, rank: int) -> object:
            return Verdict(rank, rank + 1, 8, 1000, Reason.TARGETING, "os", None)

        def counts(self) -> dict:
            return {}

    told = waterfall(["top"], [Endless()], lambda number: f"line {number}")["top"]
    assert (len(told["lineItems"]), told["more"]) == (LINES_SHOWN_MAX, 3)
    assert told["dimensions"] == {"os": LINES_SHOWN_MAX}
