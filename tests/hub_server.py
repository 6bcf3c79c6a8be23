"""A hub of datasets and models on the loopback interface, for tests of downloads.

It speaks as much of the Hugging Face hub's HTTP interface as `huggingface_hub` and `datasets` use to read a
repository: its facts, tree listing, path facts, and files with ETag, size and ranges. Repositories are plain
dictionaries; faults (refusals, cut connections, commits taken away) are set on the server while it runs.
"""

import hashlib
import json
import threading
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass
class Repository:
    """Commits of one repository, each a mapping of file paths to bytes; `main` names one of them."""

    main: str
    commits: dict[str, dict[str, bytes]]


@dataclass
class HubServer:
    """Serve repositories while used as a context manager; `endpoint` is its address."""

    repositories: dict[str, Repository]
    refusal: tuple[int, str] | None = None
    """Answer every request with this status and error code."""
    cuts: dict[str, int] = field(default_factory=dict)
    """How often a file's body still ends half-way; -1 for ever, with nothing beyond the half."""
    requests: Counter[str] = field(default_factory=Counter)
    """Every request so far, as `METHOD path`."""

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @cached_property
    def _server(self) -> ThreadingHTTPServer:
        handler = type("Handler", (_Handler,), {"hub": self})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        return server

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def transfers(self, ending: str = "") -> int:
        """How many bodies of files with this ending were asked for."""
        return sum(
            count
            for request, count in self.requests.items()
            if request.startswith("GET") and "/resolve/" in request and request.endswith(ending)
        )


class _Refused(Exception):
    def __init__(self, status: int, code: str) -> None:
        self.status, self.code = status, code


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        url = urlsplit(self.path)
        self.hub.requests[f"{self.command} {unquote(url.path)}"] += 1
        try:
            if self.hub.refusal is not None:
                raise _Refused(*self.hub.refusal)
            parts = unquote(url.path).strip("/").split("/")
            if parts[0] == "api" and parts[1] in ("datasets", "models"):
                self._facts(parts[2:], body)
            elif parts[0] == "datasets" and parts[3] == "resolve":
                self._file("/".join(parts[1:3]), parts[4], "/".join(parts[5:]))
            elif len(parts) > 4 and parts[2] == "resolve":  # a model
                self._file("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
            else:
                raise _Refused(404, "EntryNotFound")
        except _Refused as refused:
            self._send(refused.status, b"{}", {"X-Error-Code": refused.code, "X-Error-Message": "refused"})

    def _commit(self, name: str, revision: str) -> tuple[str, dict[str, bytes]]:
        if name not in self.hub.repositories:
            raise _Refused(404, "RepoNotFound")
        repository = self.hub.repositories[name]
        sha = repository.main if revision == "main" else revision
        if sha not in repository.commits:
            raise _Refused(404, "RevisionNotFound")
        return sha, repository.commits[sha]

    def _facts(self, parts: list[str], body: bytes) -> None:
        name, what = "/".join(parts[:2]), parts[2] if len(parts) > 2 else "revision"
        sha, files = self._commit(name, parts[3] if len(parts) > 3 else "main")
        if what == "revision":
            facts: Any = {
                "id": name,
                "sha": sha,
                "private": False,
                "gated": False,
                "tags": [],
                "siblings": [{"rfilename": path} for path in files],
            }
        elif what == "auth-check":
            facts = {}
        elif what == "tree":
            facts = _tree(files, "/".join(parts[4:]))
        elif what == "paths-info":
            sent = self.headers.get("Content-Type", "")
            wanted = json.loads(body)["paths"] if "json" in sent else parse_qs(body.decode()).get("paths", [])
            facts = [item for item in _tree(files, "") if item["path"] in wanted]
        else:
            raise _Refused(404, "EntryNotFound")
        self._send(200, json.dumps(facts).encode(), {"Content-Type": "application/json"})

    def _file(self, name: str, revision: str, path: str) -> None:
        sha, files = self._commit(name, revision)
        if path not in files:
            raise _Refused(404, "EntryNotFound")
        content = files[path]
        headers = {
            "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
            "X-Repo-Commit": sha,
            "Accept-Ranges": "bytes",
        }
        asked = self.headers.get("Range", "").removeprefix("bytes=")
        first, _, last = asked.partition("-")
        begin = int(first or 0)
        part = content[begin : int(last) + 1 if last else None]
        if asked:
            headers["Content-Range"] = f"bytes {begin}-{begin + len(part) - 1}/{len(content)}"
        cut_at = None
        if self.command == "GET" and self.hub.cuts.get(path):
            self.hub.cuts[path] -= 1 if self.hub.cuts[path] > 0 else 0
            cut_at = max(len(content) // 2 - begin, 0)
        self._send(206 if asked else 200, part, headers, cut_at)

    def _send(self, status: int, content: bytes, headers: dict[str, str], cut_at: int | None = None) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[:cut_at])
        if cut_at is not None:
            self.close_connection = True


def _tree(files: dict[str, bytes], folder: str) -> list[dict[str, Any]]:
    """Files and folders below `folder`, however deep."""
    inside = f"{folder}/" if folder else ""
    items: dict[str, dict[str, Any]] = {}
    for path, content in files.items():
        if not path.startswith(inside):
            continue
        steps = path[len(inside) :].split("/")[:-1]
        for depth in range(len(steps)):
            above = inside + "/".join(steps[: depth + 1])
            items[above] = {"type": "directory", "oid": "0" * 40, "size": 0, "path": above}
        oid = hashlib.sha1(content, usedforsecurity=False).hexdigest()
        items[path] = {"type": "file", "oid": oid, "size": len(content), "path": path}
    return list(items.values())
