"""A hook of mkdocs: files of the repository that pages link to become files of the site.

Pages link to them as a forge understands it (`../configs/demo.toml`), and mkdocs knows only what is
in its own folder. A link to a file that does not exist stays one that mkdocs does not find, which
ends a strict build.
"""

import posixpath
import re
from pathlib import Path
from typing import Any, Final

from mkdocs.structure.files import File, Files

ROOT: Final = Path(__file__).parents[1]
_FOLDER: Final = "repository"
_LINK: Final = re.compile(r"(?<=\]\()(?:\.\./)+[^)#\s]+")


def on_files(files: Files, /, *, config: Any) -> Files:
    """Add every file that a page links to and that lies outside of docs/."""
    for page in files.documentation_pages():
        for link in _LINK.findall(page.content_string):
            place = _outside(page.src_uri, link)
            if place is not None and (copy := _copy(place)) not in files.src_uris:
                content = (ROOT / place).read_bytes()
                files.append(File.generated(config, copy, content=content))
    return files


def on_page_markdown(markdown: str, /, *, page: Any, config: Any, files: Files) -> str:
    """Return a page's text with links to such files leading to their copies."""
    source = page.file.src_uri

    def copied(match: re.Match[str]) -> str:
        place = _outside(source, match[0])
        if place is None:
            return match[0]
        return posixpath.relpath(_copy(place), posixpath.dirname(source) or ".")

    return _LINK.sub(copied, markdown)


def _outside(page: str, link: str) -> str | None:
    """Return the file of the repository that a page links to; None for none, or one in docs/."""
    place = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), link))
    return place if not place.startswith("docs/") and (ROOT / place).is_file() else None


def _copy(place: str) -> str:
    # As text: a browser shows it, and Markdown of elsewhere is no page of the site.
    return f"repository/{place}{'' if place.endswith('.png') else '.txt'}"
