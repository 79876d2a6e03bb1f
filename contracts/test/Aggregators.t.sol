// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IFederation} from "../src/IFederation.sol";
import {World} from "./kit/World.sol";

/// @dev bond, unbond, replaceAggregator, close, and when a federation is over.
contract AggregatorsTest is World {
    // ------------------------------------------------------------------- bond

    /// @notice A listed aggregator's bond is held.
    function test_ABondIsHeld() public {
        _give(aggregators[1], BOND);
        vm.expectEmit(address(federation));
        emit IFederation.Bonded(aggregators[1], BOND);
        vm.prank(aggregators[1]);
        federation.bond();
        _assertAggregator(aggregators[1], IFederation.AggregatorState.Bonded);
        vm.assertEq(token.balanceOf(address(federation)), BOND);
        vm.assertEq(federation.bondedCount(), 1);
    }

    /// @notice Nobody bonds without being listed, or twice.
    function test_RevertWhen_BondingWithoutBeingListedOrTwice() public {
        IFederation.AggregatorState listed = IFederation.AggregatorState.Listed;
        _expectWrongAggregator(stranger, listed, IFederation.AggregatorState.Unlisted);
        vm.prank(stranger);
        federation.bond();
        _bond(aggregators[0]);
        _expectWrongAggregator(aggregators[0], listed, IFederation.AggregatorState.Bonded);
        vm.prank(aggregators[0]);
        federation.bond();
    }

    /// @notice Who lost a bond never bonds again.
    function test_RevertWhen_BondingAfterALoss() public {
        _expired();
        federation.replaceAggregator();
        _expectWrongAggregator(aggregators[0], IFederation.AggregatorState.Listed, IFederation.AggregatorState.Slashed);
        vm.prank(aggregators[0]);
        federation.bond();
    }

    // ----------------------------------------------------------------- unbond

    /// @notice When the federation is over every bonded aggregator, the lead included, gets its bond back.
    function test_UnbondWhenOver() public {
        _bond(aggregators[0]);
        _bond(aggregators[1]);
        _close();
        for (uint256 i = 0; i < 2; ++i) {
            vm.expectEmit(address(federation));
            emit IFederation.Unbonded(aggregators[i], BOND);
            vm.prank(aggregators[i]);
            federation.unbond();
            vm.assertEq(federation.creditOf(aggregators[i]), BOND);
            _assertAggregator(aggregators[i], IFederation.AggregatorState.Listed);
        }
        vm.assertEq(federation.bondedCount(), 0);
        _expectWrongAggregator(aggregators[0], IFederation.AggregatorState.Bonded, IFederation.AggregatorState.Listed);
        vm.prank(aggregators[0]);
        federation.unbond();
    }

    /// @notice A standby may leave between rounds, and come back.
    function test_AStandbyUnbondsBetweenRounds() public {
        _finalizedWith(1);
        vm.prank(aggregators[1]);
        federation.unbond();
        vm.assertEq(federation.creditOf(aggregators[1]), BOND);
        _bond(aggregators[1]);
        _assertAggregator(aggregators[1], IFederation.AggregatorState.Bonded);
    }

    /// @notice The lead stays bonded until the federation is over or another one leads.
    function test_RevertWhen_TheLeadUnbondsBetweenRounds() public {
        _bond(aggregators[0]);
        _bond(aggregators[1]);
        vm.expectRevert(abi.encodeWithSelector(IFederation.LeadMustStay.selector, aggregators[0]));
        vm.prank(aggregators[0]);
        federation.unbond();
        vm.warp(START + PROPOSE);
        federation.replaceAggregator();
        vm.prank(aggregators[0]);
        federation.unbond();
        vm.expectRevert(abi.encodeWithSelector(IFederation.LeadMustStay.selector, aggregators[1]));
        vm.prank(aggregators[1]);
        federation.unbond();
    }

    /// @notice Nobody unbonds under an open round, whatever its phase.
    function test_RevertWhen_UnbondingUnderAnOpenRound() public {
        _ready(1);
        uint256 round = _openUnseeded();
        _refuseUnbonding(round, IFederation.Status.Seed);
        _mine();
        federation.fixSeed(round);
        _refuseUnbonding(round, IFederation.Status.Commit);
        _commitAll(round, 1);
        _revealAll(round, 1);
        _refuseUnbonding(round, IFederation.Status.Propose);
        _propose(round, _verdicts(round, 1));
        _refuseUnbonding(round, IFederation.Status.Challenge);
        _close();
        _refuseUnbonding(round, IFederation.Status.Settleable);
    }

    /// @notice A lost bond is not credited back.
    function test_RevertWhen_UnbondingAfterALoss() public {
        uint256 round = _expired();
        federation.replaceAggregator();
        _propose(round, _verdicts(round, 1));
        _close();
        federation.finalize(round, _verdicts(round, 1));
        _expectWrongAggregator(aggregators[0], IFederation.AggregatorState.Bonded, IFederation.AggregatorState.Slashed);
        vm.prank(aggregators[0]);
        federation.unbond();
        _expectWrongAggregator(stranger, IFederation.AggregatorState.Bonded, IFederation.AggregatorState.Unlisted);
        vm.prank(stranger);
        federation.unbond();
    }

    // ------------------------------------------------------ replaceAggregator

    /// @notice Without a bonded standby the lead stays, however late.
    function test_RevertWhen_NoStandbyIsBonded() public {
        _bond(aggregators[0]);
        vm.warp(START + PROPOSE);
        vm.expectRevert(abi.encodeWithSelector(IFederation.NoStandby.selector));
        federation.replaceAggregator();
    }

    /// @notice Late in opening costs the lead and no bond; those not bonded are passed over.
    function test_TheLeadPassesOnToTheNextBondedOne() public {
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
        vm.assertEq(federation.burned(), 0);
    }

    /// @notice The lead goes round the list, each with proposeSeconds to open.
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

    /// @notice The clock of opening starts when a round ends.
    function test_TheIdleClockStartsWhenARoundEnds() public {
        uint256 round = _proposedWith(1);
        vm.warp(block.timestamp + 10_000);
        federation.finalize(round, _verdicts(round, 1));
        uint256 deadline = block.timestamp + PROPOSE;
        vm.expectRevert(abi.encodeWithSelector(IFederation.AggregatorNotLate.selector, block.timestamp, deadline));
        federation.replaceAggregator();
        vm.warp(deadline);
        federation.replaceAggregator();
        vm.assertEq(federation.currentAggregator(), aggregators[1]);
    }

    /// @notice Nobody is replaced in a round before its proposal is late.
    function test_RevertWhen_TheRoundIsNotLate() public {
        _ready(1);
        uint256 round = _openUnseeded();
        vm.warp(START + 5 * PROPOSE);
        _refuseReplacing(round, IFederation.Status.Seed);
        _mine();
        federation.fixSeed(round);
        _refuseReplacing(round, IFederation.Status.Commit);
        _commit(round, 0);
        _revealAll(round, 1);
        _refuseReplacing(round, IFederation.Status.Propose);
        _propose(round, _verdicts(round, 1));
        _refuseReplacing(round, IFederation.Status.Challenge);
        vm.warp(block.timestamp + CHALLENGE);
        _refuseReplacing(round, IFederation.Status.Settleable);
    }

    /// @notice Late in a round costs the whole bond, burned; the standby gets proposeSeconds.
    function test_LatenessInARoundCostsTheBond() public {
        uint256 round = _expired();
        uint40 deadline = uint40(block.timestamp + PROPOSE);
        vm.expectEmit(address(federation));
        emit IFederation.AggregatorSlashed(round, aggregators[0], BOND);
        vm.expectEmit(address(federation));
        emit IFederation.AggregatorReplaced(round, aggregators[0], aggregators[1], deadline);
        vm.prank(stranger);
        federation.replaceAggregator();
        _assertAggregator(aggregators[0], IFederation.AggregatorState.Slashed);
        vm.assertEq(federation.burned(), BOND);
        vm.assertEq(federation.escrow(), ESCROW);
        vm.assertEq(federation.bondedCount(), 1);
        vm.assertEq(federation.currentAggregator(), aggregators[1]);
        vm.assertEq(federation.getRound(round).nextDeadline, deadline);
        _assertStatus(round, IFederation.Status.Propose);
    }

    /// @notice The standby finishes the round with the same reveals and is paid the fee.
    function test_TheStandbyFinishesTheRound() public {
        uint256 round = _expired();
        federation.replaceAggregator();
        IFederation.Verdict[] memory verdicts = _verdicts(round, 1);
        vm.expectRevert(abi.encodeWithSelector(IFederation.NotAggregator.selector, aggregators[0], aggregators[1]));
        _proposeAs(aggregators[0], round, verdicts);
        _propose(round, verdicts);
        _finalize(round, verdicts);
        vm.assertEq(federation.creditOf(aggregators[1]), FEE);
        vm.assertEq(federation.creditOf(aggregators[0]), 0);
        vm.assertEq(federation.creditOf(_participant(0)), 100);
    }

    /// @notice A late standby loses its bond too, up to the last one.
    function test_ALateStandbyLosesItsBondToo() public {
        uint256 round = _expired();
        _bond(aggregators[2]);
        federation.replaceAggregator();
        vm.warp(block.timestamp + PROPOSE);
        federation.replaceAggregator();
        vm.assertEq(federation.currentAggregator(), aggregators[2]);
        _assertAggregator(aggregators[1], IFederation.AggregatorState.Slashed);
        vm.warp(block.timestamp + PROPOSE);
        vm.expectRevert(abi.encodeWithSelector(IFederation.NoStandby.selector));
        federation.replaceAggregator();
        federation.abandon(round);
        vm.assertEq(federation.burned(), 3 * uint256(BOND));
    }

    /// @notice A round without updates is no reason to take anybody's bond: it can only be abandoned.
    function test_AnEmptyLateRoundSlashesNobody() public {
        uint256 round = _openWith(1);
        vm.warp(START + COMMIT + REVEAL + PROPOSE);
        _refuseReplacing(round, IFederation.Status.Expired);
        federation.abandon(round);
        vm.assertEq(federation.burned(), 0);
        vm.assertEq(federation.bondedCount(), 2);
    }

    /// @notice What is over stays over: nobody bonds then, since the escrow may have gone back already.
    function test_RevertWhen_BondingWhenOver() public {
        _expired();
        federation.replaceAggregator();
        vm.warp(block.timestamp + PROPOSE);
        federation.abandon(1);
        vm.assertTrue(federation.isOver(), "over");
        _give(aggregators[2], BOND);
        vm.expectRevert(abi.encodeWithSelector(IFederation.FederationOver.selector, 1, CLOSES_AT, false));
        vm.prank(aggregators[2]);
        federation.bond();
        vm.assertEq(federation.bondedCount(), 0);
    }

    // ------------------------------------------------------------ close, over

    /// @notice Only the sponsor closes, and once.
    function test_OnlyTheSponsorCloses() public {
        vm.expectRevert(abi.encodeWithSelector(IFederation.NotSponsor.selector, stranger, sponsor));
        vm.prank(stranger);
        federation.close();
        vm.expectEmit(address(federation));
        emit IFederation.Closed(sponsor);
        vm.prank(sponsor);
        federation.close();
        vm.assertTrue(federation.isClosed(), "closed");
        vm.assertTrue(federation.isOver(), "over");
        vm.expectRevert(abi.encodeWithSelector(IFederation.AlreadyClosed.selector));
        vm.prank(sponsor);
        federation.close();
    }

    /// @notice A round that is open when the sponsor closes runs to its end and is paid.
    function test_TheOpenRoundRunsToItsEnd() public {
        uint256 round = _openWith(2);
        vm.prank(sponsor);
        federation.close();
        vm.assertFalse(federation.isOver(), "a round is open");
        vm.expectRevert(abi.encodeWithSelector(IFederation.FederationNotOver.selector, round, CLOSES_AT));
        federation.refund();
        _commitAll(round, 2);
        _revealAll(round, 2);
        _propose(round, _verdicts(round, 2));
        _finalize(round, _verdicts(round, 2));
        vm.assertEq(federation.creditOf(_participant(1)), 101);
        vm.assertTrue(federation.isOver(), "over");
        federation.refund();
        vm.assertEq(federation.creditOf(sponsor), ESCROW - 201 - FEE);
    }

    /// @notice A federation is over when its date has passed, when its rounds are used, or when nobody is left to lead
    ///         after the first round; never under an open round.
    function test_WhenAFederationIsOver() public {
        IFederation.Terms memory terms = _terms();
        terms.seats.rounds = 2;
        federation = _deploy(terms);
        vm.assertFalse(federation.isOver(), "nobody has bonded yet");
        _finalizedWith(1);
        vm.assertFalse(federation.isOver(), "one round is left");
        _fund(ESCROW);
        uint256 round = _another(1);
        vm.assertEq(round, 2);
        vm.assertTrue(federation.isOver(), "no round is left");

        federation = _deploy(_terms());
        vm.warp(CLOSES_AT - 1);
        vm.assertFalse(federation.isOver(), "a second is left");
        vm.warp(CLOSES_AT);
        vm.assertTrue(federation.isOver(), "its date has passed");
    }

    // --------------------------------------------------------------- helpers

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

    function _refuseUnbonding(uint256 round, IFederation.Status actual) private {
        for (uint256 i = 0; i < 2; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IFederation.RoundStillOpen.selector, round, actual));
            vm.prank(aggregators[i]);
            federation.unbond();
        }
    }
}
