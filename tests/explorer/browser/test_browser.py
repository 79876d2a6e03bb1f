"""A real federation on anvil in a real browser: live, small, dark, by keyboard, read out."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from playwright.sync_api import Browser, expect

from auditor.disputes import challenge_open
from contracts.enums import Status
from protocol.text import printable
from protocol.types import RoundId
from tests.disputes.lies import TERMS, WINDOW, Still, auditing, off_by_one, propose
from tests.explorer.browser.drive import Reader, Scheme, chromium
from tests.explorer.shown import HOSTILE_NAME, Shown, serving
from tests.world import World

PAGES = ("", "/rounds/1", "/rounds/2", "/participants/{bob}", "/audit", "/models/1")
_WAIT_MS = 60_000  # a round is recomputed meanwhile, on a machine that does other things


class Stage:
    """A federation in which a participant cheats in round 1, and the lead in round 2."""

    def __init__(self, world: World, shown: Shown, url: str, browser: Browser) -> None:
        self.world, self.shown, self.url, self.browser = world, shown, url, browser

    def path(self, path: str) -> str:
        return self.shown.here + path.format(bob=self.world.address_of("bob"))

    def read(self, **options: object) -> Reader:
        return Reader(self.browser, self.url, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("browsed")
    browser = chromium(pytestconfig.getoption("browser"))
    with World(folder, rounds=4, **TERMS) as world:
        world.participants["bob"].trainer = Still("bob", 20)
        round_id = world.open_round()
        world.commit_and_reveal(round_id)
        world.aggregator.propose(round_id)
        world.travel(WINDOW)
        assert world.settle(round_id) is Status.FINALIZED
        names = {world.address_of("bob"): HOSTILE_NAME}
        losses = {0: 3.1, 1: 2.4}
        with (
            Shown(world, names=names, losses=losses) as shown,
            serving(shown) as url,
            browser as driven,
        ):
            yield Stage(world, shown, url, driven)


def test_a_cheat_is_seen_as_it_happens(stage: Stage) -> None:
    """The page is opened once, and never again: it follows the chain by itself."""
    world = stage.world
    expect.set_options(timeout=_WAIT_MS)
    standby = world.stand_by()
    with stage.read() as front, stage.read() as reader:
        home = front.open(stage.path(""))
        expect(home.get_by_role("heading", name="Now")).to_be_visible()
        home.get_by_text("As a table").click()
        # 1. The lead proposes another average than the right one.
        propose(world, average_layers=off_by_one)
        expect(home.locator(".now .big")).to_contain_text("Round 2 of 4: challenge ends in")
        expect(home.locator("#told")).to_contain_text("Round 2")
        page = reader.open(stage.path("/rounds/2"))
        banner = page.get_by_text("This machine came to another result than was proposed")
        expect(banner).to_be_visible()
        assert "differs here" in page.locator("#updates").inner_text()
        expect(home.locator("section[aria-labelledby=audit]")).to_contain_text("1 of")
        # 2. It is shown to the contract, which takes its bond.
        page.get_by_text("checks", exact=False).first.wait_for()
        (line,) = challenge_open(auditing(world))
        assert "was refuted" in line
        disputes = page.locator("section[aria-labelledby=disputes]")
        expect(disputes).to_contain_text("Proposal refuted")
        expect(disputes).to_contain_text("lost its bond of 200.00 tokens")
        expect(banner).to_have_count(0)
        # 3. The standby finishes the round, and this machine agrees.
        standby.propose(RoundId(2))
        world.travel(WINDOW)
        standby.settle(RoundId(2))
        expect(page.locator(".title .pill").first).to_have_text("finalized")
        expect(page.locator(".title .origin")).to_have_text("recomputed here")
        # What the reader unfolded is unfolded still, in the very same page.
        assert home.locator("details").first.get_attribute("open") is not None
        assert front.faults == reader.faults == []


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1600, "light")])
def test_every_page_is_read_out(stage: Stage, width: int, scheme: Scheme) -> None:
    # axe-core is put into the page, which the pages' own policy would not allow.
    with stage.read(width=width, scheme=scheme, bypass_csp=True) as reader:
        for path in ("/federations", *map(stage.path, PAGES)):
            page = reader.open(path)
            for folded in page.locator("details").all():
                folded.evaluate("element => element.open = true")
            assert reader.overflow() <= 0, path
            assert reader.grave_findings() == [], path


@pytest.mark.parametrize("width", [360, 768, 1280, 1600])
def test_every_page_fits(stage: Stage, width: int) -> None:
    with stage.read(width=width) as reader:
        for path in ("/federations", *map(stage.path, PAGES)):
            reader.open(path)
            assert reader.overflow() <= 0, path
        assert reader.faults == []


def test_a_keyboard_is_enough(stage: Stage) -> None:
    with stage.read() as reader:
        page = reader.open(stage.path(""))
        page.keyboard.press("Tab")
        expect(page.locator("a.skip")).to_be_focused()
        assert page.locator("a.skip").bounding_box()["y"] >= 0  # type: ignore[index]
        page.keyboard.press("Enter")
        expect(page.locator("#main")).to_be_focused()
        seen = set()
        for _ in range(12):
            page.keyboard.press("Tab")
            focused = page.evaluate(
                "(({outlineStyle}, element) => [element.tagName, outlineStyle])"
                "(getComputedStyle(document.activeElement), document.activeElement)"
            )
            seen.add(focused[0])
            assert focused[1] == "solid"
        assert {"A", "BUTTON"} <= seen


def test_an_address_is_copied_whole(stage: Stage) -> None:
    with stage.read() as reader:
        page = reader.open(stage.path(""))
        page.locator(".lead button.copy").first.click()
        expect(page.locator("#told")).to_have_text(f"Copied {stage.world.address}")
        assert page.evaluate("navigator.clipboard.readText()") == stage.world.address


def test_times_go_on_by_themselves(stage: Stage) -> None:
    with stage.read() as reader:
        page = reader.open(stage.path("/audit"))
        shown = page.locator("section[aria-labelledby=result] time")
        first = shown.inner_text()
        expect(shown).not_to_have_text(first)
        assert reader.faults == []


def test_without_a_script_pages_are_whole(stage: Stage) -> None:
    with stage.read(script=False) as reader:
        for path in PAGES:
            page = reader.open(stage.path(path))
            expect(page.locator("main h2").first).to_be_visible()
            # Buttons that would do nothing are not there.
            assert not any(button.is_visible() for button in page.locator("button").all())
        assert page.get_by_role("heading", level=1).inner_text() == "Model after round 1"


def test_a_name_that_is_a_script_does_not_run(stage: Stage) -> None:
    with stage.read() as reader:
        page = reader.open(stage.path("/participants/{bob}"))
        page.on("dialog", lambda dialog: reader.faults.append(dialog.message))
        expect(page.get_by_role("heading", level=1)).to_have_text(printable(HOSTILE_NAME))
        page.wait_for_timeout(300)
        assert reader.faults == []


def test_a_server_that_is_gone_is_seen(stage: Stage) -> None:
    with Shown(stage.world, audits=False) as shown, ExitStack() as server:
        url = server.enter_context(serving(shown))
        with Reader(stage.browser, url) as reader:
            page = reader.open(shown.here)
            expect(page.locator("html")).to_have_class("live")
            server.close()
            expect(page.locator("html")).to_have_class("live still")
