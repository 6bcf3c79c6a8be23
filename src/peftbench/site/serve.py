"""The page over a read-only server: the same addresses as the built folder, from the records as they are now.

No address leads to a file: the page is in memory, and a name of data is looked up among those that there are.
"""

import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peftbench.errors import ConfigError, NotInstalled, PeftBenchError
from peftbench.observer import Observer
from peftbench.records import TrainRecord
from peftbench.site import content, pages
from peftbench.site.build import assets
from peftbench.site.costs import flops_of
from peftbench.site.guard import MOST_HEADER_BYTES, App, Guard
from peftbench.site.live import live
from peftbench.site.payload import statement
from peftbench.site.shelf import Entry, Opened, Shelf, open_predictions

if TYPE_CHECKING:
    import uvicorn

PORT = 8787
MADE_HERE = "auto"
"""Stands for a token that the server makes."""
FRESH_SECONDS = 2.0
"""Files are looked at again after so long, not at each request."""
REQUEST_SECONDS = 10.0
"""A request must have come whole after so long."""
MOST_CONNECTIONS = 64
_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
    ".txt": "text/plain; charset=utf-8",
}
_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}(/[A-Za-z0-9._-]{1,100}){0,2}")


class Pages:
    """The data of the page from the records as they are now; several threads may ask."""

    def __init__(
        self,
        folders: Sequence[Path],
        title: str = "Runs",
        data_dir: Path | None = None,
        flops: Callable[[TrainRecord], float | None] = flops_of,
    ) -> None:
        """Raises `DataError` for a folder that is not there."""
        self.shelf, self.title, self.data_dir = Shelf(folders), title, data_dir
        self._flops_of, self._flops = flops, dict[str, float | None]()
        self._lock, self._looked = threading.Lock(), -FRESH_SECONDS
        self._content: content.Content | None = None
        self._index = b""
        self._opened: tuple[Entry, Opened] | None = None

    def data(self, name: str) -> bytes | None:
        """The file of this name, as `build` would write it; None where there is none."""
        if not _NAME.fullmatch(name):
            return None
        with self._lock:
            found = self._value(name)
        return statement(name, found) if found is not None and not isinstance(found, bytes) else found

    def refresh(self, observer: Observer | None = None) -> content.Content:
        """Read what has changed."""
        if self._content is None or time.monotonic() - self._looked > FRESH_SECONDS:
            changed = self.shelf.read(observer=observer)
            if changed or self._content is None:
                self._content = content.content_of(
                    self.shelf, self.title, before=self._content, flops=self._kept_flops, observer=observer
                )
                self._index = statement("index", content.index(self._content, live=True))
            self._looked = time.monotonic()
        return self._content

    def _kept_flops(self, record: TrainRecord) -> float | None:
        config = record.config
        key = f"{config.model} {config.method} {config.training.batch_size} {record.model.precision}"
        if key not in self._flops:
            self._flops[key] = self._flops_of(record)
        return self._flops[key]

    def _value(self, name: str) -> Any:
        found = self.refresh()
        kind, _, rest = name.partition("/")
        rest, _, page = rest.partition("/")
        if name == "index":
            return self._index
        if name == "live":
            return live(self.shelf)
        if kind == "predictions":
            return self._predictions(found.entries.get(rest), page)
        if page:
            return None
        if kind == "draws":
            group = found.group(rest)
            return content.draws(group) if group and group.draws else None
        if kind == "method" and rest in found.methods:
            return pages.method(found, found.methods[rest])
        if kind == "dataset" and rest in found.datasets:
            return pages.dataset(found.datasets[rest], self.data_dir)
        if kind == "run" and rest in found.entries:
            return pages.run(found.entries[rest])
        return None

    def _predictions(self, entry: Entry | None, page: str) -> dict[str, Any] | None:
        if entry is None or entry.counted is None or not re.fullmatch(r"0|[1-9][0-9]{0,6}", page):
            return None
        if self._opened is None or self._opened[0] is not entry:
            try:
                self._opened = entry, open_predictions(entry.result)
            except PeftBenchError:
                return None
        opened = self._opened[1]
        if int(page) * pages.PAGE_ROWS >= len(opened.stored):
            return None
        return pages.predictions(entry, opened, int(page), self.data_dir)


