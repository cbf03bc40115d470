"""A very small Hugging Face Hub on the loopback address, and a child process that talks to it with the real client."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "hf_dummy"


class HubStub:
    """Repositories in memory: id -> {"refs": {branch: commit}, "commits": {commit: {path: bytes}}}."""

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, Any]] = {}
        self.calls: list[tuple[str, str]] = []
        self.connections: list[socket.socket] = []
        stub = self

        class Handler(_Handler):
            hub = stub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def create(self, repo_id: str) -> None:
        self.repos[repo_id] = {"refs": {}, "commits": {}}
        self.commit(repo_id, "main", {})

    def commit(self, repo_id: str, branch: str, changes: dict[str, bytes | None]) -> str:
        repo = self.repos[repo_id]
        files = dict(repo["commits"].get(repo["refs"].get(branch), {}))
        for path, content in changes.items():
            if content is None:
                files.pop(path, None)
            else:
                files[path] = content
        listing = repr((len(repo["commits"]), branch, [(p, _blob(c)) for p, c in sorted(files.items())]))
        sha = hashlib.sha1(listing.encode()).hexdigest()
        repo["commits"][sha] = files
        repo["refs"][branch] = sha
        return sha

    def files(self, repo_id: str, revision: str = "main") -> dict[str, bytes] | None:
        repo = self.repos[repo_id]
        return repo["commits"].get(repo["refs"].get(revision, revision))

    def close(self) -> None:
        if self._thread.is_alive():
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            for connection in self.connections:  # clients keep theirs open for the next call
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)


def _blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    hub: HubStub
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.hub.connections.append(self.connection)

    def log_message(self, *args: object) -> None:
        pass

    def _answer(self, content: object, code: int = 200, error: str | None = None, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(code)
        if error:
            self.send_header("X-Error-Code", error)
            self.send_header("X-Error-Message", error)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header(
            "Content-Type", "application/octet-stream" if isinstance(content, bytes) else "application/json"
        )
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _parts(self) -> list[str]:
        path = urlsplit(self.path).path
        self.hub.calls.append((self.command, path))
        return [unquote(part) for part in path.strip("/").split("/")]

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = self._parts()
        if parts[:2] == ["api", "models"]:
            repo_id, rest = "/".join(parts[2:4]), parts[4:]
        else:
            repo_id, rest = "/".join(parts[:2]), parts[2:]
        if repo_id == "org/gated":
            return self._answer({"error": "gated"}, 403, "GatedRepo")
        if repo_id not in self.hub.repos:
            return self._answer({"error": "no repo"}, 404, "RepoNotFound")
        revision = rest[1] if len(rest) > 1 else "main"
        files = self.hub.files(repo_id, revision)
        if files is None:
            return self._answer({"error": "no revision"}, 404, "RevisionNotFound")
        sha = self.hub.repos[repo_id]["refs"].get(revision, revision)
        if parts[0] == "api" and (not rest or rest[0] == "revision"):
            siblings = [{"rfilename": path} for path in files]
            return self._answer({"id": repo_id, "modelId": repo_id, "sha": sha, "private": False, "siblings": siblings})
        if parts[0] == "api" and rest[0] == "tree":
            tree = [{"type": "file", "path": p, "size": len(c), "oid": _blob(c)} for p, c in files.items()]
            return self._answer(tree)
        if rest[0] == "resolve":
            path = "/".join(rest[2:])
            if path not in files:
                return self._answer({"error": "no entry"}, 404, "EntryNotFound", X_Repo_Commit=sha)
            return self._answer(files[path], ETag=f'"{_blob(files[path])}"', X_Repo_Commit=sha)
        return self._answer({"error": f"unexpected {self.path}"}, 500)

    def do_POST(self) -> None:
        parts = self._parts()
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._answer({"error": "who are you"}, 401)
        if parts == ["api", "repos", "create"]:
            wanted = json.loads(body)
            repo_id = f"{wanted.get('organization') or 'me'}/{wanted['name']}"
            known = repo_id in self.hub.repos
            if not known:
                self.hub.create(repo_id)
            return self._answer({"url": f"{self.hub.url}/{repo_id}", "id": repo_id}, 409 if known else 200)
        if parts == ["api", "validate-yaml"]:
            return self._answer({"errors": [], "warnings": []})
        repo_id, action, revision = "/".join(parts[2:4]), parts[4], parts[5]
        if action == "preupload":
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]
            ]
            return self._answer({"files": files})
        if action == "branch":
            known = revision in self.hub.repos[repo_id]["refs"]
            if not known:
                self.hub.commit(repo_id, revision, self.hub.files(repo_id) or {})
            return self._answer({}, 409 if known else 200)
        if action == "commit":
            lines = [json.loads(line) for line in body.splitlines()]
            changes = {x["value"]["path"]: base64.b64decode(x["value"]["content"]) for x in lines if x["key"] == "file"}
            sha = self.hub.commit(repo_id, revision, changes)
            return self._answer(
                {"success": True, "commitUrl": f"{self.hub.url}/{repo_id}/commit/{sha}", "commitOid": sha}
            )
        return self._answer({"error": f"unexpected {self.path}"}, 500)


class HubClient:
    """A child process whose huggingface_hub talks to the stub; one line of JSON per call."""

    def __init__(self, url: str, home: Path) -> None:
        keep = {k: v for k, v in os.environ.items() if not k.startswith("HF_") and "proxy" not in k.lower()}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.helpers.hub_stub"],
            cwd=ROOT,
            env={**keep, "HF_ENDPOINT": url, "HF_HOME": str(home), "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def call(self, name: str, *args: object, **kwargs: object) -> Any:
        """Call `locate`, `load_model` or `push_model` there.

        Returns what it gave, or a pair of error class name and message.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([name, args, kwargs]) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate(timeout=20)


def summary(folder: str) -> dict[str, object]:
    """What was loaded, in a form that fits in a line."""
    from limnet.hub.model import load_model

    found = load_model(folder)
    first = [float(next(net.parameters()).detach().sum()) for net in (found.interaction, found.propagation)]
    return {"class": type(found.interaction).__name__, "settings": found.settings, "card": found.card, "sums": first}


def main() -> None:
    """The child process: reads calls from standard input, answers on standard output."""
    from limnet.errors import LimnetError
    from limnet.hub.folder import TABLE
    from limnet.hub.model import locate, push_model
    from tests.helpers import standins

    calls = {"locate": lambda *a, **k: str(locate(*a, **k)), "load_model": summary, "push_model": push_model}
    standins.register_for_good(TABLE)
    answers, sys.stdout = sys.stdout, sys.stderr  # progress bars and chatter must not mix with the answers
    for line in sys.stdin:
        name, args, kwargs = json.loads(line)
        try:
            answer = calls[name](*args, **kwargs)
        except LimnetError as error:
            answer = [type(error).__name__, str(error)]
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
