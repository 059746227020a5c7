"""``python -m shards browse``, running, and asked over HTTP."""

import http.client
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    content: bytes

    @property
    def text(self) -> str:
        return self.content.decode()


class Server:
    """A running ``shards browse``."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        found = re.match(r"http://127\.0\.0\.1:(\d+)/ ", process.stdout.readline())
        assert found is not None
        self.process = process
        self.port = int(found[1])

    def ask(self, path: str, method: str = "GET", host: str | None = None) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers = {} if host is None else {"Host": host}
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        answer = Answer(response.status, response.msg, response.read())
        connection.close()
        return answer

    def page(self, path: str) -> str:
        answer = self.ask(path)
        assert answer.status == 200, answer.text
        return answer.text


@contextmanager
def browse(folder: Path, *arguments: str) -> Iterator[Server]:
    command = [sys.executable, "-m", "shards", "browse", str(folder), "--port", "0", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Server(process)
        finally:
            process.kill()
