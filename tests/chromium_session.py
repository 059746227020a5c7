"""A headless Chromium that a test drives as a user does: it types, clicks and drops files.

Commands of the DevTools protocol go through pipes, so that it needs no port and no library.
"""

import base64
import io
import itertools
import json
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from tests.shards.inspection.chromium import chromium_command

WAIT_SECONDS = 60


class ChromiumSession:
    """A tab of a browser, in which a page is open."""

    def __init__(self, commands: int, events: io.BufferedReader) -> None:
        self._commands = commands
        self._events = events
        self._numbers = itertools.count(1)
        self._session: dict[str, str] = {}
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": attached["sessionId"]}

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Sends a command of the DevTools protocol and returns its result."""
        number = next(self._numbers)
        command = {"id": number, "method": method, "params": parameters, **self._session}
        os.write(self._commands, json.dumps(command).encode() + b"\0")
        while True:
            message = json.loads(self._message())
            if message.get("id") == number:
                assert "error" not in message, message
                return dict(message["result"])

    def evaluate(self, script: str) -> Any:
        """Returns the value of a JavaScript expression, or of the promise that it returns."""
        options = {"returnByValue": True, "awaitPromise": True}
        result = self.send("Runtime.evaluate", expression=script, **options)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait(self, condition: str) -> None:
        """Waits until a JavaScript expression is true."""
        end = time.monotonic() + WAIT_SECONDS
        while not self.evaluate(f"Boolean({condition})"):
            assert time.monotonic() < end, condition
            time.sleep(0.02)

    def open(self, url: str) -> None:
        """Opens a page and waits until it is loaded."""
        self.send("Page.navigate", url=url)
        self.wait(f"location.href === {json.dumps(url)} && document.readyState === 'complete'")

    def choose_file(self, selector: str, path: Path) -> None:
        """Chooses a file in the dialog of an ``<input type=file>``."""
        document = self.send("DOM.getDocument")["root"]["nodeId"]
        node = self.send("DOM.querySelector", nodeId=document, selector=selector)["nodeId"]
        self.send("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def drop_file(self, selector: str, path: Path) -> None:
        """Drags a file to the center of an element, and drops it."""
        x, y = self.center(selector)
        item = {"mimeType": "", "data": ""}
        data = {"items": [item], "files": [str(path)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.send("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)

    def click(self, selector: str) -> None:
        """Clicks on the center of an element."""
        x, y = self.center(selector)
        for kind in ("mousePressed", "mouseReleased"):
            button = {"button": "left", "clickCount": 1}
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, **button)

    def type(self, text: str) -> None:
        """Types into the element that has the focus."""
        self.send("Input.insertText", text=text)

    def press(self, key: str) -> None:
        """Presses a key."""
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    def center(self, selector: str) -> tuple[float, float]:
        """Returns the position of an element in the window, after scrolling to it."""
        x, y = self.evaluate(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'nearest'}); const b = e.getBoundingClientRect();"
            "return [b.left + b.width / 2, b.top + b.height / 2]; })()"
        )
        return x, y

    def screenshot(self) -> Image.Image:
        """Returns a screenshot of the window."""
        content = base64.b64decode(self.send("Page.captureScreenshot")["data"])
        return Image.open(io.BytesIO(content)).convert("RGB")

    def _message(self) -> bytes:
        message = bytearray()
        while (byte := self._events.read(1)) != b"\0":
            assert byte, "Chromium ended"
            message += byte
        return bytes(message)


@contextmanager
def chromium_session(
    folder: Path, width: int = 1280, height: int = 900, *, options: Sequence[str] = ()
) -> Iterator[ChromiumSession]:
    """Starts a browser with a profile in ``folder``, and ends it after the block."""
    commands_out, commands_in = os.pipe()
    events_out, events_in = os.pipe()
    command = [*chromium_command(width, height), f"--user-data-dir={folder / 'session-profile'}"]
    # Chromium reads commands from descriptor 3 and writes results to 4.
    script = f'exec "$@" 3<&{commands_out} 4>&{events_in}'
    with (
        subprocess.Popen(
            ["bash", "-c", script, "bash", *command, "--remote-debugging-pipe", *options],
            pass_fds=(commands_out, events_in),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process,
        os.fdopen(events_out, "rb") as events,
    ):
        os.close(commands_out)
        os.close(events_in)
        try:
            session = ChromiumSession(commands_in, events)
            yield session
            session._session = {}
            session.send("Browser.close")
        finally:
            os.close(commands_in)
            process.terminate()
