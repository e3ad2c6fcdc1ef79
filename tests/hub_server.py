"""A Hub on loopback: as much of the Hub's HTTP interface as huggingface_hub needs to make, fill and read repositories.

`python tests/hub_server.py` prints its address and serves until it is ended; `HubServer` does the same in a thread.
Uploads are asked for as `regular` files, which keeps large-file storage out of it. Nothing is written to disk.
"""

import base64
import hashlib
import json
import re
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

TOKENS = {"hf_owner": "someone", "hf_stranger": "stranger"}
LICENCES = {"apache-2.0", "mit", "cc-by-4.0", "openrail", "other", "unknown"}


@dataclass
class Repository:
    private: bool
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)  # sha => path => content
    branches: dict[str, str] = field(default_factory=dict)  # name => sha

    def commit(self, branch: str, files: dict[str, bytes]) -> str:
        digest = hashlib.sha1(json.dumps([len(self.commits), sorted(files)]).encode()).hexdigest()
        self.commits[digest] = files
        self.branches[branch] = digest
        return digest

    def find(self, revision: str) -> str | None:
        sha = self.branches.get(revision, revision)
        return sha if sha in self.commits else None


class HubServer:
    """Serves on a free port of 127.0.0.1 while the `with` block runs.

    `failures` maps a part of a path to status codes, which the next requests of it get one after the other.
    """

    def __init__(self):
        self.repositories: dict[str, Repository] = {}
        self.failures: dict[str, list[int]] = {}
        self.requests: Counter = Counter()  # "METHOD path without query" => how often
        handler = type("Handler", (_Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> "HubServer":
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error) -> None:
        self.server.shutdown()
        self.server.server_close()

    def files(self, name: str, revision: str = "main") -> dict[str, bytes]:
        repository = self.repositories[name]
        return repository.commits[repository.branches[revision]]


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *args) -> None:
        pass

    def do_GET(self):
        self.route()

    do_HEAD = do_POST = do_GET

    def route(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        path, self.query = unquote(url.path), parse_qs(url.query)
        self.hub.requests[f"{self.command} {path}"] += 1
        for part, statuses in self.hub.failures.items():
            if part in path and statuses:
                return self.answer(statuses.pop(0), {"error": "out of order"})
        for method, pattern, action in _ROUTES:
            match = re.fullmatch(pattern, path)
            if match and self.command in method:
                return action(self, **match.groupdict())
        return self.answer(404, {"error": f"no route for {self.command} {path}"})

    # what the answers are made of

    @property
    def user(self) -> str | None:
        return TOKENS.get((self.headers.get("Authorization") or "").removeprefix("Bearer "))

    def answer(self, status: int, content=None, **headers) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def repository(self, name: str) -> Repository | None:
        """The repository if the user may see it; otherwise answers as the Hub does, and returns None."""
        found = self.hub.repositories.get(name)
        if found is not None and (not found.private or self.user == name.split("/")[0]):
            return found
        status = 401 if self.user is None else 404
        self.answer(status, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
        return None

    def revision(self, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        repository = self.repository(name)
        if repository is None:
            return None
        sha = repository.find(revision)
        if sha is None:
            self.answer(404, {"error": f"Invalid rev id: {revision}"}, X_Error_Code="RevisionNotFound")
            return None
        return sha, repository.commits[sha]

    # the routes

    def whoami(self) -> None:
        if self.user is None:
            return self.answer(401, {"error": "Invalid credentials"})
        self.answer(200, {"name": self.user, "type": "user", "orgs": [], "auth": {"accessToken": {"role": "write"}}})

    def create(self) -> None:
        content = json.loads(self.body)
        name = f"{content.get('organization') or self.user}/{content['name']}"
        if self.user is None:
            return self.answer(401, {"error": "Invalid username or password."})
        if self.user != name.split("/")[0]:
            return self.answer(403, {"error": f"You don't have the rights to create a model under {name}"})
        if name in self.hub.repositories:
            return self.answer(409, {"error": "exists", "url": f"{self.hub.address}/{name}"})
        self.hub.repositories[name] = Repository(
            content.get("visibility") == "private" or bool(content.get("private"))
        )
        self.hub.repositories[name].commit("main", {".gitattributes": b""})
        self.answer(200, {"url": f"{self.hub.address}/{name}", "name": name, "id": name})

    def branch(self, name: str, branch: str) -> None:
        repository = self.repository(name)
        if repository is None:
            return
        if branch in repository.branches:
            return self.answer(409, {"error": "Reference already exists"})
        repository.branches[branch] = repository.branches["main"]
        self.answer(200, {})

    def info(self, name: str, revision: str = "main") -> None:
        found = self.revision(name, revision)
        if found is None:
            return
        sha, files = found
        siblings = [{"rfilename": path} for path in files]
        private = self.hub.repositories[name].private
        self.answer(
            200, {"id": name, "modelId": name, "sha": sha, "private": private, "siblings": siblings, "tags": []}
        )

    def tree(self, name: str, revision: str) -> None:
        found = self.revision(name, revision)
        if found is not None:
            entries = [
                {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for path, content in found[1].items()
            ]
            self.answer(200, entries)

    def preupload(self, name: str, revision: str) -> None:
        if self.may_write(name):
            files = json.loads(self.body)["files"]
            modes = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in files]
            self.answer(200, {"files": modes})

    def commit(self, name: str, revision: str) -> None:
        if not self.may_write(name):
            return
        repository = self.hub.repositories[name]
        parent = repository.find(revision)
        if parent is None:
            return self.answer(404, {"error": "no such branch"}, X_Error_Code="RevisionNotFound")
        files = dict(repository.commits[parent])
        for line in self.body.splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                assert entry["value"]["encoding"] == "base64"
                files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
        pull_request = self.query.get("create_pr") == ["1"]
        sha = repository.commit("refs/pr/1" if pull_request else revision, files)
        answer = {"success": True, "commitOid": sha, "commitUrl": f"{self.hub.address}/{name}/commit/{sha}"}
        if pull_request:
            answer["pullRequestUrl"] = f"{self.hub.address}/{name}/discussions/1"
        self.answer(200, answer)

    def may_write(self, name: str) -> bool:
        repository = self.repository(name)
        if repository is None:
            return False
        if self.user != name.split("/")[0]:
            status = 401 if self.user is None else 403
            self.answer(status, {"error": "You don't have the rights to write here"})
            return False
        return True

    def resolve(self, name: str, revision: str, path: str) -> None:
        found = self.revision(name, revision)
        if found is None:
            return
        sha, files = found
        if path not in files:
            return self.answer(404, {"error": "Entry not found"}, X_Error_Code="EntryNotFound", X_Repo_Commit=sha)
        etag = f'"{hashlib.sha1(files[path]).hexdigest()}"'
        self.answer(200, files[path], ETag=etag, X_Repo_Commit=sha)

    def validate(self) -> None:
        errors = card_errors(json.loads(self.body)["content"])
        self.answer(400 if errors else 200, {"errors": [{"message": error} for error in errors], "warnings": []})


def card_errors(content: str) -> list[str]:
    """What the Hub refuses in a model card's metadata, as far as its specification says so."""
    match = re.match(r"---\n(.*?)\n---\n", content, re.DOTALL)
    if match is None:
        return ["no metadata"]
    data = yaml.safe_load(match[1])
    errors = []
    if data.get("license") is not None and data["license"] not in LICENCES:
        errors.append(f"license {data['license']!r} is not in the list of licences")
    for key in ("tags", "datasets"):
        if not all(isinstance(item, str) for item in data.get(key, [])):
            errors.append(f"{key} is no list of texts")
    errors += [f"datasets {name!r} is no data set" for name in data.get("datasets", []) if not _is_repository(name)]
    for model in data.get("model-index", []):
        if not isinstance(model.get("name"), str):
            errors.append("model-index without a name")
        for result in model.get("results", []):
            if "type" not in result["task"] or not {"name", "type"} <= result["dataset"].keys():
                errors.append("a result without task or dataset")
            for metric in result["metrics"]:
                if "type" not in metric or not isinstance(metric.get("value"), int | float):
                    errors.append(f"a metric without type or value: {metric}")
    return errors


def _is_repository(name: str) -> bool:
    return re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) is not None


_NAME = r"(?P<name>[\w.-]+/[\w.-]+)"
_ROUTES = [
    ("GET", r"/api/whoami-v2", _Handler.whoami),
    ("POST", r"/api/repos/create", _Handler.create),
    ("POST", r"/api/validate-yaml", _Handler.validate),
    ("POST", rf"/api/models/{_NAME}/branch/(?P<branch>.+)", _Handler.branch),
    ("POST", rf"/api/models/{_NAME}/preupload/(?P<revision>.+)", _Handler.preupload),
    ("POST", rf"/api/models/{_NAME}/commit/(?P<revision>.+)", _Handler.commit),
    ("GET", rf"/api/models/{_NAME}/tree/(?P<revision>[^/]+)(/.*)?", _Handler.tree),
    ("GET", rf"/api/models/{_NAME}/revision/(?P<revision>.+)", _Handler.info),
    ("GET", rf"/api/models/{_NAME}", _Handler.info),
    ("GET HEAD", rf"/{_NAME}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", _Handler.resolve),
]


if __name__ == "__main__":
    with HubServer() as hub:
        print(hub.address, flush=True)
        threading.Event().wait()
