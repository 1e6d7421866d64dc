"""A hub on 127.0.0.1: the endpoints that huggingface_hub asks for one model, and no more.

* ``GET /api/models/{repo}`` and ``.../revision/{revision}``: commit and list of files;
* ``GET /api/models/{repo}/tree/{revision}``: files with their sizes;
* ``HEAD`` and ``GET /{repo}/resolve/{revision}/{file}``: with commit and ETag, and byte ranges.

What the real hub says of a missing repository, revision or file, and of a gated repository, stands
in headers: https://github.com/huggingface/huggingface_hub/blob/main/src/huggingface_hub/utils/_http.py
(`hf_raise_for_status`).
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_of_a_member"


@dataclass
class Repository:
    """A folder that is served; `gated` asks for `TOKEN`."""

    folder: Path
    gated: bool = False
    revisions: tuple[str, ...] = ("main", "v1", COMMIT)


@dataclass
class Hub:
    """The server's state, and what it was asked for."""

    endpoint: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    broken_status: int | None = None
    raw: dict[str, dict] = field(default_factory=dict)
    """Path -> status, headers and body of an answer that no good hub would give."""
    requests: list[tuple[str, str, str | None, str | None]] = field(default_factory=list)
    """Method, path, Range header and Authorization header."""

    def served_bytes(self) -> dict[str, int]:
        """Bytes of each file that were sent in answer to GET."""
        return dict(self._served)

    _served: dict[str, int] = field(default_factory=dict)


def start(hub: Hub) -> ThreadingHTTPServer:
    """Serve on a free port, until ``shutdown`` is called."""

    class Handler(_Handler):
        pass

    Handler.hub = hub
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args) -> None:
        pass

    def do_HEAD(self) -> None:
        self._route()

    def do_GET(self) -> None:
        self._route()

    def _route(self) -> None:
        headers = self.headers
        self.hub.requests.append(
            (self.command, self.path, headers.get("Range"), headers.get("Authorization"))
        )
        if self.hub.broken_status is not None:
            return self._answer(self.hub.broken_status)
        raw = self.hub.raw.get(self.path)
        if raw is not None:
            body = raw.get("body", "").encode("utf-8", errors="surrogatepass")
            return self._answer(raw.get("status", 200), raw.get("headers"), body, self.path)
        api = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?", self.path)
        if api:
            return self._info(api[1], api[2] or "main")
        tree = re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/?]+)(?:\?.*)?", self.path)
        if tree:
            return self._tree(tree[1], tree[2])
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path)
        if file:
            return self._file(file[1], file[2], file[3])
        return self._answer(404)

    def _repository(self, name: str, revision: str) -> Repository | None:
        repository = self.hub.repositories.get(name)
        if repository is None:
            # The hub does not tell a stranger whether a repository is private or missing.
            self._answer(401, {"X-Error-Code": "RepoNotFound"})
        elif revision not in repository.revisions:
            self._answer(404, {"X-Error-Code": "RevisionNotFound"})
        else:
            return repository
        return None

    def _info(self, name: str, revision: str) -> None:
        repository = self._repository(name, revision)
        if repository is None:
            return
        files = sorted(p for p in repository.folder.rglob("*") if p.is_file())
        siblings = [{"rfilename": p.relative_to(repository.folder).as_posix()} for p in files]
        info = {"id": name, "sha": COMMIT, "siblings": siblings}
        self._answer(200, {"Content-Type": "application/json"}, json.dumps(info).encode())

    def _tree(self, name: str, revision: str) -> None:
        repository = self._repository(name, revision)
        if repository is None:
            return
        files = sorted(p for p in repository.folder.rglob("*") if p.is_file())
        listed = [
            {
                "type": "file",
                "path": p.relative_to(repository.folder).as_posix(),
                "size": p.stat().st_size,
                "oid": hashlib.sha1(p.read_bytes()).hexdigest(),
            }
            for p in files
        ]
        self._answer(200, {"Content-Type": "application/json"}, json.dumps(listed).encode())

    def _file(self, name: str, revision: str, path: str) -> None:
        repository = self._repository(name, revision)
        if repository is None:
            return
        headers = {"X-Repo-Commit": COMMIT}
        if repository.gated and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._answer(401, {**headers, "X-Error-Code": "GatedRepo"})
        if not (repository.folder / path).is_file():
            return self._answer(404, {**headers, "X-Error-Code": "EntryNotFound"})
        content = (repository.folder / path).read_bytes()
        headers["ETag"] = f'"{hashlib.sha1(content).hexdigest()}"'
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or "")
        if wanted:
            part = content[int(wanted[1]) : int(wanted[2]) + 1]
            headers["Content-Range"] = f"bytes {wanted[1]}-{wanted[2]}/{len(content)}"
            return self._answer(206, headers, part, path)
        return self._answer(200, headers, content, path)

    def _answer(
        self, status: int, headers: dict | None = None, body: bytes = b"", path: str = ""
    ) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")  # or a thread would wait for the next request
        self.end_headers()
        if self.command == "GET":
            self.hub._served[path] = self.hub._served.get(path, 0) + len(body)
            self.wfile.write(body)
