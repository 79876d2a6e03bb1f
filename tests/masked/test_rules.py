"""What an honest participant checks before it opens anything, rule by rule."""

import stat
from dataclasses import replace
from pathlib import Path

import pytest

from contracts.enums import Status
from node.masks import Masks, Trust
from node.settings import ParticipantSettings
from protocol.errors import Misconfigured
from protocol.types import RoundId
from rounds.context import RoundContext
from tests.masked.world import FIVE, MaskedWorld
from tests.world import World

ONE = RoundId(1)


@pytest.fixture(scope="module")
def sealed(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[MaskedWorld, RoundContext, Masks, int]:
    """A round that was sealed, as ann sees it, and the newest block that is final."""
    world = MaskedWorld(tmp_path_factory.mktemp("world"), names=FIVE)
    with world:
        world.seal()
        world.finalize_blocks()
        ann = world.participants["ann"]
        context, masks = ann.context(ONE), ann._masks(ONE)
        return world, context, masks, world.client().finalized_block()


Sealed = tuple[MaskedWorld, RoundContext, Masks, int]


def test_all_rules_met(sealed: Sealed) -> None:
    _, context, masks, final = sealed
    assert masks.refusal(context, final, Trust()) == ""


def test_1_the_seal_and_the_draw_are_final(sealed: Sealed) -> None:
    _, context, masks, _ = sealed
    masking = context.told.masking
    assert masking.sealed is not None
    assert masking.drawn is not None
    before = masking.sealed.block_number - 1
    assert masks.refusal(context, before, Trust()) == "the seal is not final yet"
    between = masking.drawn.block_number - 1
    assert "sketches' vectors are not final" in masks.refusal(context, between, Trust())


def test_2_it_is_in_the_set_itself(sealed: Sealed) -> None:
    world, context, masks, final = sealed
    stranger = Masks(masks.folder, world.auditor.address)
    assert "is not in the set" in stranger.refusal(context, final, Trust())


def test_3_enough_are_in_the_set(sealed: Sealed) -> None:
    _, context, masks, final = sealed
    assert "5 updates are in the set, 6" in masks.refusal(context, final, Trust(min_set=6))


def test_4_enough_trusted_ones_are_in_the_set(sealed: Sealed) -> None:
    world, context, masks, final = sealed
    known = (world.address_of("bob"), world.auditor.address)
    assert masks.refusal(context, final, Trust(trusted=known, min_trusted=1)) == ""
    refused = masks.refusal(context, final, Trust(trusted=known, min_trusted=2))
    assert "1 trusted participants are in the set, min_trusted is 2" in refused


def test_5_nothing_was_opened_for_another_set(sealed: Sealed, tmp_path: Path) -> None:
    _, context, masks, final = sealed
    elsewhere = Masks(tmp_path, masks.address)
    for name in ("masked.json", "secrets.json"):
        (tmp_path / name).write_bytes((masks.folder / name).read_bytes())
    assert elsewhere.refusal(context, final, Trust()) == ""
    (tmp_path / "opened.json").write_text(f'["{context.told.masking.members[0]}"]')
    assert "opened for another set of 1" in elsewhere.refusal(context, final, Trust())


def test_6_its_update_is_masked_for_who_committed(sealed: Sealed, tmp_path: Path) -> None:
    _, context, masks, final = sealed
    without = Masks(tmp_path, masks.address)
    assert "masked for others" in without.refusal(context, final, Trust())
    told = replace(context.told, committed=context.told.committed[:-1])
    fewer = replace(context, told=told)
    assert "masked for others" in masks.refusal(fewer, final, Trust())


def test_secrets_are_its_owners_alone(sealed: Sealed) -> None:
    _, _, masks, _ = sealed
    for name in ("secrets.json", "masked.json"):
        mode = stat.S_IMODE((masks.folder / name).stat().st_mode)
        assert mode == 0o600, name


def test_who_refuses_is_silent_and_its_update_is_recovered(tmp_path: Path) -> None:
    """The rules are the participant's own: it pays for them, and the others may go on."""
    with MaskedWorld(tmp_path, names=FIVE) as world:
        eve = world.participants["eve"]
        eve.trust = Trust(trusted=(world.auditor.address,), min_trusted=1)
        said: list[str] = []
        eve.report = lambda event: said.append(str(event.facts()))
        round_id = world.seal()
        world.unmask(round_id)
        assert world.status(round_id) is Status.UNMASK
        assert any("0 trusted participants" in line for line in said), said
        assert world.told(round_id).masking.silent == [eve.address]


def test_secrets_go_once_the_round_is_over_for_good(tmp_path: Path) -> None:
    with MaskedWorld(tmp_path) as world:
        ann = world.participants["ann"]
        world.play()
        path = ann._masks(ONE).folder / "secrets.json"
        ann.forget_secrets(world.client().now())
        assert path.exists()  # the settlement may still be undone
        world.finalize_blocks()
        ann.forget_secrets(world.client().now())
        assert not path.exists()


def test_a_mask_is_made_once(tmp_path: Path) -> None:
    """Two masked vectors of one update, for different members, would be one too many."""
    with MaskedWorld(tmp_path) as world:
        round_id = world.open_round()
        world.ask("commit", round_id)
        ann = world.participants["ann"]
        context, masks = ann.context(round_id), ann._masks(round_id)
        made = masks.mask(context, ann._update_folder(round_id), 10)
        told = replace(context.told, committed=context.told.committed[:-1])
        again = masks.mask(replace(context, told=told), ann._update_folder(round_id), 10)
        assert again == made


def test_no_mask_before_the_commitments_are_final(tmp_path: Path) -> None:
    with MaskedWorld(tmp_path) as world:
        round_id = world.open_round()
        World.ask(world, "commit", round_id)
        ann = world.participants["ann"]
        ann.reveal(round_id)  # the last commitment is in the newest block
        assert ann._masks(round_id).masked() is None
        world.finalize_blocks()
        ann.reveal(round_id)
        assert ann._masks(round_id).masked() is not None


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        ("min_trusted = 1", "min_trusted is 1, but `trusted` has 0"),
        ('trusted = ["0x12"]', "trusted"),
        ("min_set = 33", "min_set"),
        ("minimum = 3", "minimum"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, lines: str, fault: str) -> None:
    path = tmp_path / "participant.toml"
    path.write_text(
        'federation = "f"\nkeystore = "k"\ndata = "d"\nmodel = "m"\n[privacy]\n' + lines + "\n"
    )
    with pytest.raises(Misconfigured, match=fault):
        ParticipantSettings.load(path)
