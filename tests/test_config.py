"""Settings: every fault is named at once, what is taken is in bounds, no secret is ever shown."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.config import SECRET_BYTES_MIN, Config, load
from server.errors import ConfigError

pytestmark = pytest.mark.plain

KEY = "0123456789abcdef" * 4
NO_NUL = st.characters(exclude_characters="\0")
TEXT = st.text(NO_NUL, max_size=60)
SECRET = st.text(st.sampled_from(string.ascii_letters + string.digits), min_size=32, max_size=64)
NAMES = Config.__struct_fields__


def faults_of(environ: dict[str, str], **options: bool) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        load(environ, **options)
    return dict(line.split(": ", 1) for line in str(caught.value).splitlines())


def test_defaults_are_enough_except_for_the_token_key():
    assert load({}) == Config()
    assert load({"ADCORE_TOKEN_KEY": KEY}, needs_token_key=True) == Config(token_key=KEY)
    assert faults_of({}, needs_token_key=True).keys() == {"ADCORE_TOKEN_KEY"}


def test_every_type_of_setting_is_read():
    config = load(
        {
            "ADCORE_PORT": "80",
            "ADCORE_DRAIN_S": "0.25",
            "ADCORE_PREVIEW": "true",
            "ADCORE_DOOR": "asgi",
            "ADCORE_TRUSTED_PROXIES": " 10.0.0.0/8\t2001:db8::/32 ",
            "ADCORE_CORS_ORIGINS": "https://news.example http://localhost:3000",
            "ADCORE_OPS_HOST": "::1",
            "PATH": "/bin",
        }
    )
    assert config == Config(
        port=80,
        drain_s=0.25,
        preview=True,
        door="asgi",
        trusted_proxies=("10.0.0.0/8", "2001:db8::/32"),
        cors_origins=("https://news.example", "http://localhost:3000"),
        ops_host="::1",
    )


WRONG = {
    "ADCORE_REDIS_URL": "http://redis",
    "ADCORE_REDIS_PREFIX": "a:b",
    "ADCORE_HOST": "localhost",
    "ADCORE_PORT": "0",
    "ADCORE_OPS_HOST": "999.0.0.1",
    "ADCORE_OPS_PORT": "65536",
    "ADCORE_BASE_URL": "https://ads.example/path",
    "ADCORE_DOOR": "wsgi",
    "ADCORE_WORKERS": "many",
    "ADCORE_DRAIN_S": "nan",
    "ADCORE_BODY_TIMEOUT_S": "0",
    "ADCORE_KILL_TIMEOUT_S": "1.5",
    "ADCORE_SPOOL_BYTES_MAX": "1",
    "ADCORE_LOG_LEVEL": "loud",
    "ADCORE_PREVIEW": "maybe",
    "ADCORE_TRUSTED_PROXIES": "10.0.0.0/8 10.0.0.1/8",
    "ADCORE_COUNTRY_HEADER": "cf ipcountry",
    "ADCORE_CORS_ORIGINS": "https://news.example/ *",
    "ADCORE_GEO_DB": "/nowhere/at/all.mmdb",
    "ADCORE_DATACENTRE_RANGES": "/nowhere/at/all.txt",
    "ADCORE_TOKEN_KEY": "tiny!",
    "ADCORE_TOKEN_KEY_PREVIOUS": "0" * 64,
    "ADCORE_TOKEN_KEY_NEXT": f"changeme-{KEY}",
    "ADCORE_OPS_KEY": KEY + "\n",
    "ADCORE_PROT": "8081",
    "ADCORE_port": "8081",
}


def test_all_faults_are_reported_at_once():
    assert faults_of(WRONG, needs_token_key=True).keys() == WRONG.keys()


@pytest.mark.parametrize("variable", WRONG)
def test_each_fault_is_a_fault_alone(variable):
    faults = faults_of({variable: WRONG[variable]})
    assert faults.keys() == {variable}
    if "KEY" in variable:
        assert WRONG[variable].strip() not in faults[variable]


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("ADCORE_REDIS_URL", "redis://host:port"),
        ("ADCORE_REDIS_PREFIX", "adcore\n"),
        ("ADCORE_BASE_URL", "https://ads.example\n"),
        ("ADCORE_COUNTRY_HEADER", "cf-ipcountry\n"),
        ("ADCORE_CORS_ORIGINS", "https://"),
        ("ADCORE_OPS_PORT", "8081"),
        ("ADCORE_TOKEN_KEY", KEY[: SECRET_BYTES_MIN - 1]),
        ("ADCORE_RUN_DIR", "/run/\udcff"),
    ],
)
def test_near_misses_are_faults(variable, text):
    assert faults_of({variable: text}).keys() == {variable}


def test_a_secret_may_be_as_short_as_the_bound():
    assert load({"ADCORE_TOKEN_KEY": KEY[:SECRET_BYTES_MIN]}).token_key


@given(st.dictionaries(st.sampled_from(NAMES).map(lambda name: f"ADCORE_{name.upper()}"), TEXT))
def test_any_text_is_either_taken_or_named_as_a_fault(environ):
    try:
        config = load(environ)
    except ConfigError as error:
        named = {line.partition(":")[0] for line in str(error).splitlines()}
        # The two ports are compared: a fault there may name the one that was not given.
        assert named <= {*environ, "ADCORE_OPS_PORT"}
    else:
        assert 1 <= config.port <= 65535
        assert 0 <= config.drain_s <= 300


@given(
    secrets=st.fixed_dictionaries(
        {}, optional={f"ADCORE_{name}": SECRET for name in ("TOKEN_KEY", "OPS_KEY")}
    ),
    password=st.text(NO_NUL, min_size=8),
    shape=st.sampled_from(
        [
            "redis://user:{}@cache.example:6379/0",
            "rediss://:{}@cache.example",
            "redis://cache.example?password={}",
            "unix://{}@/run/r.sock?db=1",
            "redis://:{}",
        ]
    ),
)
def test_no_secret_and_no_password_is_shown(secrets, password, shape):
    url = shape.format(password)
    config = Config(
        redis_url=url,
        token_key=secrets.get("ADCORE_TOKEN_KEY", ""),
        ops_key=secrets.get("ADCORE_OPS_KEY", ""),
    )
    without = [str(Config(redis_url=shape.format("x")).redacted()), "redis://***"]
    for shown in (str(config.redacted()), repr(config), f"{config}"):
        for secret in (password, password[:-1], password[1:], *secrets.values()):
            # What is shown of any such URL anyway may look like a part of a password.
            assert secret not in shown or any(secret in usual for usual in without)
    for name in ("token_key", "ops_key"):
        state = "set" if getattr(config, name) else "unset"
        assert config.redacted()[name] == state


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://cache:6379/0", "redis://cache:6379/0"),
        ("redis://[::1]:6379/0", "redis://[::1]:6379/0"),
        ("redis://me:hunter2@cache:6379/0", "redis://***@cache:6379/0"),
        ("unix:///run/redis.sock?password=hunter2", "unix:///run/redis.sock?***"),
        ("redis://:hun?ter2@cache", "redis://***"),
        ("redis://:hun@ter2@cache", "redis://***"),
        ("redis://cache?password=hun@ter2", "redis://***"),
        ("redis://:hunter2", "redis://***"),
    ],
)
def test_the_url_of_redis_is_shown_without_its_password(url, shown):
    assert Config(redis_url=url).redacted()["redis_url"] == shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("a/folder", "a/folder"),
        ("s3://bucket/place", "s3://bucket/place"),
        ("ftp://me:word@host/place?key=word", "ftp://***@host/place?***"),
    ],
)
def test_an_archive_s_password_is_not_shown(url, shown):
    assert Config(archive_url=url).redacted()["archive_url"] == shown


@given(
    st.dictionaries(
        st.sampled_from(
            [name for name in NAMES if "key" in name and not name.endswith("_file")]
        ).map(lambda name: f"ADCORE_{name.upper()}"),
        st.text(NO_NUL, min_size=4, max_size=7),  # 28 bytes at most
        min_size=1,
    )
)
def test_a_refused_secret_is_not_echoed(environ):
    with pytest.raises(ConfigError) as caught:
        load(environ)
    usual = (
        "ADCORE_TOKEN_KEY_PREVIOUS_NEXT_OPS_LEDGER: "
        "shorter than 32 bytes begins or ends with a blank"
    )
    for secret in environ.values():
        assert secret not in str(caught.value) or secret in usual
