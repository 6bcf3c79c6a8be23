"""Who is let in: a matrix of requests against a rule that is stated here once more, in other words."""

import itertools

import pytest

from peftbench.site.guard import COOKIE, Guard
from peftbench.site.serve import hosts_of
from tests.asgi import asked

HOSTS = (
    "127.0.0.1:8787", "localhost:8787", "[::1]:8787", "127.0.0.1", "localhost", "127.0.0.1:8788", "127.0.0.2:8787",
    "evil.example", "evil.example:8787", "localhost.evil.example:8787", "127.0.0.1.evil.example:8787", "LOCALHOST:8787",
    "localhost:08787", "0.0.0.0:8787", "127.1:8787", "2130706433:8787", "localhost:8787.", "a@127.0.0.1:8787", "", None,
)  # fmt: skip
ORIGINS = (
    None, "http://127.0.0.1:8787", "http://localhost:8787", "https://127.0.0.1:8787", "http://127.0.0.1", "null",
    "http://evil.example", "http://127.0.0.1:8787.evil.example", "file://", "",
)  # fmt: skip
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "get")
PATHS = ("/", "/index.html", "/data/index.js", "/data/live.js", "/../etc/passwd", "/nothing")


async def inside(scope, _receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"access-control-allow-origin", b"x")]})
    await send({"type": "http.response.body", "body": b"secret"})


def may_pass(host, origin, method):
    """The rule: the server's own name, the page's own origin or none at all, and only to read."""
    own = host in {"127.0.0.1:8787", "localhost:8787"}
    return own and origin in {None, f"http://{host}"} and method in {"GET", "HEAD"}


def headers_of(**values):
    return [(name.replace("_", "-"), value) for name, value in values.items() if value is not None]


def test_the_matrix():
    guard = Guard(inside, hosts_of("127.0.0.1", 8787))
    count = 0
    for host, origin, method, path in itertools.product(HOSTS, ORIGINS, METHODS, PATHS):
        status, headers, body = asked(guard, method, path, headers_of(host=host, origin=origin))
        case = (host, origin, method, path)
        if may_pass(host, origin, method):
            assert (status, body) == (200, b"" if method == "HEAD" else b"secret"), case
        else:
            assert status in (403, 405), case
            assert b"secret" not in body, case
        assert headers["x-content-type-options"] == "nosniff", case
        assert headers["referrer-policy"] == "no-referrer", case
        assert headers["cross-origin-opener-policy"] == headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["content-security-policy"].startswith("default-src 'none'"), case
        count += 1
    assert count == 12_000


SITES = (None, "same-origin", "none", "same-site", "cross-site", "", "CROSS-SITE", "weird")
MODES = (None, "navigate", "no-cors", "cors", "websocket", "same-origin")
TARGETS = (None, "document", "script", "iframe", "image", "empty", "embed", "object")


def test_what_a_browser_says_of_itself():
    guard = Guard(inside, hosts_of("127.0.0.1", 8787))
    for site, mode, target, method, path in itertools.product(SITES, MODES, TARGETS, ("GET", "HEAD"), PATHS[:3]):
        values = headers_of(host="localhost:8787", sec_fetch_site=site, sec_fetch_mode=mode, sec_fetch_dest=target)
        status, _, _ = asked(guard, method, path, values)
        link = mode == "navigate" and target == "document" and method == "GET" and path in ("/", "/index.html")
        assert status == (200 if site in (None, "same-origin", "none") or link else 403), (values, method, path)


def test_no_header_twice():
    guard = Guard(inside, hosts_of("127.0.0.1", 8787))
    own, other = ("host", "127.0.0.1:8787"), ("host", "evil.example")
    for pair in ((own, other), (other, own), (own, own)):
        assert asked(guard, headers=pair)[0] == 403
    twice = [own, ("origin", "http://127.0.0.1:8787"), ("origin", "http://evil.example")]
    assert asked(guard, headers=twice)[0] == 403
    assert asked(guard, headers=[own, ("sec-fetch-site", "none"), ("sec-fetch-site", "none")])[0] == 403


def test_requests_are_small():
    guard = Guard(inside, hosts_of("127.0.0.1", 8787))
    own = ("host", "127.0.0.1:8787")
    assert asked(guard, headers=[own, ("content-length", "1")])[0] == 413
    assert asked(guard, headers=[own, ("content-length", "0")])[0] == 200
    assert asked(guard, headers=[own, ("transfer-encoding", "chunked")])[0] == 413
    assert asked(guard, path="/" + "a" * 2000, headers=[own])[0] == 414
    assert asked(guard, query=b"a" * 2000, headers=[own])[0] == 414
    assert asked(guard, headers=[own, ("x", "a" * 10_000), ("y", "a" * 10_000)])[0] == 431


def test_a_token_is_asked_of_everyone():
    token, lines = "t" * 32, []
    guard = Guard(inside, hosts_of("192.0.2.7", 8787), token, lines.append)
    own = ("host", "192.0.2.7:8787")
    wrong = ["", "t" * 31, "t" * 33, "T" * 32, "\xe9" * 32]
    for path in PATHS:
        assert asked(guard, path=path, headers=[own])[0] == 401
        for each in wrong:
            assert asked(guard, path=path, headers=[own, ("cookie", f"{COOKIE}={each}")])[0] == 401
            assert asked(guard, path=path, headers=[own], query=f"token={each}".encode("latin-1"))[0] == 401
        assert asked(guard, path=path, headers=[own, ("cookie", f"a=b; {COOKIE}={token}")])[0] == 200
    status, headers, body = asked(guard, headers=[own], query=f"token={token}".encode())
    assert (status, headers["location"]) == (303, "/")
    assert headers["set-cookie"] == f"{COOKIE}={token}; HttpOnly; SameSite=Strict; Path=/"
    assert b"secret" not in body
    # What is redirected to is on this server, whatever was asked for.
    for path in ("//evil.example/", "/\\evil.example", "///evil.example", "/%0d%0aSet-Cookie: a=b", "/a\r\nb: c"):
        place = asked(guard, path=path, headers=[own], query=f"token={token}".encode())[1]["location"]
        assert place.startswith("/")
        assert not place.startswith("//")
        assert place.isprintable()
    # The address alone is not enough, nor is the token without it.
    assert asked(guard, headers=[("host", "evil.example"), ("cookie", f"{COOKIE}={token}")])[0] == 403
    assert not any(token in line for line in lines)


def test_lines_of_the_log_have_no_control_characters():
    lines = []
    guard = Guard(inside, hosts_of("127.0.0.1", 8787), None, lines.append)
    hostile = "/\x1b[2J\r\n\u202e\u2028\x00\x9b31m" + "x" * 500
    asked(guard, path=hostile, headers=[("host", "evil.example")])
    [line] = lines
    assert line.isascii()
    assert line.isprintable()
    assert len(line) < 300
    assert line.startswith("403 GET /\\x1b[2J")


@pytest.mark.parametrize(
    ("host", "port", "expected"),
    [
        ("127.0.0.1", 8787, {"127.0.0.1:8787", "localhost:8787"}),
        ("localhost", 1, {"localhost:1"}),
        ("::1", 9, {"[::1]:9", "localhost:9"}),
        ("192.0.2.7", 9, {"192.0.2.7:9"}),
        ("127.0.0.1", 80, {"127.0.0.1:80", "localhost:80", "127.0.0.1", "localhost"}),
    ],
)
def test_the_names_of_a_server(host, port, expected):
    assert hosts_of(host, port) == expected
