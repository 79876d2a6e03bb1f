// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IFederation} from "../src/IFederation.sol";
import {World} from "./kit/World.sol";

/// @dev What whole transactions cost: 21,000 and calldata included, every slot cold, as on a chain.
///      The limits are those of docs/protocol.md. Figures go to snapshots/Gas.json.
/// forge-config: default.isolate = true
contract GasTest is World {
    function _terms() internal view override returns (IFederation.Terms memory terms) {
        terms = super._terms();
        terms.maxParticipants = 512;
        terms.roundReward = 1000 ether;
        terms.aggregatorFee = 50 ether;
        terms.participantStake = 100 ether;
        terms.missedRevealPenalty = 50 ether;
        terms.aggregatorBond = 5000 ether;
        terms.samplingFraction = 9999; // everybody here is drawn, and the drawing is paid for
    }

    function test_Of4() public {
        _measure(4);
    }

    function test_Of16() public {
        _measure(16);
    }

    function test_Of64() public {
        _measure(64);
    }

    function test_Of128() public {
        _measure(128);
    }

    /// @dev A round that did not fit would lock all money: EIP-7825 allows 2^24 gas a transaction.
    function test_TheLargestRoundFitsIntoOneTransaction() public {
        _fund(federation.terms().roundReward + uint256(federation.terms().aggregatorFee));
        _bond(aggregators[0]);
        _join(512);
        uint256 finalizeGas = _finalize(_round(512, ""), 512);
        vm.snapshotValue("Gas", "finalize, first credit (512)", finalizeGas);
        vm.assertLe(finalizeGas, 1 << 24, "finalize");
    }

    /// @dev Two rounds, since the first writes slots that later ones only change.
    function _measure(uint256 count) private {
        string memory suffix = string.concat(" (", vm.toString(count), ")");
        _fund(2 * (federation.terms().roundReward + uint256(federation.terms().aggregatorFee)));
        _bond(aggregators[0]);
        _join(count);

        uint256 first = _round(count, "");
        uint256 finalizeFirst = _finalize(first, count);
        vm.snapshotValue("Gas", string.concat("finalize, first credit", suffix), finalizeFirst);

        uint256 second = _round(count, suffix);
        uint256 finalizeSecond = _finalize(second, count);
        vm.snapshotValue("Gas", string.concat("finalize", suffix), finalizeSecond);
        vm.assertLe(finalizeSecond, 55_000 + 12_000 * count, "finalize");
    }

    /// @dev Plays a round up to its proposal; asserts and records the dearest call of each kind.
    function _round(uint256 count, string memory suffix) private returns (uint256 round) {
        round = _open();
        uint256 openGas = _gasUsed();
        uint256 commitGas;
        uint256 revealGas;
        for (uint256 i = 0; i < count; ++i) {
            _commit(round, i);
            if (_gasUsed() > commitGas) commitGas = _gasUsed();
        }
        vm.warp(federation.getRound(round).commitDeadline);
        for (uint256 i = 0; i < count; ++i) {
            _reveal(round, i);
            if (_gasUsed() > revealGas) revealGas = _gasUsed();
        }
        _propose(round, _verdicts(count));
        uint256 proposeGas = _gasUsed();
        vm.assertLe(commitGas, 60_000, "commit");
        vm.assertLe(revealGas, 48_000, "reveal");
        vm.assertLe(proposeGas, 120_000 + 6000 * count, "propose");
        if (bytes(suffix).length == 0) return round;
        vm.snapshotValue("Gas", string.concat("openRound", suffix), openGas);
        vm.snapshotValue("Gas", string.concat("commit", suffix), commitGas);
        vm.snapshotValue("Gas", string.concat("reveal", suffix), revealGas);
        vm.snapshotValue("Gas", string.concat("propose", suffix), proposeGas);
    }

    function _finalize(uint256 round, uint256 count) private returns (uint256) {
        vm.warp(block.timestamp + CHALLENGE);
        federation.finalize(round, _verdicts(count));
        return _gasUsed();
    }

    function _gasUsed() private view returns (uint256) {
        return vm.lastCallGas().gasTotalUsed;
    }
}
