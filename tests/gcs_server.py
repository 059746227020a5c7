"""A store of Google Cloud on the loopback interface: the emulator, with conditions.

    python -m tests.gcs_server PORT

The emulator ignores ``ifGenerationMatch``. Here a request is refused if the generation of its
object is another one; 0 is that of an object that does not exist. Requests are handled one by one,
but a client that stops while it sends one or reads the answer delays no other.
"""

import io
import json
import re
import sys
import threading
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from http.server import ThreadingHTTPServer
from typing import BinaryIO
from urllib.parse import parse_qs, unquote, urlsplit

from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.server import RequestHandler
from gcp_storage_emulator.storage import Storage

_OBJECT = re.compile(r".*/b/(?P<bucket>[^/]+)/o(/(?P<name>.+))?")


_one_request = threading.Lock()


class _Handler(RequestHandler):  # type: ignore[misc]
    rfile: BinaryIO
    wfile: BinaryIO

    def do_GET(self) -> None:  # noqa: N802
        self._handle(super().do_GET)

    def do_POST(self) -> None:  # noqa: N802
        self._handle(super().do_POST)

    def do_PUT(self) -> None:  # noqa: N802
        self._handle(super().do_PUT)

    def do_PATCH(self) -> None:  # noqa: N802
        self._handle(super().do_PATCH)

    def do_DELETE(self) -> None:  # noqa: N802
        self._handle(super().do_DELETE)

    def _handle(self, handle: Callable[[], None]) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.rfile = io.BytesIO(sent)
        client, self.wfile = self.wfile, io.BytesIO()
        try:
            with _one_request:
                self._if_generation_matches(handle, sent)
            client.write(self.wfile.getvalue())
        finally:
            self.wfile = client

    def _if_generation_matches(self, handle: Callable[[], None], sent: bytes) -> None:
        url = urlsplit(self.path)
        options = parse_qs(url.query)
        wanted = options.get("ifGenerationMatch")
        if wanted is None or int(wanted[0]) == self._generation(url.path, options, sent):
            handle()
            return
        body = json.dumps({"error": {"code": 412, "message": "conditionNotMet"}}).encode()
        self.send_response(HTTPStatus.PRECONDITION_FAILED)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _generation(self, path: str, options: dict[str, list[str]], sent: bytes) -> int:
        match = _OBJECT.fullmatch(path)
        assert match is not None, path
        if match["name"]:
            name = unquote(match["name"])
        elif "name" in options:
            [name] = options["name"]
        else:  # an upload in two parts, of which the first has the properties of the object
            properties, _ = json.JSONDecoder().raw_decode(
                sent[sent.index(b"{") :].decode("latin-1")
            )
            name = properties["name"]
        try:
            return int(self.storage.get_file_obj(match["bucket"], name)["generation"])
        except NotFound:
            return 0


def main() -> None:
    storage = Storage(use_memory_fs=True)
    address = "localhost", int(sys.argv[1])
    ThreadingHTTPServer(address, partial(_Handler, storage)).serve_forever()


if __name__ == "__main__":
    main()
