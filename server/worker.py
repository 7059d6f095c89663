"""One worker, put together: the only place that knows all of its parts."""

import re
from pathlib import Path
from socket import gethostname
from typing import Any, Final

from server import granian_direct
from server.clock import now_s
from server.config import Config
from server.delivery.core import Core
from server.delivery.datacentres import read_ranges
from server.delivery.door_asgi import AsgiDoor
from server.delivery.door_direct import DirectDoor
from server.delivery.door_rsgi import RsgiDoor
from server.delivery.robots import Robots
from server.delivery.snapshot import Holder
from server.delivery.spool import Spool
from server.delivery.tally import Tally
from server.delivery.tokens import Keyring
from server.delivery.tracing import Tracer
from server.delivery.tracking import Tracker
from server.delivery.users import Users
from server.delivery.worker import Worker
from server.demo_pages import demo_pages
from server.metrics import Metrics
from server.store.keyspace import Keyspace
from server.store.users import user_hasher

PRODUCER_CHARS_MAX: Final = 64  # the spool's; the end of a long name is what differs


def build(config: Config, run_dir: str, name: str, demo: bool) -> Any:
    """The application of the worker `name`, for the door that the settings choose."""
    folder = Path(run_dir)
    metrics = Metrics(folder, name)
    holder = Holder(folder)
    keyring = Keyring(
        config.token_key.encode(),
        config.token_key_previous.encode(),
        config.token_key_next.encode(),
    )
    spool = Spool(
        config.spool_dir or folder / "spool",
        _producer(name),
        now_s=now_s(),
        bytes_max=config.spool_bytes_max,
    )
    tracker = Tracker(
        keyring,
        spool,
        holder.click_url,
        holder.lookbacks,
        lambda kind, outcome: metrics.tracked(kind.name.lower(), outcome.name.lower()),
        Robots(),
        read_ranges(config.datacentre_ranges),
    )
    pages = demo_pages(holder, folder) if demo else {}
    keys = Keyspace(config.redis_prefix)
    users = Users(config.redis_url, keys, user_hasher(config), metrics, config.cap_deadline_ms)
    tracer = _tracer(config, name, metrics)
    core = Core(config, holder, keyring, tracker, Tally(metrics), pages, users, tracer)
    worker = Worker(core, holder, spool, users, metrics, config.body_timeout_s, tracer)
    if config.door == "asgi":
        return AsgiDoor(worker)
    if config.door == "rsgi":
        return RsgiDoor(worker)
    door = DirectDoor(worker)
    metrics.direct(granian_direct.install(door.dispatch))
    return door


def _tracer(config: Config, name: str, metrics: Metrics) -> Tracer | None:
    if not config.trace_one_in:
        return None
    return Tracer(config.trace_one_in, config.trace_url, name, metrics.traced)


def _producer(name: str) -> str:
    """Who wrote a frame, over all machines: host and worker, in the spool's alphabet."""
    return re.sub(r"[^A-Za-z0-9_.]", ".", f"{gethostname()}.{name}")[-PRODUCER_CHARS_MAX:]
