"""A web server of a folder on the loopback interface that can be slow, fail or truncate files."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Server:
    """The behavior of the server; `requests` counts GET requests by file name."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        self.requests: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()  # how many more requests get `status`
        self.status = 503
        self.truncated: Counter[str] = Counter()  # how many more requests get half the file
        self.delay = 0.0  # seconds before the content


@contextmanager
def serve(folder: Path) -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.strip("/")
            server.requests[name] += 1
            if server.failures[name] > 0:
                server.failures[name] -= 1
                self.send_error(server.status)
                return
            path = server.folder / name
            if not path.is_file():
                self.send_error(404)
                return
            content = path.read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            time.sleep(server.delay)
            if server.truncated[name] > 0:
                server.truncated[name] -= 1
                self.wfile.write(content[: len(content) // 2])
                self.wfile.flush()
                self.connection.close()
                return
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        server = Server(folder, f"http://127.0.0.1:{httpd.server_port}")
        thread = threading.Thread(target=httpd.serve_forever, daemon=True)
        thread.start()
        yield server
        httpd.shutdown()
        thread.join()
