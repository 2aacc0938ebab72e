"""Access to the server: only for a page that this server sent, on this machine."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping

ASKED = ("host", "origin", "sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest")
"""The headers of a request that say where it comes from."""
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
"""Headers of every answer: the page loads only from this server, and runs only its own scripts."""


def refusal(asked: Mapping[str, str | None], method: str, path: str, port: int, token: str) -> str | None:
    """The reason to refuse a request, or None. ``asked`` are its headers of ``ASKED``.

    The ``Host`` must be this machine by its own name, else a name that was bound anew to 127.0.0.1 could ask; the
    ``Origin``, where there is one, must be this page; and the path must begin with the token. What another site asks is
    refused, but for a person's way to the page itself: a link, or the file that opens the browser.
    """
    own = {f"{name}:{port}" for name in ("127.0.0.1", "localhost")}
    origin, site = asked.get("origin"), asked.get("sec-fetch-site")
    if asked.get("host") not in own:
        return "the Host of the request is another one than this machine"
    if origin is not None and origin not in {f"http://{name}" for name in own}:
        return "the request comes from another origin"
    gone_to = (method, asked.get("sec-fetch-mode"), asked.get("sec-fetch-dest")) == ("GET", "navigate", "document")
    if site not in (None, "none", "same-origin") and not (gone_to and path == f"/{token}/"):
        return "the request comes from another site"
    given = path.lstrip("/").partition("/")[0]
    if not secrets.compare_digest(given.encode(), token.encode()):
        return "the token in the address is missing or wrong"
    return None


def header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str | None:
    """The value of a header; of one that stands twice, both, which no check accepts."""
    found = [value.decode("latin-1") for key, value in headers if key.lower() == name]
    return ", ".join(found) if found else None
