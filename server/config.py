"""Settings from `ADCORE_*` environment variables: one frozen Struct, all faults reported at once.

A name is the field's name in capitals: `redis_url` is ADCORE_REDIS_URL. Durations and sizes carry
their unit. A list is words between blanks.
"""

import ipaddress
import os
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec
from msgspec import Meta, Struct

from server.errors import ConfigError

PREFIX = "ADCORE_"
_OF_SETUP = "ADCORE_BUILD"  # read by setup.py and the Makefile, and no setting of a server
SECRET_BYTES_MIN = 32  # as long as the HMAC's block needs; shorter keys can be guessed offline
SECRET_CHARACTERS_MIN = 8  # different ones: 32 random hexadecimal digits have fewer once in 10^7
_DEFAULT_SECRETS = ("changeme", "secret", "password", "default", "example")
_SECRETS = (
    "token_key",
    "token_key_previous",
    "token_key_next",
    "user_key",
    "ops_key",
    "ledger_key",
)

# Userinfo and query may hold a password and are not shown; nor is any part of a URL that does not
# read like this, such as one with a bare @ or ? in its password.
_REDIS_URL = re.compile(
    r"""(?P<scheme>[\w+]+://) (?P<user>[^@?#]*@)?
        (?P<place> (?:(?:\[[0-9a-fA-F:.]+\] | [^@?#:/\[\]]+) (?::\d+)?)?
                   (?:,[^@?#:/\[\],]+:\d+ | ,\[[0-9a-fA-F:.]+\]:\d+)* (?:/[^@?#]*)? )
        (?P<query>\?[^@#]*)? \Z""",
    re.VERBOSE,
)
_SINCE = re.compile(r"@([0-9]{1,12})")
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:@\[\]]+):([0-9]{1,5})")
_ORIGIN = re.compile(r"https?://[^\s/?#@]+\Z")

Port = Annotated[int, Meta(ge=1, le=65535)]
RedisUrl = Annotated[str, Meta(pattern=r"^(redis|rediss|unix|rediss?\+sentinel)://")]
BaseUrl = Annotated[str, Meta(pattern=r"^https?://[^\s/?#]+$(?!\n)")]
HeaderName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9-]*$(?!\n)")]
Words = tuple[str, ...]


class Config(Struct, frozen=True, kw_only=True):
    # -- where things are
    redis_url: RedisUrl = "redis://127.0.0.1:6379/0"
    redis_prefix: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,32}$(?!\n)")] = "adcore"
    # How many replicas must have a grant before it is used.
    redis_replicas: Annotated[int, Meta(ge=0, le=16)] = 0
    host: str = "127.0.0.1"
    port: Port = 8081
    ops_host: str = "127.0.0.1"
    ops_port: Port = 9091
    # What browsers and SDKs call us by; tracking URLs start with it.
    base_url: BaseUrl = "http://127.0.0.1:8081"
    # Small, fast, private to this server: snapshots, counters. Empty: a fresh folder in memory.
    run_dir: str = ""
    # Billable frames wait here for the forwarder. Empty: below run_dir.
    spool_dir: str = ""

    # -- serving
    door: Literal["direct", "rsgi", "asgi"] = "direct"
    workers: Annotated[int, Meta(ge=1, le=256)] = 1
    drain_s: Annotated[float, Meta(ge=0, le=300)] = 1.0
    kill_timeout_s: Annotated[int, Meta(ge=1, le=300)] = 20
    body_timeout_s: Annotated[float, Meta(gt=0, le=60)] = 5.0
    spool_bytes_max: Annotated[int, Meta(ge=1 << 16, le=1 << 40)] = 1 << 30
    # What a request may wait for its user's counts; then on_unknown decides.
    cap_deadline_ms: Annotated[float, Meta(ge=1, le=50)] = 5.0
    # One in so many decisions is logged whole; totals are rebuilt from its weight. 0: none.
    decision_log_one_in: Annotated[int, Meta(ge=0, le=1_000_000)] = 100
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    # Demo, staging: callers may set the decision's time (X-Adcore-Time), and are then never billed.
    preview: bool = False

    # -- the ledger
    # The aggregators, host:port, in the order of their shards. `@SECONDS` begins another list, for
    # tokens issued from that moment (UTC) on: so the number of shards can change.
    aggregators: Words = ()
    shard: Annotated[int, Meta(ge=0, le=4095)] = 0
    aggregate_host: str = "127.0.0.1"
    aggregate_port: Port = 24224  # Fluentd's own
    # Where `adcore lines` spells the spool for a stock shipper.
    lines_dir: str = ""
    # The log and its checkpoints: a disk that outlives the machine.
    ledger_dir: str = ""
    # Where closed segments and their events go: a folder, or an object store that fsspec knows.
    archive_url: str = ""
    wal_keep_h: Annotated[int, Meta(ge=0, le=8760)] = 72
    # PEM files; with a certificate an aggregator speaks TLS, with a CA a forwarder does.
    ledger_tls_cert_file: str = ""
    ledger_tls_key_file: str = ""
    ledger_tls_ca_file: str = ""

    # -- whom to believe
    trusted_proxies: Words = ()  # CIDR ranges whose X-Forwarded-For is believed
    country_header: HeaderName = ""  # the CDN's, such as cf-ipcountry; believed only when named
    geo_db: str = ""  # path of a MaxMind country or city database
    datacentre_ranges: str = ""  # path of a file of CIDR ranges, from which nothing is billed
    cors_origins: Words = ()  # origins whose pages may read our answers

    # -- secrets
    token_key: str = ""
    token_key_previous: str = ""
    token_key_next: str = ""
    # Hashes users' keys. Without it the token key does, and when that is rotated caps begin anew.
    user_key: str = ""
    ops_key: str = ""
    ledger_key: str = ""  # shared by forwarders and aggregators; empty: anybody may send

    def redacted(self) -> dict[str, Any]:
        """Show every setting as it may be logged: secrets as set or unset, no password in a URL."""
        shown: dict[str, Any] = msgspec.to_builtins(self)
        for name in _SECRETS:
            shown[name] = "set" if shown[name] else "unset"
        shown["redis_url"] = _redacted_url(self.redis_url)
        if "://" in self.archive_url:
            shown["archive_url"] = _redacted_url(self.archive_url)
        return shown

    def __repr__(self) -> str:
        # In a traceback or a log line by mistake, it must tell no more than the log is told.
        return f"Config({self.redacted()})"


