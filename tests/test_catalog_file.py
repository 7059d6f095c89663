"""A file is read as plain values with the line of each, or refused within its bounds."""

import json
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.catalog import document, file, places
from server.catalog.document import Document
from server.catalog.fault import path_of, shown
from server.errors import CatalogError

pytestmark = pytest.mark.plain


def faults(text: str) -> list[tuple[int | None, str, str]]:
    return [(fault.line, fault.path, fault.message) for fault in Document(text).faults]


@pytest.fixture
def write(tmp_path: Path):
    def write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


# -- YAML's values


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("NO", "NO"),  # Norway; false in YAML 1.1
        ("on", "on"),
        ("yes", "yes"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("null", None),
        ("", None),
        ("0", 0),
        ("-7", -7),
        ("2_500_000", 2_500_000),
        ("01067", "01067"),  # a postal code; 567 in YAML 1.1
        ("-01.5", "-01.5"),
        ("12:30", "12:30"),  # 750 in YAML 1.1
        ("0x10", "0x10"),
        ("1.5", 1.5),
        ("0.5", 0.5),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("1.2.3", "1.2.3"),
        ("+", "+"),
        ("-", [None]),
        (".", "."),
        (".inf", ".inf"),
        ("'5'", "5"),
        ('"true"', "true"),
        ("!!str 5", "5"),
        ("! 5", "5"),
        ("2026-07-01T00:00:00+02:00", "2026-07-01T00:00:00+02:00"),
        ("9" * 40, float("9" * 40)),
        ("{1: a, null: b, NO: c}", {"1": "a", "null": "b", "NO": "c"}),
        ("|\n  two\n  lines\n", "two\nlines\n"),
    ],
)
def test_plain_scalars_follow_yaml_1_2(text, value):
    read = Document(text)
    assert read.faults == []
    assert read.value == value
    assert type(read.value) is type(value)


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(plain)
def test_yaml_reads_what_json_writes(value):
    """JSON is flow YAML, but for lone surrogates and the merge key: an oracle for composing."""
    text = json.dumps(value)
    if "\\ud" not in text and '"<<"' not in text:
        read = Document(text)
        assert read.faults == []
        assert read.value == json.loads(text)


# -- lines


YAML = dedent("""\
    # a comment
    account:
      name: A
    sites:
      - id: 1
        name: >
          long
      -
        id: 2
    zones: [{id: 1}, {id: 2,
      name: x}]
    shared: &a {deep: [1, 2]}
    again: *a
    """)

LINES = {
    (): 2,
    ("account",): 2,
    ("account", "name"): 3,
    ("account", "currency"): 3 - 1,  # missing: the line of what it is missing from
    ("sites",): 4,
    ("sites", 0): 5,
    ("sites", 0, "name"): 6,
    ("sites", 1): 9,
    ("sites", 1, "id"): 9,
    ("sites", 7): 4,
    ("zones", 1, "name"): 11,
    ("again",): 13,
    ("again", "deep", 1): 12,
    ("nothing", 5, "here"): 2,
}


def test_every_value_of_a_yaml_file_has_its_line():
    assert Document(YAML).lines(LINES) == LINES


JSON = """
{
  "account": {"name": "A",
    "currency": "EUR"},
  "sites": [
    {"id": 1},

    {"id": 2, "nested": [[1,
      2]], "text": "{[,:\\"\\n\\u005d"},
    3
  ],
  "empty": [], "none": {}
}
"""

JSON_LINES = {
    (): 2,
    ("account",): 3,
    ("account", "currency"): 4,
    ("account", "missing"): 3,
    ("sites", 0, "id"): 6,
    ("sites", 1): 8,
    ("sites", 1, "nested", 0, 0): 8,
    ("sites", 1, "nested", 0, 1): 9,
    ("sites", 1, "text"): 9,
    ("sites", 2): 10,
    ("sites", 3): 5,
    ("none",): 12,
    ("none", "x"): 12,
}


def test_every_value_of_a_json_file_has_its_line(write):
    assert places.lines(JSON, JSON_LINES) == JSON_LINES
    source = file.read(write("a.json", JSON))
    assert source.lines({("sites", 2)}) == {("sites", 2): 10}


def all_steps(value, steps=()):
    yield steps
    entries = value.items() if isinstance(value, dict) else ()
    entries = enumerate(value) if isinstance(value, list) else entries
    for step, below in entries:
        yield from all_steps(below, (*steps, step))


@given(plain, st.sampled_from([None, 0, 1]))
def test_json_and_yaml_agree_on_every_line(value, indent):
    text = json.dumps(value, indent=indent)
    if "\\ud" not in text and '"<<"' not in text:
        wanted = list(all_steps(value))
        assert places.lines(text, wanted) == Document(text).lines(wanted)


# -- faults of the file as such


