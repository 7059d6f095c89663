"""A hundred bad requests, each with the status it must get: data for tests/test_malformed.py.

Numbers are the rows of the attack list in our research. A request is raw bytes, so that what no
HTTP library would send can be sent. Where Granian answers before us, its status is the expected
one.
"""

import json
from typing import NamedTuple

HUNG_UP = 0  # closed without an answer: what speaks another protocol could not read one


class Bad(NamedTuple):
    name: str
    raw: bytes
    status: int
    closes: bool = False  # the connection must end after the answer


def http(
    method: str = "POST",
    path: str = "/api/v2",
    headers: tuple[str, ...] = ("Host: a", "Content-Type: application/json"),
    body: bytes = b"",
    length: bool = True,
) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", *headers]
    if length and (body or method == "POST"):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def api(value: object) -> bytes:
    return http(body=json.dumps(value).encode())


def placement(**fields: object) -> bytes:
    return api({"placements": [{"divName": "a", "adTypes": [1], **fields}]})


def text(body: str | bytes) -> bytes:
    return http(body=body if isinstance(body, bytes) else body.encode())


JSON_TYPE = "Content-Type: application/json"
GOOD = {"placements": [{"divName": "a", "adTypes": [1]}]}
GOOD_BODY = json.dumps(GOOD).encode()