def application(found: Pages) -> App:
    """The server's application, without its guard; raises `NotInstalled` without Starlette."""
    try:
        from starlette.applications import Starlette
        from starlette.requests import Request
        from starlette.responses import Response
        from starlette.routing import Route
    except ModuleNotFoundError as error:
        raise NotInstalled(error.name, "a page that is served needs", "site") from None
    files = assets()

    def page(request: Request) -> Response:
        name = request.path_params.get("name") or "index.html"
        kind = _KINDS.get(Path(name).suffix)
        if name not in files or kind is None:
            return Response("There is nothing here.\n", 404, media_type="text/plain")
        return Response(files[name], media_type=kind)

    def data(request: Request) -> Response:
        body = found.data(request.path_params["name"])
        if body is None:
            return Response("There is nothing here.\n", 404, media_type="text/plain")
        return Response(body, media_type=_KINDS[".js"])

    return Starlette(routes=[Route("/data/{name:path}.js", data), Route("/{name:path}", page)])


def serve(
    folders: Sequence[Path],
    *,
    host: str = "127.0.0.1",
    port: int = PORT,
    token: str | None = None,
    title: str = "Runs",
    data_dir: Path | None = None,
    tell: Callable[[str], None] = print,
    observer: Observer | None = None,
) -> None:
    """Serve the page until the process is stopped; `tell` is given the address, and a line for each refusal.

    An address other than loopback's needs a token, which every request must then know; `auto` makes one. Raises
    `ConfigError` where that is missing or the port is taken, and the errors of `application` and `Pages`.
    """
    if not _is_loopback(host) and not token:
        raise ConfigError(
            f"{host} can be reached by other machines; pass --token auto, or a token of your own, so that only "
            "who knows it sees the page"
        )
    if token is not None and token != MADE_HERE and not re.fullmatch(r"[A-Za-z0-9_-]{16,200}", token):
        raise ConfigError("--token is too simple; give at least 16 letters, digits, - and _, or auto")
    secret = secrets.token_urlsafe(24) if token == MADE_HERE else token
    found = Pages(folders, title, data_dir)
    app = application(found)
    listening = _bound(host, port)
    try:
        found.refresh(observer)
        own_port = listening.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        tell(f"http://{shown}:{own_port}/{f'?token={secret}' if secret else ''}")
        server_of(Guard(app, hosts_of(host, own_port), secret, tell)).run(sockets=[listening])
    finally:
        listening.close()


def hosts_of(host: str, port: int) -> frozenset[str]:
    """The values of the header Host that a server bound to an address answers to."""
    names = {f"[{host}]" if ":" in host else host.lower()}
    if _is_loopback(host):
        names.add("localhost")
    elif host in ("0.0.0.0", "::"):  # noqa: S104
        own = socket.gethostname()
        names = {"localhost", "127.0.0.1", "[::1]", own.lower(), socket.getfqdn(own).lower()}
        try:
            found = {str(each[4][0]) for each in socket.getaddrinfo(own, None)}
        except OSError:
            found = set()
        names |= {f"[{each}]" if ":" in each else each for each in found}
    bare = names if port == 80 else set()
    return frozenset({f"{name}:{port}" for name in names} | bare)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _bound(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
    except (OSError, OverflowError, UnicodeError) as error:
        raise ConfigError(
            f"{host!r} and port {port} are no address to listen at ({error}); name another"
        ) from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise ConfigError(
            f"port {port} of {host} cannot be used ({error.strerror}); choose another with --port, or 0 for any"
        ) from error
    return listening


def server_of(app: App) -> "uvicorn.Server":
    """A server with bounds on what it takes and how long it waits; it is given its socket when it is run."""
    import uvicorn
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Hurried(H11Protocol):
        """Closes a connection whose request does not come."""

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._deadline = self.loop.call_later(REQUEST_SECONDS, self._too_late)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if not self._waiting():
                self._deadline.cancel()
            elif self._deadline.cancelled():
                self._deadline = self.loop.call_later(REQUEST_SECONDS, self._too_late)

        def _waiting(self) -> bool:
            return self.cycle is None or self.cycle.response_complete

        def _too_late(self) -> None:
            if self._waiting():
                self.transport.close()

    config = uvicorn.Config(
        app,
        http=Hurried,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=MOST_HEADER_BYTES,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=3,
    )
    return uvicorn.Server(config)
