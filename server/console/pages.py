"""The demo's web pages, read into memory once and answered by exact path.

A path that is not a key does not exist, so no request can reach another file. Answers are plain
tuples of status, headers and body, as this folder may not import `server.delivery`.
"""

from pathlib import Path
from typing import Final, TypeAlias

Answer: TypeAlias = tuple[int, tuple[tuple[str, str], ...], bytes]

STATIC: Final = Path(__file__).parent / "static"
ASSETS: Final = "/assets/"

_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

_PAGE_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        # HTML creatives bring their own <style>, and a srcdoc frame inherits this policy. Their
        # frames are sandboxed without allow-scripts, and 'self' above allows no inline script.
        "style-src 'self' 'unsafe-inline'",
        # Pictures and beacons of ads come from whatever address the catalog names.
        "img-src 'self' data: http: https:",
        "connect-src 'self'",
        "frame-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
# Opened by itself an SVG is a document, and could run script: this takes that away.
_SVG_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; sandbox"

# Pages and code change with the server; pictures seldom do, and an hour spares most of the traffic.
_FRESH: Final = ("cache-control", "no-cache")
_KEPT: Final = ("cache-control", "public, max-age=3600")
_COMMON: Final = (("x-content-type-options", "nosniff"), ("referrer-policy", "same-origin"))


def load_pages() -> dict[str, Answer]:
    """`/` and everything below `/assets/`, ready to send."""
    pages = {}
    for file in sorted(STATIC.rglob("*")):
        if not file.is_file():
            continue
        name = file.relative_to(STATIC).as_posix()
        path = "/" if name == "index.html" else ASSETS + name
        pages[path] = (200, _headers(file.suffix), file.read_bytes())
    return pages


def _headers(suffix: str) -> tuple[tuple[str, str], ...]:
    # An unlisted suffix is a mistake of ours, and fails here at start.
    headers = (("content-type", _TYPES[suffix]), *_COMMON)
    if suffix == ".svg":
        return (*headers, _KEPT, ("content-security-policy", _SVG_POLICY))
    if suffix == ".html":
        return (*headers, _FRESH, ("content-security-policy", _PAGE_POLICY))
    return (*headers, _FRESH)
