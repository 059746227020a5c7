"""Pages as a browser shows them: where objects are, and which colors they have there."""

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
# Adds where the elements are that a selector finds: left, top, width, height, and their `class`.
_MEASURE = """
<script>
const found = [...document.querySelectorAll(SELECTOR)].map(element => {
  const at = element.getBoundingClientRect();
  return [at.left, at.top, at.width, at.height, element.getAttribute("class")];
});
document.body.setAttribute("data-found", JSON.stringify(found));
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
Found = tuple[float, float, float, float, str]


class Chromium:
    """Opens pages in a browser of its own, in a window of ``width`` x ``height`` pixels.

    ``dark`` is what it says that its user prefers.
    """

    def __init__(
        self, folder: Path, width: int = 1280, height: int = 2400, *, dark: bool = False
    ) -> None:
        program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
        if program is None:
            pytest.skip("needs a browser: there is no chromium")
        self._folder = folder
        scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
        self._command = [program, *_FLAGS, scheme, f"--window-size={width},{height}"]

    def screenshot(self, url: str) -> Image.Image:
        """What the page looks like."""
        path = self._folder / "screenshot.png"
        self._run(f"--screenshot={path}", url)
        with Image.open(path) as image:
            return image.convert("RGB")

    def dom(self, url: str) -> str:
        """The page as the browser understood it."""
        return self._run("--dump-dom", url)

    def find(self, page: str, selector: str) -> list[Found]:
        """Where elements of a page (its HTML) are, as a copy of it that may run scripts tells."""
        copy = self._folder / "measured.html"
        script = _MEASURE.replace("SELECTOR", json.dumps(selector))
        without_policy = re.sub('<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
        copy.write_text(without_policy.replace("</body>", script + "</body>"), encoding="utf-8")
        found = re.search('data-found="([^"]*)"', self.dom(copy.as_uri()))
        assert found is not None
        return [tuple(each) for each in json.loads(unescape(found[1]))]

    def widths(self, page: str, width: int) -> tuple[int, int]:
        """How wide a page (its HTML) is in a frame of ``width`` pixels, and how much is seen."""
        quoted = page.replace("&", "&amp;").replace('"', "&quot;")
        frame = f'<iframe srcdoc="{quoted}" width="{width}" height="900"></iframe>'
        (self._folder / "frame.html").write_text(frame + _WIDTHS, encoding="utf-8")
        dom = self.dom((self._folder / "frame.html").as_uri())
        found = re.search(r"<pre>(\d+) of (\d+)</pre>", dom)
        assert found is not None
        return int(found[1]), int(found[2])

    def _run(self, *arguments: str) -> str:
        profile = self._folder / "profile"
        result = subprocess.run(
            [*self._command, f"--user-data-dir={profile}", *arguments],
            capture_output=True,
            check=True,
            timeout=60,
        )
        return result.stdout.decode()
