"""Pages as Chromium renders them: screenshots, the DOM, and where elements are."""

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest
from PIL import Image

_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--hide-scrollbars", "--force-device-scale-factor=1", "--force-color-profile=srgb"),
)
# Adds the positions of the elements that a selector matches, and their `class`.
_LOCATE = """
<script>
const located = [...document.querySelectorAll(SELECTOR)].map(element => {
  const box = element.getBoundingClientRect();
  return [box.left, box.top, box.width, box.height, element.getAttribute("class")];
});
document.body.setAttribute("data-located", JSON.stringify(located));
</script>
"""

_WIDTHS = """
<pre></pre>
<script>
onload = () => {
  const page = document.querySelector("iframe").contentDocument.documentElement;
  document.querySelector("pre").textContent = page.scrollWidth + " of " + page.clientWidth;
};
</script>
"""

#: Left, top, width and height in pixels of the page, and the element's classes.
Element = tuple[float, float, float, float, str]


def chromium_command(width: int, height: int, *, dark: bool = False) -> list[str]:
    """Returns the command of a headless browser; skips the test if there is none."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if program is None:
        pytest.skip("needs a browser: chromium is not installed")
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    return [program, *_FLAGS, scheme, f"--window-size={width},{height}"]


class Chromium:
    """A headless browser with a window of ``width`` x ``height`` pixels.

    ``dark`` sets the color scheme that the user prefers.
    """

    def __init__(
        self, folder: Path, width: int = 1280, height: int = 2400, *, dark: bool = False
    ) -> None:
        self._folder = folder
        self._command = chromium_command(width, height, dark=dark)

    def screenshot(self, url: str) -> Image.Image:
        """Returns a screenshot of the window."""
        path = self._folder / "screenshot.png"
        self._run(f"--screenshot={path}", url)
        with Image.open(path) as image:
            return image.convert("RGB")

    def dom(self, url: str) -> str:
        """Returns the document after it was loaded and its scripts ran."""
        return self._run("--dump-dom", url)

    def locate(self, page: str, selector: str) -> list[Element]:
        """Returns where the elements of a page (its HTML) are.

        A script measures them in a duplicate of the page without its content security policy.
        """
        duplicate = self._folder / "located.html"
        script = _LOCATE.replace("SELECTOR", json.dumps(selector))
        without_policy = re.sub('<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
        duplicate.write_text(without_policy.replace("</body>", script + "</body>"), "utf-8")
        match = re.search('data-located="([^"]*)"', self.dom(duplicate.as_uri()))
        assert match is not None
        return [tuple(element) for element in json.loads(unescape(match[1]))]

    def widths(self, page: str, frame_width: int) -> tuple[int, int]:
        """Returns the width of a page's content and the visible width, in a frame of that width."""
        quoted = page.replace("&", "&amp;").replace('"', "&quot;")
        frame = f'<iframe srcdoc="{quoted}" width="{frame_width}" height="900"></iframe>'
        (self._folder / "frame.html").write_text(frame + _WIDTHS, encoding="utf-8")
        dom = self.dom((self._folder / "frame.html").as_uri())
        match = re.search(r"<pre>(\d+) of (\d+)</pre>", dom)
        assert match is not None
        return int(match[1]), int(match[2])

    def _run(self, *arguments: str) -> str:
        profile = self._folder / "profile"
        result = subprocess.run(
            [*self._command, f"--user-data-dir={profile}", *arguments],
            capture_output=True,
            check=True,
            timeout=300,
        )
        return result.stdout.decode()
