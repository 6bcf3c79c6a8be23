"""One request to an ASGI application, in process and as it would come off the wire."""

import asyncio
from concurrent.futures import ThreadPoolExecutor


def asked(app, method="GET", path="/", headers=(), query=b"", scheme="http", body=b""):
    """Status, headers (lower-case names to the last value) and body of the answer."""
    with ThreadPoolExecutor(1) as thread:  # a browser test before this one may have left a loop in the main one
        return thread.submit(asyncio.run, _asked(app, method, path, headers, query, scheme, body)).result()


async def _asked(app, method, path, headers, query, scheme, body):
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": scheme,
        "path": path, "raw_path": path.encode("utf-8", "surrogateescape"), "query_string": query, "root_path": "",
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers],
        "client": ("127.0.0.1", 50000), "server": ("127.0.0.1", 8787),
    }  # fmt: skip
    sent = []

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    start = next(each for each in sent if each["type"] == "http.response.start")
    found = {name.decode().lower(): value.decode("latin-1") for name, value in start["headers"]}
    return (
        start["status"],
        found,
        b"".join(each.get("body", b"") for each in sent if each["type"] == "http.response.body"),
    )
