"""A browser over an explorer: it notes what must not happen, and measures what a reader meets."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from playwright.sync_api import Browser, Page, Request, sync_playwright

AXE = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
Scheme = Literal["light", "dark"]
_GRAVE = ("serious", "critical")


@contextmanager
def chromium(path: str) -> Iterator[Browser]:
    """Yield the browser at `path`."""
    with sync_playwright() as playwright:
        # In a container root has no other way, and the pages are our own.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


class Reader:
    """A window of the browser; `faults` has what no page may do."""

    def __init__(
        self,
        browser: Browser,
        url: str,
        *,
        width: int = 1280,
        scheme: Scheme = "light",
        script: bool = True,
        bypass_csp: bool = False,
    ) -> None:
        self.url = url
        self.faults: list[str] = []
        self._context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=scheme,
            java_script_enabled=script,
            bypass_csp=bypass_csp,
            permissions=["clipboard-read", "clipboard-write"],
        )
        self.page: Page = self._context.new_page()
        self.page.on("console", lambda line: self._note(line.type == "error", line.text))
        self.page.on("pageerror", lambda error: self._note(True, str(error)))
        self.page.on("request", self._look)

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *what: object) -> None:
        self._context.close()

    def open(self, path: str) -> Page:
        """Go to a page."""
        answer = self.page.goto(self.url + path)
        assert answer is not None
        assert answer.status == 200, path
        return self.page

    def overflow(self) -> int:
        """Return by how many pixels the page is wider than its window."""
        found: int = self.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        return found

    def grave_findings(self) -> list[str]:
        """Return what axe-core finds serious or critical on the page."""
        self.page.add_script_tag(path=str(AXE))
        found: dict[str, Any] = self.page.evaluate("axe.run()")
        return [
            f"{each['id']}: {each['nodes'][0]['html'][:200]}"
            for each in found["violations"]
            if each["impact"] in _GRAVE
        ]

    def _look(self, request: Request) -> None:
        self._note(not request.url.startswith(self.url), f"asked for {request.url}")

    def _note(self, is_fault: bool, text: str) -> None:
        if is_fault:
            self.faults.append(text)
