"""Logs: whatever is logged is one line with one JSON object, whose text is what was logged."""

import json
import logging
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.logs import Line

FORMATTER = Line("worker-1")


def line_of(message: str, *arguments: object, **extra: object) -> str:
    logger = logging.getLogger("server.somewhere")
    record = logger.makeRecord(
        logger.name, logging.WARNING, "file.py", 1, message, arguments, None, extra=extra
    )
    return FORMATTER.format(record)


@given(message=st.text(), detail=st.text(), name=st.from_regex(r"[a-z]{3,9}_s", fullmatch=True))
def test_any_text_stays_on_its_line_and_is_read_back(message, detail, name):
    line = line_of("%s", message, **{name: detail})
    assert line.isascii()
    assert line.isprintable()  # no line end, no escape sequence for a terminal
    found = json.loads(line)
    assert found.pop("time") <= datetime.now(UTC).isoformat()
    assert found == {
        "level": "WARNING",
        "process": "worker-1",
        "logger": "server.somewhere",
        "message": message,
        name: detail,
    }


def test_the_time_stands_first_and_is_utc():
    line = line_of("hello")
    assert line.startswith('{"time": "2')
    assert datetime.fromisoformat(json.loads(line)["time"]).tzinfo == UTC


def test_a_traceback_is_one_field():
    with pytest.raises(ZeroDivisionError) as caught:
        _ = 1 // 0
    error = (caught.type, caught.value, caught.tb)
    record = logging.LogRecord("x", logging.ERROR, "file.py", 1, "failed", None, error)
    line = FORMATTER.format(record)
    assert line.isprintable()
    assert json.loads(line)["exc_info"].endswith(
        "ZeroDivisionError: integer division or modulo by zero"
    )
