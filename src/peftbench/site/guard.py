"""Who may ask the server for what: its own page in a browser on this machine, and nobody in its name.

Plain ASGI around the application. A page of another site that reaches this port is told nothing: the names it
could use are refused (DNS rebinding), and so is what a browser sends on its behalf. Nothing here touches a file.
"""

import hmac
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types peftbench"
)
HEADERS = (
    (b"content-security-policy", CONTENT_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-embedder-policy", b"require-corp"),
    (b"cache-control", b"no-store"),
)
"""What every answer carries, refusals too. There is no header that lets another site read."""
COOKIE = "peftbench_token"
LONGEST_PATH, LONGEST_QUERY, MOST_HEADER_BYTES = 1000, 1000, 16_384


@dataclass(frozen=True)
class Refusal:
    """An answer other than what was asked for."""

    status: int
    text: str
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Guard:
    """Lets through what the page itself asks for."""

    def __init__(
        self, app: App, hosts: Iterable[str], token: str | None = None, log: Callable[[str], None] | None = None
    ) -> None:
        """`hosts` are the values of the header Host that are right, port included."""
        self.app, self.hosts, self.token, self.log = app, frozenset(hosts), token, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        refusal = self._refusal(scope)

        async def guarded(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                own = {name for name, _ in HEADERS}
                rest = [pair for pair in message.get("headers", ()) if pair[0].lower() not in own]
                message = {**message, "headers": [*rest, *HEADERS]}
                if self.log is not None and message["status"] >= 400:
                    self.log(f"{message['status']} {_line(scope['method'], 20)} {_line(scope['path'], 200)}")
            elif scope["method"] == "HEAD":
                message = {**message, "body": b""}
            await send(message)

        if refusal is None:
            await self.app(scope, receive, guarded)
            return
        body = f"{refusal.text}\n".encode()
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]
        await guarded(
            {"type": "http.response.start", "status": refusal.status, "headers": [*headers, *refusal.headers]}
        )
        await guarded({"type": "http.response.body", "body": body})

    def _refusal(self, scope: Scope) -> Refusal | None:
        headers: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.lower(), []).append(value)

        def one(name: bytes) -> str | None:
            found = headers.get(name, [])
            return found[0].decode("latin-1") if len(found) == 1 else "" if found else None

        host = one(b"host")
        if host is None or host not in self.hosts:
            return Refusal(403, "This server answers to its own address alone; open the address that it printed.")
        if scope["method"] not in ("GET", "HEAD"):
            return Refusal(405, "This server only reads.", ((b"allow", b"GET, HEAD"),))
        if one(b"content-length") not in (None, "0") or b"transfer-encoding" in headers:
            return Refusal(413, "A request has no body here.")
        if len(scope["path"]) > LONGEST_PATH or len(scope["query_string"]) > LONGEST_QUERY:
            return Refusal(414, "The address is too long.")
        # The server below counts only what comes in pieces.
        if sum(len(name) + len(value) for name, value in scope["headers"]) > MOST_HEADER_BYTES:
            return Refusal(431, "The headers are too long.")
        origin, site = one(b"origin"), one(b"sec-fetch-site")
        if origin is not None and origin != f"{scope.get('scheme', 'http')}://{host}":
            return Refusal(403, "Another site asks; open the page itself.")
        if site not in (None, "same-origin", "none") and not _is_link(scope, one):
            return Refusal(403, "Another site asks; open the page itself.")
        return self._without_token(scope, one) if self.token is not None else None

    def _without_token(self, scope: Scope, one: Callable[[bytes], str | None]) -> Refusal | None:
        given = parse_qs(scope["query_string"].decode("latin-1"), max_num_fields=20).get("token", [])
        if given and self._is_token(given[0]):
            # The token goes into a cookie and out of the address, which is copied and kept in histories.
            cookie = f"{COOKIE}={self.token}; HttpOnly; SameSite=Strict; Path=/".encode()
            # Two slashes at its head would lead to another server.
            place = f"/{re.sub(r'[^A-Za-z0-9._/-]', '', scope['path']).lstrip('/')}".encode()
            return Refusal(303, "Go on without the token.", ((b"location", place), (b"set-cookie", cookie)))
        cookies = (part.strip().partition("=") for part in (one(b"cookie") or "").split(";"))
        if any(name == COOKIE and self._is_token(value) for name, _, value in cookies):
            return None
        return Refusal(401, "A token is needed; open the address that the server printed.")

    def _is_token(self, given: str) -> bool:
        assert self.token is not None
        return hmac.compare_digest(given.encode(), self.token.encode())


def _is_link(scope: Scope, one: Callable[[bytes], str | None]) -> bool:
    """Whether a person followed a link to the page from elsewhere: a whole window, no frame and no script."""
    whole = one(b"sec-fetch-mode") == "navigate" and one(b"sec-fetch-dest") == "document"
    return whole and scope["path"] in ("/", "/index.html") and scope["method"] == "GET"


def _line(text: str, most: int) -> str:
    """Text of a request as a part of one line, whatever a terminal would make of it."""
    short = text if len(text) <= most else f"{text[:most]}..."
    return "".join(c if c.isprintable() and c.isascii() else f"\\x{ord(c):02x}" for c in short)
