"""Links lead somewhere, on a forge and in the site, and its pages load nothing from elsewhere."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]
PAGES: Final = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "contracts").glob("*.md")]
)
CODE: Final = re.compile(r"^```.*?^```|`[^`\n]*`", re.MULTILINE | re.DOTALL)
# Where a page's own address may be, and what a browser fetches without being asked.
LOADED: Final = {"src", "srcset", "data", "poster", "action", "background", "xlink:href"}
FOLLOWED: Final = {"canonical", "alternate", "next", "prev"}


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as forges make them."""
    titles = re.findall(
        r"^#+ (.+)$", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S), re.M
    )
    kept = (
        re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title)) for title in titles
    )
    return {title.strip().lower().replace(" ", "-") for title in kept}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = CODE.sub("", page.read_text())
    for target in re.findall(r"\]\((?!https?://|mailto:)([^)\s]+)\)", text):
        name, _, anchor = target.partition("#")
        linked = (page.parent / name).resolve() if name else page
        assert linked.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in anchors(linked), f"{page.name} links to {target}"


def test_no_page_names_one_of_the_documents_that_is_not_there() -> None:
    for page in PAGES:
        if page.name != "CHANGELOG.md":  # which tells of pages that have moved since
            for name in re.findall(r"\bdocs/[\w/.-]+\.md\b", page.read_text()):
                assert (ROOT / name).exists(), f"{page.name} names {name}"


def test_the_walk_through_the_code_names_files_that_are_there() -> None:
    named = re.findall(r"`([\w/]+/\w+\.(?:py|sol))`", (ROOT / "docs" / "code.md").read_text())
    assert len(named) > 50
    assert not [name for name in named if not (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site as `make docs` does: strictly, so that each of its links is checked."""
    folder = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--quiet",
        "--strict",
        "--site-dir",
        str(folder),
    ]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_in_the_site(site: Path) -> None:
    made = {path.relative_to(site).with_suffix(".md") for path in site.rglob("*.html")}
    pages = {path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")}
    names = {page.with_name("index.md") if page.name == "README.md" else page for page in pages}
    assert names <= made


class Loads(HTMLParser):
    """Collects the addresses that a browser loads to show a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.found += [value for name, value in given.items() if name in LOADED]
        if tag == "link" and given.get("rel") not in FOLLOWED:
            self.found.append(given.get("href", ""))


def loads(site: Path) -> Iterator[str]:
    for page in site.rglob("*.html"):
        parser = Loads()
        parser.feed(page.read_text())
        yield from parser.found
    for sheet in site.rglob("*.css"):
        yield from re.findall(r"url\([\"']?([^\"')]+)", sheet.read_text())


def test_a_page_loads_nothing_from_elsewhere(site: Path) -> None:
    addresses = set(loads(site))
    assert len(addresses) > 20
    assert not [each for each in addresses if re.match(r"(https?:)?//", each)]


def test_a_file_of_the_repository_is_shown_as_text(site: Path) -> None:
    shown = site / "repository" / "configs" / "demo.toml.txt"
    assert shown.read_text() == (ROOT / "configs" / "demo.toml").read_text()
    assert 'href="repository/configs/demo.toml.txt"' in (site / "settings.html").read_text()
