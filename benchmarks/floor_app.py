"""The floor: our own serving, with an app that does nothing but read the body and answer.

Every figure of ours is read against this one from the same run: what HTTP, the event loop and
Python cost before the first line of an ad server. The same code starts Granian with the same
options.
"""

import argparse
import os
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from server.config import Config
from server.delivery.core import JSON_HEADERS
from server.families import MAIN
from server.lifeline import die_with
from server.metrics import Metrics
from server.serve import Server


class Floor:
    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    async def __rsgi__(self, scope: Any, proto: Any) -> None:
        await proto()
        proto.response_bytes(200, JSON_HEADERS, self._answer)


def build(answer_bytes: int, parent: int, worker: str) -> Any:
    """Make the app, in the worker."""
    die_with(parent)
    return Floor(b"x" * answer_bytes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--answer-bytes", type=int, required=True, help="ours on average")
    asked = parser.parse_args()
    config = Config(port=asked.port, log_level="warning", drain_s=0)
    with tempfile.TemporaryDirectory(prefix="adcore-floor-") as folder:
        Server(config, Metrics(Path(folder), MAIN)).serve(
            target_loader=partial(build, asked.answer_bytes, os.getpid()), wrap_loader=False
        )


if __name__ == "__main__":
    main()
