"""The part of the Hugging Face hub's HTTP interface that an upload needs, on loopback."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

import yaml


class FakeHub(ThreadingHTTPServer):
    """Repositories by name, as files by path; `status` answers every request where it is set."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.token = "hf_secret"
        self.status: int | None = None
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.messages: list[str] = []

    def create(self, asked: dict[str, Any]) -> tuple[int, Any]:
        name = f"{asked['organization']}/{asked['name']}"
        is_new = name not in self.repositories
        self.repositories.setdefault(name, {})
        is_private = asked.get("private", asked.get("visibility") == "private")
        self.private.setdefault(name, is_private)
        return 200 if is_new else 409, {"url": f"{self.url}/{name}"}

    def validate(self, asked: dict[str, Any]) -> tuple[int, Any]:
        _, head, _ = asked["content"].split("---\n", 2)
        fault = None if isinstance(yaml.safe_load(head), dict) else {"message": "no metadata"}
        return 200, {"errors": [fault] if fault else [], "warnings": []}

    def commit(self, name: str, lines: list[dict[str, Any]]) -> tuple[int, Any]:
        for line in lines:
            if line["key"] == "header":
                self.messages.append(line["value"]["summary"])
            elif line["key"] == "file":
                content = base64.b64decode(line["value"]["content"])
                self.repositories[name][line["value"]["path"]] = content
        oid = "c" * 40
        return 200, {"commitUrl": f"{self.url}/{name}/commit/{oid}", "commitOid": oid}


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *line: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer(404, {"error": "not found"})

    def do_POST(self) -> None:
        hub = cast(FakeHub, self.server)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if hub.status is not None:
            self._answer(hub.status, {"error": "no"})
        elif self.headers.get("Authorization") != f"Bearer {hub.token}":
            self._answer(401, {"error": "Invalid username or password."})
        else:
            self._answer(*_act(hub, self.path.partition("?")[0].split("/")[2:], body))

    def _answer(self, status: int, content: Any) -> None:
        raw = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


def _act(hub: FakeHub, path: list[str], body: bytes) -> tuple[int, Any]:
    match path:
        case ["repos", "create"]:
            return hub.create(json.loads(body))
        case ["validate-yaml"]:
            return hub.validate(json.loads(body))
        case ["models", _, _, "preupload", _]:
            named = [each["path"] for each in json.loads(body)["files"]]
            answer = {"uploadMode": "regular", "shouldIgnore": False}
            return 200, {"files": [{"path": path, **answer} for path in named]}
        case ["models", owner, name, "commit", _]:
            return hub.commit(f"{owner}/{name}", [json.loads(line) for line in body.splitlines()])
    return 404, {"error": f"no {path}"}


@contextmanager
def running_hub() -> Iterator[FakeHub]:
    """Yield a hub on a free port."""
    with FakeHub() as hub:
        thread = threading.Thread(target=hub.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield hub
        hub.shutdown()
        thread.join()
