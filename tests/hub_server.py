"""A stand-in for the Hugging Face Hub on the loopback interface: files of one folder.

Programs find it by ``HF_ENDPOINT``, which they read when they start.
"""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlparse

COMMIT = "a" * 40


@contextmanager
def serve_hub(folder: Path, repository: str) -> Iterator[str]:
    """Serves a folder as the files of a repository (``models/...`` or ``datasets/...``).

    Yields:
        The value of ``HF_ENDPOINT``.
    """
    address = repository.removeprefix("models/")  # URLs of models' files have no prefix

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = unquote(urlparse(self.path).path)
            if re.fullmatch(rf"/api/{repository}(/revision/[^/]+)?", path):
                self._send_json({"id": repository.partition("/")[2], "sha": COMMIT, "siblings": []})
            elif re.fullmatch(rf"/api/{repository}/tree/[^/]+", path):
                self._send_json([_entry(file) for file in folder.iterdir() if file.is_file()])
            elif match := re.fullmatch(rf"/{address}/resolve/[^/]+/([^/]+)", path):
                self._send_file(folder / match[1])
            else:
                self._send(404, b"")

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_POST(self) -> None:
            """Answers requests for the entries of several paths."""
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            files = [folder / path for path in form["paths"]]
            self._send_json([_entry(file) for file in files if file.is_file()])

        def _send_file(self, file: Path) -> None:
            if not file.is_file():
                self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
                return
            content = file.read_bytes()
            headers = {"ETag": f'"{file.name}"', "X-Repo-Commit": COMMIT}
            if match := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
                first, last = int(match[1]), int(match[2] or len(content) - 1)
                headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
                self._send(206, content[first : last + 1], headers)
            else:
                self._send(200, content, headers)

        def _send_json(self, document: object) -> None:
            self._send(200, json.dumps(document).encode(), {"Content-Type": "application/json"})

        def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def _entry(file: Path) -> dict[str, object]:
    size = file.stat().st_size
    return {"type": "file", "path": file.name, "size": size, "oid": "0" * 40}
