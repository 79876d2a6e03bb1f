"""docs/troubleshooting.md quotes messages as the program says them."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from contracts.revert_texts import TEXTS
from runtime.events import Event

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = ROOT / "docs" / "troubleshooting.md"
ROOMS: Final = (
    *("protocol", "ethereum", "chain", "storage", "training", "profiling", "rounds", "runtime"),
    *("sponsor", "node", "aggregator", "auditor", "devnet", "explorer", "commonweight"),
)
VARIES: Final = "…"


def quoted() -> list[str]:
    """Return the messages in the first column of the page's tables."""
    return re.findall(r"^\| `(.+?)` \|", PAGE.read_text(), re.MULTILINE)


def templates() -> set[str]:
    """Return every text of the sources, its varying parts as `…`, and those of the contract."""
    phases = {kind.phase for kind in Event.__subclasses__()}
    found = {re.sub(r"{.*?}", VARIES, text) for text in TEXTS.values()} | phases
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            found.update(texts(ast.parse(path.read_text())))
    # A command that a message names in backticks would end the page's own: it is left out there.
    return {re.sub(r"`[^`]*`", VARIES, text).strip() for text in found}


def texts(tree: ast.AST) -> Iterator[str]:
    """Yield the texts below a node, each whole, and no docstrings."""
    for each in ast.iter_child_nodes(tree):
        match each:
            case ast.Expr(value=ast.Constant()):
                pass
            case ast.JoinedStr():
                parts = [
                    part.value if isinstance(part, ast.Constant) else VARIES for part in each.values
                ]
                yield "".join(map(str, parts))
            case ast.Constant(value=str(text)):
                yield text
            case _:
                yield from texts(each)


def test_each_quoted_message_is_one_of_the_programs() -> None:
    said = {re.sub(f"{VARIES}+", VARIES, text) for text in templates()}
    page = quoted()
    assert len(page) > 100
    assert [message for message in page if message not in said] == []
