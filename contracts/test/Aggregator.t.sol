// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IFederation} from "../src/IFederation.sol";
import {World} from "./kit/World.sol";

/// @dev bond
///      ├── not listed, bonded or slashed: WrongAggregatorState
///      └── listed: the bond is held, Bonded
///      unbond
///      ├── not over: FederationNotOver
///      ├── not bonded: WrongAggregatorState
///      └── over: the bond is credited, Unbonded
///      replaceAggregator
///      ├── no bonded standby: NoStandby
///      ├── a round is open and not expired: RoundStillOpen
///      ├── idle for less than proposeSeconds: AggregatorNotLate
///      ├── idle for longer: the lead passes on, no bond is lost, AggregatorReplaced(0, …)
///      └── the round expired: the bond goes to the escrow, the standby gets proposeSeconds
contract AggregatorTest is World {
    function test_BondIsHeld() public {
        _give(aggregators[1], BOND);
        vm.expectEmit(address(federation));
        emit IFederation.Bonded(aggregators[1], BOND);
        vm.prank(aggregators[1]);
        federation.bond();
        _assertAggregator(aggregators[1], IFederation.AggregatorState.Bonded);
        vm.assertEq(token.balanceOf(address(federation)), BOND);
    }

    function test_RevertWhen_BondingWithoutBeingListedOrTwice() public {
        _expectWrongAggregator(stranger, IFederation.AggregatorState.Listed, IFederation.AggregatorState.Unlisted);
        vm.prank(stranger);
        federation.bond();
        _bond(aggregators[0]);
        _expectWrongAggregator(aggregators[0], IFederation.AggregatorState.Listed, IFederation.AggregatorState.Bonded);
        vm.prank(aggregators[0]);
        federation.bond();
    }

    function test_RevertWhen_BondingAfterALoss() public {
        _expired();
        federation.replaceAggregator();
        _expectWrongAggregator(aggregators[0], IFederation.AggregatorState.Listed, IFederation.AggregatorState.Slashed);
        vm.prank(aggregators[0]);
        federation.bond();
    }

    function test_UnbondWhenOver() public {
        _bond(aggregators[0]);
        _close();
        vm.expectEmit(address(federation));
        emit IFederation.Unbonded(aggregators[0], BOND);
        vm.prank(aggregators[0]);
        federation.unbond();
        vm.assertEq(federation.creditOf(aggregators[0]), BOND);
        _assertAggregator(aggregators[0], IFederation.AggregatorState.Listed);
        _expectWrongAggregator(aggregators[0], IFederation.AggregatorState.Bonded, IFederation.AggregatorState.Listed);
        vm.prank(aggregators[0]);
        federation.unbond();
    }

    function test_RevertWhen_UnbondingBeforeTheEnd() public {
        _bond(aggregators[0]);
        vm.expectRevert(abi.encodeWithSelector(IFederation.FederationNotOver.selector, 0, START + 100_000));
        vm.prank(aggregators[0]);
        federation.unbond();
    }

    function test_RevertWhen_UnbondingUnderAnOpenRound() public {
        uint256 round = _openWith(1);
        _close();
        vm.expectRevert(abi.encodeWithSelector(IFederation.FederationNotOver.selector, round, START + 100_000));
        vm.prank(aggregators[1]);
        federation.unbond();
    }

    function test_RevertWhen_UnbondingAfterALoss() public {
        uint256 round = _expired();
        federation.replaceAggregator();
        _propose(round, _verdicts(1));
        _close();
        federation.finalize(round, _verdicts(1));
        _expectWrongAggregator(aggregators[0], IFederation.AggregatorState.Bonded, IFederation.AggregatorState.Slashed);
        vm.prank(aggregators[0]);
        federation.unbond();
    }

    function test_RevertWhen_NoStandbyIsBonded() public {
        _bond(aggregators[0]);
        vm.warp(START + PROPOSE);
        vm.expectRevert(abi.encodeWithSelector(IFederation.NoStandby.selector));
        federation.replaceAggregator();
    }

    function test_TheLeadPassesOnToTheSecond() public {
        _bond(aggregators[0]);
        _bond(aggregators[2]);
        vm.warp(START + PROPOSE - 1);
        vm.expectRevert(
            abi.encodeWithSelector(IFederation.AggregatorNotLate.selector, START + PROPOSE - 1, START + PROPOSE)
        );
        federation.replaceAggregator();
        vm.warp(START + PROPOSE);
        vm.expectEmit(address(federation));
        emit IFederation.AggregatorReplaced(0, aggregators[0], aggregators[2], 0);
        vm.prank(stranger);
        federation.replaceAggregator();
        vm.assertEq(federation.currentAggregatorIndex(), 2);
        vm.assertEq(federation.idleSince(), START + PROPOSE);
        _assertAggregator(aggregators[0], IFederation.AggregatorState.Bonded);
        vm.assertEq(federation.escrow(), 0);
    }

    function test_TheLeadGoesRoundTheList() public {
        _bond(aggregators[0]);
        _bond(aggregators[2]);
        vm.warp(START + PROPOSE);
        federation.replaceAggregator();
        vm.expectRevert(
            abi.encodeWithSelector(IFederation.AggregatorNotLate.selector, START + PROPOSE, START + 2 * PROPOSE)
        );
        federation.replaceAggregator();
        vm.warp(START + 2 * PROPOSE);
        federation.replaceAggregator();
        vm.assertEq(federation.currentAggregator(), aggregators[0]);
    }

    function test_TheIdleClockStartsWhenARoundEnds() public {
        uint256 round = _proposedWith(1);
        vm.warp(block.timestamp + 10_000);
        federation.finalize(round, _verdicts(1));
        uint256 deadline = block.timestamp + PROPOSE;
        vm.expectRevert(abi.encodeWithSelector(IFederation.AggregatorNotLate.selector, block.timestamp, deadline));
        federation.replaceAggregator();
        vm.warp(deadline);
        federation.replaceAggregator();
        vm.assertEq(federation.currentAggregator(), aggregators[1]);
    }

    function test_RevertWhen_TheRoundIsNotLate() public {
        uint256 round = _openWith(1);
        _refuseReplacing(round, IFederation.Status.Commit);
        _commit(round, 0);
        _refuseReplacing(round, IFederation.Status.Reveal);
        _reveal(round, 0);
        vm.warp(START + COMMIT + REVEAL + PROPOSE - 1);
        _refuseReplacing(round, IFederation.Status.Propose);
        _propose(round, _verdicts(1));
        _refuseReplacing(round, IFederation.Status.Challenge);
        vm.warp(block.timestamp + CHALLENGE);
        _refuseReplacing(round, IFederation.Status.Settleable);
    }

    function test_LatenessInARoundCostsTheBond() public {
        uint256 round = _expired();
        uint256 escrow = federation.escrow();
        uint40 deadline = uint40(block.timestamp + PROPOSE);
        vm.expectEmit(address(federation));
        emit IFederation.AggregatorSlashed(round, aggregators[0], BOND);
        vm.expectEmit(address(federation));
        emit IFederation.AggregatorReplaced(round, aggregators[0], aggregators[1], deadline);
        vm.prank(stranger);
        federation.replaceAggregator();
        _assertAggregator(aggregators[0], IFederation.AggregatorState.Slashed);
        vm.assertEq(federation.escrow(), escrow + BOND);
        vm.assertEq(federation.currentAggregator(), aggregators[1]);
        vm.assertEq(federation.getRound(round).proposeDeadline, deadline);
        _assertStatus(round, IFederation.Status.Propose);
    }

    function test_TheStandbyFinishesTheRoundWithTheSameReveals() public {
        uint256 round = _expired();
        federation.replaceAggregator();
        vm.expectRevert(abi.encodeWithSelector(IFederation.NotAggregator.selector, aggregators[0], aggregators[1]));
        vm.prank(aggregators[0]);
        federation.propose(round, NEW_ROOT, NEW_MANIFEST, _verdicts(1));
        _propose(round, _verdicts(1));
        vm.warp(block.timestamp + CHALLENGE);
        federation.finalize(round, _verdicts(1));
        vm.assertEq(federation.creditOf(aggregators[1]), FEE);
        vm.assertEq(federation.creditOf(aggregators[0]), 0);
        vm.assertEq(federation.creditOf(_participant(0)), REWARD);
    }

    function test_ALateStandbyLosesItsBondToo() public {
        uint256 round = _expired();
        _bond(aggregators[2]);
        federation.replaceAggregator();
        vm.warp(block.timestamp + PROPOSE);
        federation.replaceAggregator();
        vm.assertEq(federation.currentAggregator(), aggregators[2]);
        _assertAggregator(aggregators[1], IFederation.AggregatorState.Slashed);
        vm.assertEq(federation.escrow(), REWARD + FEE + 2 * BOND);
        vm.warp(block.timestamp + PROPOSE);
        vm.expectRevert(abi.encodeWithSelector(IFederation.NoStandby.selector));
        federation.replaceAggregator();
        federation.abandon(round);
        vm.assertEq(federation.escrow(), REWARD + FEE + 3 * BOND);
    }

    function test_AFederationGoesOnAfterEveryBondedAggregatorWasLost() public {
        _bond(aggregators[0]);
        _fund(10_000);
        _join(1);
        uint256 round = _open();
        _commit(round, 0);
        _reveal(round, 0);
        vm.warp(START + 10_000);
        federation.abandon(round);
        _bond(aggregators[2]);
        vm.warp(block.timestamp + PROPOSE);
        federation.replaceAggregator();
        vm.assertEq(_open(), 2);
    }

    /// @dev One update is revealed and the lead let its deadline pass a while ago.
    function _expired() private returns (uint256 round) {
        round = _revealedWith(1);
        vm.warp(START + COMMIT + REVEAL + PROPOSE + 7);
        _assertStatus(round, IFederation.Status.Expired);
    }

    function _refuseReplacing(uint256 round, IFederation.Status actual) private {
        vm.expectRevert(abi.encodeWithSelector(IFederation.RoundStillOpen.selector, round, actual));
        federation.replaceAggregator();
    }

    function _expectWrongAggregator(
        address account,
        IFederation.AggregatorState required,
        IFederation.AggregatorState actual
    ) private {
        vm.expectRevert(abi.encodeWithSelector(IFederation.WrongAggregatorState.selector, account, required, actual));
    }
}
