"""Logs: one JSON object a line on stdout, from our own code and from Granian alike.

Fields: time (RFC 3339, UTC), level, process, logger, message, then whatever the caller gave as
`extra`. JSON escapes control characters and line ends, so no text from outside can forge a line.
"""

import logging.config
from datetime import UTC, datetime
from typing import Any

from pythonjsonlogger.json import JsonFormatter


class Line(JsonFormatter):
    def __init__(self, process: str) -> None:
        super().__init__(
            ["asctime", "levelname", "process", "name", "message"],
            rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
            # Overrides the number that logging itself calls `process`.
            static_fields={"process": process},
        )

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def settings(process: str, level: str) -> dict[str, Any]:
    """Make what `logging.config.dictConfig` takes, and Granian, which applies it in its workers."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": Line, "process": process}},
        "handlers": {
            "stdout": {
                "class": "logging.StreamHandler",
                "stream": "ext://sys.stdout",
                "formatter": "line",
            }
        },
        "root": {"handlers": ["stdout"], "level": level.upper()},
        # Granian sets the level of this one.
        "loggers": {"_granian": {}},
    }


def configure(process: str, level: str) -> None:
    """Set up the process whose name (worker-1, loader, main) is to stand in each line."""
    logging.config.dictConfig(settings(process, level))