FRAMING = [
    Bad(
        "2 two lengths",
        http(
            headers=("Host: a", "Content-Length: 3", "Content-Length: 4"),
            body=b"abcd",
            length=False,
        ),
        400,
        True,
    ),
    *(
        Bad(
            f"3 length {value!r}",
            http(headers=("Host: a", f"Content-Length: {value}"), body=b"abcde", length=False),
            400,
            True,
        )
        for value in ("+5", "-1", "5, 6", "99999999999999999999", "0x5", "5.0", "")
    ),
    *(
        Bad(
            f"4 transfer-encoding {line!r}",
            http(headers=("Host: a", line), body=b"0\r\n\r\n", length=False),
            400,
            True,
        )
        for line in (
            "Transfer-Encoding: xchunked",
            "Transfer-Encoding: chunked, identity",
            "Transfer-Encoding : chunked",
        )
    ),
    Bad("5 folded header", http(headers=("Host: a", "X-A: b\r\n c")), 400, True),
    Bad("5 NUL in a header", http(headers=("Host: a", "X-A: b\0c")), 400, True),
    Bad("5 CR in a header", http(headers=("Host: a", "X-A: b\rc")), 400, True),
    Bad("7 no Host", http(headers=(JSON_TYPE,), body=GOOD_BODY), 400, True),
    Bad("7 no Host, beacon", b"GET /i.gif HTTP/1.1\r\n\r\n", 400, True),
    Bad("8 two Hosts", http(headers=("Host: a", "Host: b", JSON_TYPE), body=GOOD_BODY), 400, True),
    Bad(
        "9 101 headers",
        http("GET", "/ping", headers=("Host: a", *(f"X-{n}: 1" for n in range(101)))),
        431,
        True,
    ),
    Bad(
        "9 65 headers",
        http("GET", "/ping", headers=("Host: a", *(f"X-{n}: 1" for n in range(65)))),
        431,
        True,
    ),
    Bad(
        "9 64 KB header",
        http("GET", "/ping", headers=("Host: a", "X-A: " + "a" * 65_536)),
        431,
        True,
    ),
    # The whole head is too large before its URL is looked at.
    Bad("9 60 KB URL", http("GET", "/" + "a" * 60_000, headers=("Host: a",)), 431, True),
    Bad("9 30 KB URL", http("GET", "/" + "a" * 30_000, headers=("Host: a",)), 414, True),
    Bad(
        "9 8193 characters of URL",
        http("GET", "/i.gif?e=" + "a" * 8_186, headers=("Host: a",)),
        414,
        True,
    ),
    Bad(
        "10 chunk size overflows",
        http(
            headers=("Host: a", JSON_TYPE, "Transfer-Encoding: chunked"),
            body=b"F" * 17 + b"\r\nabc",
            length=False,
        ),
        400,
        True,
    ),
    Bad(
        "10 chunk size is no number",
        http(
            headers=("Host: a", JSON_TYPE, "Transfer-Encoding: chunked"),
            body=b"zz\r\nabc\r\n0\r\n\r\n",
            length=False,
        ),
        400,
        True,
    ),
    Bad(
        "10 1 MB chunk extension",
        http(
            headers=("Host: a", JSON_TYPE, "Transfer-Encoding: chunked"),
            body=b"3;" + b"a" * 1_000_000 + b"\r\nabc\r\n0\r\n\r\n",
            length=False,
        ),
        400,
        True,
    ),
    Bad(
        "11 body never sent",
        http(headers=("Host: a", JSON_TYPE, "Content-Length: 10"), body=b"abc", length=False),
        408,
        True,
    ),
    Bad(
        "11 chunked body never ends",
        http(
            headers=("Host: a", JSON_TYPE, "Transfer-Encoding: chunked"),
            body=b"3\r\nabc\r\n",
            length=False,
        ),
        408,
        True,
    ),
    Bad("bad version", b"GET /ping HTTP/9.9\r\nHost: a\r\n\r\n", 400, True),
    Bad("no version", b"GET /ping\r\nHost: a\r\n\r\n", 400, True),
    Bad("13 h2c prior knowledge", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", HUNG_UP, True),
]

METHODS = [
    *(
        Bad(f"14 {method} /api/v2", http(method, headers=("Host: a",)), 405)
        for method in ("GET", "HEAD", "PUT", "DELETE", "PATCH", "TRACE", "get", "post", "BREW")
    ),
    *(
        Bad(f"14 {method} {path}", http(method, path, headers=("Host: a",)), 405)
        for method, path in (
            ("PUT", "/i.gif"),
            ("DELETE", "/r"),
            ("OPTIONS", "/e.gif"),
            ("PUT", "/c.gif"),
            ("POST", "/ping"),
            ("TRACE", "/ping"),
        )
    ),
]

PATHS = [
    *(
        Bad(f"15 {path}", http("GET", path, headers=("Host: a",)), 404)
        for path in (
            "/%00",
            "/%0d%0aX-A:%20b",
            "/../etc/passwd",
            "/api/v2/../../x",
            "/api/v2/",
            "//api/v2",
            "/i.gif/x",
            "/.git/config",
            "/%ff",
        )
    ),
    Bad("29 a file name in the path", http("GET", "/i.gif/setup.bat", headers=("Host: a",)), 404),
]

BODIES = [
    Bad(
        "16 10 MB declared",
        http(
            headers=("Host: a", JSON_TYPE, "Content-Length: 10000000"),
            body=b"a" * 1000,
            length=False,
        ),
        413,
        True,
    ),
    Bad("16 64 KiB and a byte", text(b" " * 65_537), 413, True),
    Bad(
        "16 70 KB in chunks",
        http(
            headers=("Host: a", JSON_TYPE, "Transfer-Encoding: chunked"),
            body=b"11170\r\n" + b" " * 70_000 + b"\r\n0\r\n\r\n",
            length=False,
        ),
        413,
        True,
    ),
    *(
        Bad(
            f"16 content-encoding {name}",
            http(headers=("Host: a", JSON_TYPE, f"Content-Encoding: {name}"), body=GOOD_BODY),
            415,
            True,
        )
        for name in ("gzip", "br", "deflate", "zstd", "gzip, gzip")
    ),
    *(
        Bad(
            f"26 content-type {name}",
            http(headers=("Host: a", f"Content-Type: {name}"), body=GOOD_BODY),
            415,
            True,
        )
        for name in (
            "text/html",
            "multipart/form-data; boundary=x",
            "application/xml",
            "",
            ";",
            "application/jsonx",
        )
    ),
    Bad(
        "17 1,000 deep in an unknown field",
        text('{"x":' + "[" * 1_000 + "]" * 1_000 + ',"placements":[]}'),
        400,
    ),
    Bad("17 30,000 deep", text("[" * 30_000), 400),
    Bad("18 invalid UTF-8", text(b'{"placements":[{"divName":"\xff\xfe"}]}'), 400),
    Bad("18 overlong UTF-8", text(b'{"placements":[{"divName":"\xc0\xaf"}]}'), 400),
    Bad("18 lone surrogate", text('{"placements":[{"divName":"\\ud800"}]}'), 400),
    Bad("25 empty", text(""), 400),
    Bad("25 blank", text("   "), 400),
    Bad("25 byte order mark", text(b"\xef\xbb\xbf" + GOOD_BODY), 400),
    Bad("25 trailing bytes", text(GOOD_BODY + b"x"), 400),
    Bad("25 two documents", text(GOOD_BODY + GOOD_BODY), 400),
    Bad("25 cut short", text(GOOD_BODY[:-1]), 400),
    *(
        Bad(f"25 {body}", text(body), 400)
        for body in ("null", "[]", "1", '"a"', "{}", "NaN", "{'a':1}", "{placements:[]}")
    ),
    Bad("form", text("placements=a&b=c"), 400),
]

SHAPES = [
    *(
        Bad(
            f"19 siteId {value}",
            text(f'{{"placements":[{{"divName":"a","siteId":{value}}}]}}'),
            400,
        )
        for value in ("1" + "0" * 400, "9223372036854775808", "-1", "1.5", '"1"', "true")
    ),
    *(
        Bad(
            f"20 floorPrice {value}",
            text(f'{{"placements":[{{"divName":"a","floorPrice":{value}}}]}}'),
            400,
        )
        for value in ("-1", "1e400", "NaN", "Infinity", '"1"', "1000001")
    ),
    *(Bad(f"count {value}", placement(count=value), 400) for value in (0, 21, -1, 1.5, "2")),
    Bad("21 51 placements", api({"placements": [{"divName": f"d{n}"} for n in range(51)]}), 400),
    Bad("no placements", api({"placements": []}), 400),
    Bad("placements is an object", api({"placements": {"divName": "a"}}), 400),
    Bad("a placement is null", api({"placements": [None]}), 400),
    Bad("no divName", api({"placements": [{}]}), 400),
    Bad("the same divName twice", api({"placements": [{"divName": "a"}, {"divName": "a"}]}), 400),
    *(
        Bad(f"24 divName {name[:8]!r}", placement(divName=name), 400)
        for name in ("", "a\0", "a\u202eb", "a" * 65, "a\n", "é")
    ),
    Bad("24 1 KB user key", api({**GOOD, "user": {"key": "a" * 1024}}), 400),
    Bad("21 129 properties", placement(properties={f"k{n}": 1 for n in range(129)}), 400),
    Bad("a property of objects", placement(properties={"a": {"b": 1}}), 400),
    Bad("a property of 65 values", placement(properties={"a": ["x"] * 65}), 400),
    Bad(
        "1,280 values of properties",
        placement(properties={f"k{n}": ["x"] * 64 for n in range(20)}),
        400,
    ),
    Bad("a property of 2^54", placement(properties={"a": 2**54}), 400),
    Bad("adTypes of text", placement(adTypes=["1"]), 400),
    Bad("65 ad types", placement(adTypes=list(range(65))), 400),
    Bad("an event id of 0", placement(eventIds=[0]), 400),
    Bad("17 event ids", placement(eventIds=list(range(1, 18))), 400),
    Bad("keywords is text", api({**GOOD, "keywords": "a"}), 400),
    Bad("1,025 keywords", api({**GOOD, "keywords": ["a"] * 1025}), 400),
    Bad("257 blocked creatives", api({**GOOD, "blockedCreatives": list(range(257))}), 400),
    Bad("a 5 KB page URL", api({**GOOD, "url": "https://a/" + "a" * 5_000}), 400),
    Bad("an ip of 65 characters", api({**GOOD, "ip": "1" * 65}), 400),
    *(
        Bad(f"{field} can't be honoured", placement(**{field: 7}), 400)
        for field in ("flightId", "campaignId", "adId")
    ),
]

TOKENS = [
    *(
        Bad(f"27 {path}", http("GET", path, headers=("Host: a",)), 400)
        for path in (
            "/i.gif",
            "/r",
            "/e.gif",
            "/c.gif?value=1",
            "/i.gif?",
            "/i.gif?e=",
            "/r?e=%zz",
            "/r?e=a&e=b",
            "/r?e[]=a",
            "/r?E=a",
            "/r?e=" + "A" * 144,
            "/r?e=" + "A" * 143 + "=",
            "/r?dest=https://evil.example",
            "/r?e=../../key",
            "/r?e=%00",
        )
    ),
    Bad(
        "27 2,000 parameters",
        http("GET", "/i.gif?" + "&".join(["a=1"] * 2_000), headers=("Host: a",)),
        400,
    ),
]

ALL = [*FRAMING, *METHODS, *PATHS, *BODIES, *SHAPES, *TOKENS]