def _redacted_url(url: str) -> str:
    found = _REDIS_URL.match(url)
    if found is None:
        return url.partition("://")[0] + "://***"
    user, query = found["user"] and "***@", found["query"] and "?***"
    return f"{found['scheme']}{user or ''}{found['place']}{query or ''}"


_SENTINEL_URL = re.compile(
    r"(?P<scheme>rediss?)\+sentinel://(?:(?P<user>[^@/?#]*)@)?(?P<places>[^@/?#]+)"
    r"/(?P<master>[^@/?#\s]+)(?:/(?P<db>\d{1,4}))?(?:\?(?P<query>[^#]*))?"
)
_SENTINEL_OPTIONS: Final = {"sentinel_username", "sentinel_password", "ssl_ca_certs"}


class SentinelUrl(NamedTuple):
    """`redis+sentinel://[[USER]:PASSWORD@]HOST:PORT[,HOST:PORT...]/MASTER[/DB]`; `rediss`: by TLS.

    The password is Redis's own; `?sentinel_password=` is that of the sentinels, which may have
    none. `ssl_ca_certs` names the CA's file, for both.
    """

    tls: bool
    username: str
    password: str
    sentinels: tuple[tuple[str, int], ...]
    master: str  # what the sentinels call it
    db: int
    options: dict[str, str]


def sentinel_url(url: str) -> SentinelUrl | None:
    """Read such a URL; None: it is of another kind. ValueError tells nothing of its contents."""
    if not url.startswith(("redis+sentinel://", "rediss+sentinel://")):
        return None
    found = _SENTINEL_URL.fullmatch(url)
    if found is None:
        raise ValueError("not redis+sentinel://HOST:PORT[,HOST:PORT...]/MASTER[/DB]")
    places = [_ADDRESS.fullmatch(place) for place in found["places"].split(",")]
    options = dict(parse_qsl(found["query"] or "", keep_blank_values=True))
    if not options.keys() <= _SENTINEL_OPTIONS:
        raise ValueError("an option that sentinels do not have")
    sentinels = []
    for place in places:
        if place is None or not 1 <= int(place[2]) <= 65535:
            raise ValueError("a sentinel is not HOST:PORT")
        sentinels.append((place[1].strip("[]"), int(place[2])))
    username, _, password = (found["user"] or "").partition(":")
    return SentinelUrl(
        tls=found["scheme"] == "rediss",
        username=unquote(username),
        password=unquote(password),
        sentinels=tuple(sentinels),
        master=unquote(found["master"]),
        db=int(found["db"] or 0),
        options=options,
    )


