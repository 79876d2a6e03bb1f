"""The gas figures of docs/gas.md are those that forge measured last, and none is left out."""

import json
import re

from scripts.make_gas_docs import SNAPSHOT, TARGET, filled

PAGE = TARGET.read_text()


def test_the_page_repeats_the_snapshot() -> None:
    assert filled(PAGE) == PAGE, "run `make docs`"


def test_the_page_has_every_figure() -> None:
    shown = {int(figure.replace(",", "")) for figure in re.findall(r"\| ([\d,]+)(?= \|)", PAGE)}
    assert {int(used) for used in json.loads(SNAPSHOT.read_text()).values()} <= shown


def test_a_changed_figure_is_put_right() -> None:
    used = int(json.loads(SNAPSHOT.read_text())["challengeMove"])
    changed = PAGE.replace(f"{used:,}", f"{used + 1:,}")
    assert changed != PAGE
    assert filled(changed) == PAGE
