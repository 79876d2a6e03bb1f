"""The guards that scripts/mutants.py finds, and the sources in which each can be left out."""

from pathlib import Path

from scripts.mutants import _with_mutants, find_guards

SOURCE = """\
contract Purse {
    // if (a) revert Comment();
    function pay(uint256 amount) external nonReentrant returns (uint256) {
        if (amount == 0) revert ZeroAmount();
        if (isLocked(amount)) {
            revert Locked(amount);
        }
        _requireOwner(msg.sender, (amount));
        if (byInvitation) _requireInvited(msg.sender);
        if (amount == 1) return;
        if (amount == 2) amount = 3;
        bool isRight = _check(amount);
    }

    function _requireOwner(address who, uint256) private pure {}
}
"""


def guards_of(folder: Path) -> list[tuple[int, int, str]]:
    (folder / "Purse.sol").write_text(SOURCE, encoding="utf-8")
    return [(g.number, g.line, g.text) for g in find_guards(folder / "Purse.sol", 7)]


def test_every_way_out_is_a_guard_and_nothing_else_is(tmp_path: Path) -> None:
    assert guards_of(tmp_path) == [
        (7, 3, "nonReentrant"),
        (8, 4, "amount == 0"),
        (9, 5, "isLocked(amount)"),
        (10, 8, "_requireOwner(msg.sender, (amount));"),
        (11, 9, "_requireInvited(msg.sender);"),
        (12, 10, "amount == 1"),
    ]


def test_each_guard_is_left_out_under_its_own_number(tmp_path: Path) -> None:
    guards_of(tmp_path)
    mutated = _with_mutants(SOURCE, find_guards(tmp_path / "Purse.sol", 7))
    assert "external nonReentrantBut(uint160(7)) returns" in mutated
    assert "if (block.coinbase != address(uint160(8)) && (amount == 0)) revert ZeroAmount();" in (
        mutated
    )
    assert "if (block.coinbase != address(uint160(10))) _requireOwner(msg.sender, (amount));" in (
        mutated
    )
    assert "if (byInvitation) if (block.coinbase != address(uint160(11))) _requireInv" in mutated
    assert "if (amount == 2) amount = 3;\n        bool isRight = _check(amount);" in mutated
    assert "modifier nonReentrantBut(uint160 mutant)" in mutated
    assert "private view {}" in mutated