def shard_epochs(words: Words) -> list[tuple[int, list[tuple[str, int]]]]:
    """Read ADCORE_AGGREGATORS as (from when on, the aggregators' addresses), in order of time."""
    epochs: list[tuple[int, list[tuple[str, int]]]] = [(0, [])]
    for word in words:
        if since := _SINCE.fullmatch(word):
            epochs.append((int(since[1]), []))
        elif address := _ADDRESS.fullmatch(word):
            epochs[-1][1].append((address[1].strip("[]"), int(address[2])))
        else:
            raise ValueError(f"{word!r} is neither host:port nor @SECONDS")
    if len(epochs) > 1 and any(not addresses for _, addresses in epochs):
        raise ValueError("a list without an aggregator")
    if [since_s for since_s, _ in epochs] != sorted({since_s for since_s, _ in epochs}):
        raise ValueError("moments out of order")
    return epochs


def load(environ: Mapping[str, str], *, needs_token_key: bool = False) -> Config:
    """Read the settings; ConfigError names every fault, one a line, and echoes no secret."""
    fields = {f"{PREFIX}{field.name.upper()}": field for field in msgspec.structs.fields(Config)}
    faults: list[str] = []
    values: dict[str, Any] = {}
    for variable, text in sorted(environ.items()):
        if not variable.startswith(PREFIX) or variable == _OF_SETUP:
            continue
        if variable not in fields:
            faults.append(f"{variable}: no such setting")
            continue
        field = fields[variable]
        try:
            text.encode()
            raw: Any = text.split() if field.type == Words else text
            values[field.name] = msgspec.convert(raw, field.type, strict=False)
        except UnicodeEncodeError:
            faults.append(f"{variable}: not UTF-8")
        except msgspec.ValidationError as error:
            faults.append(f"{variable}: {error}")
    config = Config(**values)
    faults += [*_secret_faults(config, needs_token_key), *_place_faults(config)]
    if faults:
        raise ConfigError("\n".join(faults))
    return config


def _secret_faults(config: Config, needs_token_key: bool) -> Iterator[str]:
    if needs_token_key and not config.token_key:
        yield "ADCORE_TOKEN_KEY: missing; make one with `openssl rand -hex 32`"
    for name in _SECRETS:
        variable, secret = PREFIX + name.upper(), getattr(config, name)
        if not secret:
            continue
        if secret != secret.strip():
            # As a rule a file's last line feed: the next server, configured otherwise, lacks it.
            yield f"{variable}: begins or ends with a blank"
        elif len(secret.encode()) < SECRET_BYTES_MIN:
            yield f"{variable}: shorter than {SECRET_BYTES_MIN} bytes"
        elif len(set(secret)) < SECRET_CHARACTERS_MIN or any(
            word in secret.lower() for word in _DEFAULT_SECRETS
        ):
            yield f"{variable}: a default or trivial secret"


def _place_faults(config: Config) -> Iterator[str]:
    for name in ("host", "ops_host", "aggregate_host"):
        try:
            ipaddress.ip_address(getattr(config, name))
        except ValueError:
            yield f"{PREFIX}{name.upper()}: not an IP address"
    try:
        if sentinel_url(config.redis_url) is None:
            _ = urlsplit(config.redis_url).port
    except ValueError:
        yield "ADCORE_REDIS_URL: not the URL of a Redis"
    if config.port == config.ops_port:
        yield "ADCORE_OPS_PORT: the same as ADCORE_PORT"
    for text in config.trusted_proxies:
        try:
            ipaddress.ip_network(text)
        except ValueError as error:
            yield f"ADCORE_TRUSTED_PROXIES: {error}"
    for origin in config.cors_origins:
        if not _ORIGIN.match(origin):
            yield f"ADCORE_CORS_ORIGINS: {origin!r} is not scheme://host[:port]"
    try:
        shard_epochs(config.aggregators)
    except ValueError as error:
        yield f"ADCORE_AGGREGATORS: {error}"
    for name in ("geo_db", "datacentre_ranges"):
        path = getattr(config, name)
        if path and not os.access(path, os.R_OK):
            yield f"{PREFIX}{name.upper()}: no file that we can read"