def test_a_key_that_appears_twice_is_a_fault_wherever_it_is(write):
    yaml = "a: 1\nb:\n  - c: 1\n    d: 2\n    c: 3\na: 4\n"
    assert faults(yaml) == [
        (5, "b[0].c", "appears twice in one mapping"),
        (6, "a", "appears twice in one mapping"),
    ]
    json_text = '{"a": 1,\n "b": [{"c": 1, "d": {"c": 0},\n "\\u0063": 3}],\n "a": 4, "a": 5}'
    source = file.read(write("a.json", json_text))
    assert [(fault.line, fault.path) for fault in source.faults] == [
        (3, "b[0].c"),
        (4, "a"),
        (4, "a"),
    ]


def test_keys_of_different_mappings_are_not_twice(write):
    assert file.read(write("a.json", '[{"a": 1}, {"a": {"a": 2}}]')).faults == []
    assert faults("[{a: 1}, {a: {a: 2}}]") == []


def test_aliases_may_repeat_a_little():
    text = "base: &base [1, 2, 3]\nagain: [*base, *base]\n"
    assert Document(text).value["again"] == [[1, 2, 3], [1, 2, 3]]


def test_an_alias_bomb_is_refused_before_it_goes_off():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    [(line, path, message)] = faults("\n".join(lines))
    assert message == f"aliases repeat more than {document.ALIASED_VALUES_MAX} values"
    assert (line, path) == (5, "a4[7]")


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        ("a: *nowhere", 1, "*nowhere comes before"),
        ("a: &a\n  b: *a", 2, "*a comes before the end of its anchor"),
        ("a:\n  <<: {b: 1}", 2, "merge keys"),
        ("a: !!python/object:os.system {}", 1, "tags"),
        ("a: !!timestamp 2026-01-01", 1, "tags"),
        ("a: !own [1]", 1, "tags"),
        ("? [a]\n: b", 1, "a key must be text"),
        ("? {a: b}\n: b", 1, "a key must be text"),
        ("&k k: 1\n*k : 2", 2, "a key must be text"),
        ("a: 1\n---\nb: 2", 2, "a second document"),
        ("a: [1,\n2", 3, "not YAML"),
        ("a: b\n c: d", 2, "not YAML"),
        ("a: 1\n\tb: 2", 2, "not YAML"),
        ("a: \x00", 1, "not YAML"),
        ("[" * 100_000, 1, "nested deeper than 64"),
        ("\n" + "{a: " * 100_000, 2, "nested deeper than 64"),
    ],
)
def test_what_is_not_understood_is_a_fault_with_its_line(text, line, part):
    [(found, _, message)] = faults(text)
    assert part in message
    assert found == line


@pytest.mark.parametrize(
    ("content", "line", "part"),
    [
        (b'{"a": 1,\n "b": }', 2, "not JSON"),
        (b"", 1, "not JSON"),
        (b'{"a": 1}\n{"b": 2}', 2, "not JSON"),
        (b'\n{"a": "\xff"}', 2, "not UTF-8"),
        (b'{"a": NaN}', 1, "not JSON"),
        (b'{"a": "\\ud800"}', 1, "not JSON"),
        (b"[" * 100_000, 1, "nested too deep"),
    ],
)
def test_what_is_not_json_is_a_fault_with_its_line(write, content, line, part):
    [fault] = file.read(write("a.json", content)).faults
    assert part in fault.message
    assert fault.line == line


def test_yaml_that_is_not_utf_8_is_a_fault_with_its_line(write):
    [fault] = file.read(write("a.yaml", b"a: 1\nb: \xff")).faults
    assert (fault.line, fault.message) == (2, "not UTF-8")


def test_a_byte_order_mark_does_not_matter(write):
    assert file.read(write("a.yaml", b"\xef\xbb\xbfa: 1")).value == {"a": 1}


def test_a_file_has_a_largest_size(write, monkeypatch):
    monkeypatch.setattr(file, "YAML_BYTES_MAX", 1 << 20)
    monkeypatch.setattr(file, "JSON_BYTES_MAX", 2 << 20)
    fits = '"' + "x" * ((1 << 20) - 2) + '"'
    assert file.read(write("a.yaml", fits)).faults == []
    with pytest.raises(CatalogError, match="larger than 1 MiB; JSON may be larger"):
        file.read(write("a.yaml", fits + " "))
    assert file.read(write("a.json", fits + " ")).faults == []
    with pytest.raises(CatalogError, match=r"larger than 2 MiB$"):
        file.read(write("a.json", fits + " " * (1 << 20) + " "))


def test_a_file_that_can_not_be_read_is_an_error(tmp_path):
    with pytest.raises(CatalogError, match="No such file"):
        file.read(tmp_path / "none.yaml")
    with pytest.raises(CatalogError, match="Is a directory"):
        file.read(tmp_path)


# -- what people see


def test_a_path_is_written_as_people_write_it():
    assert path_of(("line_items", 3, "flight", "end")) == "line_items[3].flight.end"
    assert path_of(()) == ""
    assert path_of(("odd name", 0, "a.b")) == '"odd name"[0]."a.b"'


def test_shown_values_are_short_and_do_not_control_the_terminal():
    assert shown("Müller") == '"Müller"'
    assert shown("\x1b[2J\u202e\n") == '"\\x1b[2J\\u202e\\n"'
    assert len(shown("x" * 1000)) == 60
    assert len(shown(["x" * 1000])) == 60
    assert shown(5) == "5"
