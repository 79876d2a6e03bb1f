"""Pictures of the pages: `python -m tests.explorer.browser.pictures CHROMIUM FOLDER`.

They are of the newest run on this machine, such as `commonweight demo` leaves: a
real federation, its real losses, and an audit that has run.
"""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from PIL import Image

from tests.explorer.browser.drive import Reader, Scheme, chromium

_COLOURS: Final = 256  # enough for flat pages, which then take some 80 kB
_HIGHEST: Final = 1500
_WAIT_S: Final = 300.0


def main(arguments: list[str]) -> int:
    """Write explorer-NAME.png of each page."""
    path, folder = arguments
    with exploring() as url, chromium(path) as browser:
        told = audited(url)
        here = f"/federations/{told['federation']}"
        last = told["round_rows"][0]["round"]
        who = ask(url, here)["participants"][0]["address"]
        pages: list[tuple[str, str, int, Scheme]] = [
            ("federations", "/federations", 1100, "light"),
            ("federation", here, 1100, "light"),
            ("round", f"{here}/rounds/{last}", 1100, "light"),
            ("participant", f"{here}/participants/{who}", 1100, "light"),
            ("audit", f"{here}/audit", 1100, "light"),
            ("model", f"{here}/models/{last}", 1100, "light"),
            ("phone", here, 390, "dark"),
        ]
        for name, page, width, scheme in pages:
            with Reader(browser, url, width=width, scheme=scheme) as reader:
                reader.open(page)
                # No taller than its page.
                reader.page.set_viewport_size({"width": width, "height": 400})
                reader.page.wait_for_timeout(400)
                whole = Image.open(BytesIO(reader.page.screenshot(full_page=True)))
            picture = whole.crop((0, 0, whole.width, min(whole.height, _HIGHEST)))
            target = Path(folder) / f"explorer-{name}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            picture.convert("RGB").quantize(_COLOURS).save(target, optimize=True)
            print(f"{target}  {target.stat().st_size:,} bytes")
    return 0


@contextmanager
def exploring() -> Iterator[str]:
    """Run `commonweight explore` and yield its address."""
    command = [sys.executable, "-P", "-m", "commonweight", "explore", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ)
    assert process.stdout is not None
    try:
        url = process.stdout.readline().strip().rstrip("/")
        if not url:
            raise SystemExit(1)  # the command has said why
        yield url
    finally:
        process.terminate()
        process.wait()


def audited(url: str) -> Any:
    """Return the audit of the run's federation, once it is through."""
    with urllib.request.urlopen(url, timeout=30) as answer:
        here = answer.url.removeprefix(url)
    deadline = time.monotonic() + _WAIT_S
    while True:
        told = ask(url, f"{here}/audit")
        if told["standing"] == "done":
            return told
        if time.monotonic() > deadline:
            raise SystemExit("the audit does not end")
        time.sleep(1)


def ask(url: str, path: str) -> Any:
    """Return a page's twin."""
    with urllib.request.urlopen(f"{url}{path}.json", timeout=30) as answer:
        return json.load(answer)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
