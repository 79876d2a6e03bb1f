// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IFederation} from "../src/IFederation.sol";
import {World} from "./kit/World.sol";

/// @dev openRound, fixSeed, and whom the seed asks.
contract OpeningTest is World {
    // -------------------------------------------------------------- openRound

    /// @notice Opening stores the block and the seats that joined before it, and waits for a seed.
    function test_OpeningStoresItsBlockAndSeats() public {
        _ready(3);
        vm.expectEmit(address(federation));
        emit IFederation.RoundOpened(1, aggregators[0], uint40(block.number), 3);
        uint256 round = _openUnseeded();
        vm.assertEq(round, 1);
        vm.assertEq(federation.roundCount(), 1);
        IFederation.Round memory facts = federation.getRound(1);
        vm.assertEq(facts.openedBlock, block.number);
        vm.assertEq(facts.active, 3);
        vm.assertEq(facts.seed, 0);
        vm.assertEq(facts.commitDeadline, 0);
        _assertStatus(1, IFederation.Status.Seed);
    }

    /// @notice A round that was never opened has no status and no facts.
    function test_ARoundThatWasNotOpenedIsNone() public {
        _openWith(1);
        _assertStatus(0, IFederation.Status.None);
        _assertStatus(2, IFederation.Status.None);
        IFederation.Round memory none;
        vm.assertEq(abi.encode(federation.getRound(2)), abi.encode(none));
    }

    /// @notice Only the current aggregator opens.
    function test_RevertWhen_AnotherAggregatorOpens() public {
        _ready(1);
        vm.expectRevert(abi.encodeWithSelector(IFederation.NotAggregator.selector, aggregators[1], aggregators[0]));
        vm.prank(aggregators[1]);
        federation.openRound();
    }

    /// @notice The aggregator opens only with its bond posted.
    function test_RevertWhen_OpeningWithoutBond() public {
        _fund(ESCROW);
        _join(1);
        _mine();
        _expectWrongAggregator(aggregators[0], IFederation.AggregatorState.Bonded, IFederation.AggregatorState.Listed);
        vm.prank(aggregators[0]);
        federation.openRound();
    }

    /// @notice One round at a time, whatever its phase.
    function test_RevertWhen_OpeningUnderAnOpenRound() public {
        _ready(1);
        _fund(ESCROW);
        uint256 round = _openUnseeded();
        _refuseOpening(round, IFederation.Status.Seed);
        _mine();
        federation.fixSeed(round);
        _refuseOpening(round, IFederation.Status.Commit);
        _commit(round, 0);
        _revealAll(round, 1);
        _refuseOpening(round, IFederation.Status.Propose);
        _propose(round, _verdicts(round, 1));
        _refuseOpening(round, IFederation.Status.Challenge);
        vm.warp(block.timestamp + CHALLENGE);
        _refuseOpening(round, IFederation.Status.Settleable);
    }

    /// @notice No more rounds than the terms say, abandoned ones included.
    function test_RevertWhen_EveryRoundIsUsed() public {
        IFederation.Terms memory terms = _terms();
        terms.seats.rounds = 2;
        federation = _deploy(terms);
        uint256 round = _openWith(1);
        vm.warp(block.timestamp + COMMIT);
        federation.abandon(round);
        _another(1);
        _fund(ESCROW);
        _expectOver(2, false);
        vm.prank(aggregators[0]);
        federation.openRound();
    }

    /// @notice Rounds are opened up to the last second before closesAt, and not at it.
    function test_OpenUpToTheLastSecond() public {
        _ready(1);
        vm.warp(CLOSES_AT);
        _expectOver(0, false);
        vm.prank(aggregators[0]);
        federation.openRound();
        vm.warp(CLOSES_AT - 1);
        vm.assertEq(_openUnseeded(), 1);
    }

    /// @notice A closed federation opens nothing.
    function test_RevertWhen_OpeningAfterTheSponsorClosed() public {
        _ready(1);
        vm.prank(sponsor);
        federation.close();
        _expectOver(0, true);
        vm.prank(aggregators[0]);
        federation.openRound();
    }

    /// @notice A round needs minParticipants seats that joined in an earlier block.
    function test_RevertWhen_TooFewJoinedBefore() public {
        IFederation.Terms memory terms = _terms();
        terms.seats.minParticipants = 3;
        federation = _deploy(terms);
        _ready(2);
        _joinOne(_participant(2)); // in the block of the opening: does not count
        vm.expectRevert(abi.encodeWithSelector(IFederation.TooFewParticipants.selector, 2, 3));
        vm.prank(aggregators[0]);
        federation.openRound();
        _mine();
        vm.assertEq(_openUnseeded(), 1);
        vm.assertEq(federation.getRound(1).active, 3);
    }

    /// @notice Who left, or was penalized, does not count as active.
    function test_WhoLeftDoesNotCount() public {
        _ready(3);
        _leave(_participant(1));
        _openUnseeded();
        vm.assertEq(federation.getRound(1).active, 2);
    }

    /// @notice Leaving in the block of joining, or of somebody else's joining, never makes the count of older seats wrong.
    function testFuzz_OlderSeatsAreCountedRightly(uint256 seed) public {
        _fund(ESCROW);
        _bond(aggregators[0]);
        uint256[SEATS] memory joinedIn;
        _give(address(this), 0);
        for (uint256 i = 0; i < SEATS; ++i) {
            _give(_participant(i), 20 * STAKE);
        }
        for (uint256 step = 0; step < 20; ++step) {
            uint256 drawn = uint256(keccak256(abi.encode(seed, step)));
            uint256 who = drawn % SEATS;
            if (drawn >> 8 & 3 == 0) _mine();
            if (joinedIn[who] == 0) {
                _joinAs(_participant(who));
                joinedIn[who] = block.number;
            } else {
                _leave(_participant(who));
                joinedIn[who] = 0;
            }
        }
        uint256 older = 0;
        for (uint256 i = 0; i < SEATS; ++i) {
            if (joinedIn[i] != 0 && joinedIn[i] < block.number) older += 1;
        }
        if (older == 0) {
            vm.expectRevert(abi.encodeWithSelector(IFederation.TooFewParticipants.selector, 0, 1));
            vm.prank(aggregators[0]);
            federation.openRound();
        } else {
            _openUnseeded();
            vm.assertEq(federation.getRound(1).active, older);
        }
    }

    /// @notice The price of every seat of a round and the fee are in escrow before it opens.
    function test_OpenNeedsThePriceOfAllSeatsInEscrow() public {
        _bond(aggregators[0]);
        _join(1);
        _mine();
        _fund(ESCROW - 1);
        vm.expectRevert(abi.encodeWithSelector(IFederation.EscrowTooLow.selector, ESCROW - 1, ESCROW));
        vm.prank(aggregators[0]);
        federation.openRound();
        _fund(1);
        vm.assertEq(_openUnseeded(), 1);
    }

    // ---------------------------------------------------------------- fixSeed

    /// @notice The seed is the hash of contract, round, opening block's hash and the fixing block's prevrandao, and the
    ///         deadlines count from its fixing.
    function test_TheSeedAndTheDeadlines() public {
        _ready(1);
        uint256 opening = block.number;
        _openUnseeded();
        vm.roll(opening + 9);
        vm.warp(START + 77);
        vm.prevrandao(keccak256("randao"));
        bytes32 seed =
            keccak256(abi.encode(address(federation), uint256(1), blockhash(opening), uint256(keccak256("randao"))));
        uint40 commits = uint40(START + 77) + COMMIT;
        vm.expectEmit(address(federation));
        emit IFederation.SeedFixed(1, seed, commits, commits + REVEAL, commits + REVEAL + PROPOSE);
        vm.prank(stranger);
        federation.fixSeed(1);
        IFederation.Round memory facts = federation.getRound(1);
        vm.assertEq(facts.seed, seed);
        vm.assertEq(facts.commitDeadline, commits);
        vm.assertEq(facts.revealDeadline, commits + REVEAL);
        vm.assertEq(facts.nextDeadline, commits + REVEAL + PROPOSE);
        vm.assertEq(uint8(facts.stage), uint8(IFederation.Stage.Open), "stage");
        _assertStatus(1, IFederation.Status.Commit);
    }

    /// @notice Nobody can fix the seed in the block of the opening.
    function test_RevertWhen_FixingInTheBlockOfTheOpening() public {
        _ready(1);
        uint256 round = _openUnseeded();
        vm.expectRevert(abi.encodeWithSelector(IFederation.SeedTooEarly.selector, block.number, block.number));
        federation.fixSeed(round);
    }

    /// @notice The seed can be fixed in the first and in the last of 256 blocks, and in none after them.
    function test_TheSeedIsFixedWithin256Blocks() public {
        _ready(1);
        uint256 opening = block.number;
        uint256 round = _openUnseeded();
        vm.roll(opening + 257);
        _assertStatus(round, IFederation.Status.Unseeded);
        _expectWrongStatus(round, IFederation.Status.Seed, IFederation.Status.Unseeded);
        federation.fixSeed(round);
        vm.roll(opening + 256);
        _assertStatus(round, IFederation.Status.Seed);
        vm.assertNotEq(blockhash(opening), 0, "the last block whose hash is known");
        federation.fixSeed(round);
        vm.assertEq(
            federation.getRound(round).seed,
            keccak256(abi.encode(address(federation), round, blockhash(opening), block.prevrandao))
        );
    }

    /// @notice A seed is fixed once.
    function test_RevertWhen_FixingTwice() public {
        uint256 round = _openWith(1);
        _expectWrongStatus(round, IFederation.Status.Seed, IFederation.Status.Commit);
        federation.fixSeed(round);
        _expectWrongStatus(2, IFederation.Status.Seed, IFederation.Status.None);
        federation.fixSeed(2);
    }

    /// @notice Without a seed only abandon() is left, and nobody loses anything by it: no fee, no bond, no miss.
    function test_AnUnseededRoundIsAbandoned() public {
        _ready(1);
        uint256 round = _openUnseeded();
        bytes32 commitment = _commitment(round, 0);
        _expectWrongStatus(round, IFederation.Status.Commit, IFederation.Status.Seed);
        vm.prank(_participant(0));
        federation.commit(round, commitment);
        vm.expectRevert(
            abi.encodeWithSelector(
                IFederation.WrongStatus.selector, round, IFederation.Status.Expired, IFederation.Status.Seed
            )
        );
        federation.abandon(round);
        vm.roll(block.number + 257);
        _assertStatus(round, IFederation.Status.Unseeded);
        vm.expectEmit(address(federation));
        emit IFederation.Abandoned(round);
        vm.prank(stranger);
        federation.abandon(round);
        _assertStatus(round, IFederation.Status.Abandoned);
        _assertAggregator(aggregators[0], IFederation.AggregatorState.Bonded);
        vm.assertEq(federation.escrow(), ESCROW);
        vm.assertEq(federation.creditOf(aggregators[0]), 0);
        vm.assertEq(federation.burned(), 0);
        (bytes32 root,) = federation.currentModel();
        vm.assertEq(root, INITIAL_ROOT);
        vm.assertEq(_openUnseeded(), 2); // the round keeps its number
    }

    /// @notice Time alone does nothing to a round without a seed: it counts blocks.
    function test_TimeDoesNotEndTheSeedPhase() public {
        _ready(1);
        uint256 round = _openUnseeded();
        vm.warp(START + 90_000);
        _assertStatus(round, IFederation.Status.Seed);
        _mine();
        federation.fixSeed(round);
        _assertStatus(round, IFederation.Status.Commit);
    }

    // ------------------------------------------------------------ eligibility

    /// @notice Everybody is asked when no more seats are active than the target.
    function test_EverybodyIsAskedUpToTheTarget() public {
        IFederation.Terms memory terms = _terms();
        terms.seats.roundTarget = 4;
        federation = _deploy(terms);
        uint256 round = _openWith(4);
        for (uint256 i = 0; i < 4; ++i) {
            vm.assertTrue(federation.isEligible(round, _participant(i)), "asked");
        }
    }

    /// @notice Above the target the seed's hash decides, with the number of seats of the opening.
    function testFuzz_TheHashDecides(uint16 target, bytes32 randao, address account) public {
        target = uint16(_bound(target, 1, SEATS - 1));
        IFederation.Terms memory terms = _terms();
        terms.seats.roundTarget = target;
        federation = _deploy(terms);
        _ready(SEATS);
        uint256 round = _openUnseeded();
        _mine();
        vm.prevrandao(randao);
        federation.fixSeed(round);
        _leave(_participant(0)); // changes nothing
        bytes32 seed = federation.getRound(round).seed;
        bool isBelow = uint256(keccak256(abi.encode(seed, account))) < type(uint256).max / SEATS * uint256(target);
        vm.assertEq(federation.isEligible(round, account), isBelow, "eligible");
    }

    /// @notice About the target's share of the seats is asked.
    function test_AboutTheTargetIsAsked() public {
        IFederation.Terms memory terms = _terms();
        terms.seats.roundTarget = 2;
        federation = _deploy(terms);
        uint256 round = _openWith(8);
        uint256 asked = 0;
        for (uint256 i = 0; i < 4000; ++i) {
            if (federation.isEligible(round, address(uint160(uint256(keccak256(abi.encode(i))))))) asked += 1;
        }
        vm.assertGt(asked, 900, "a quarter of 4,000");
        vm.assertLe(asked, 1100, "a quarter of 4,000");
    }

    // --------------------------------------------------------------- helpers

    function _refuseOpening(uint256 round, IFederation.Status actual) private {
        vm.expectRevert(abi.encodeWithSelector(IFederation.RoundStillOpen.selector, round, actual));
        vm.prank(aggregators[0]);
        federation.openRound();
    }

    function _expectOver(uint256 rounds, bool isClosed) private {
        vm.expectRevert(abi.encodeWithSelector(IFederation.FederationOver.selector, rounds, CLOSES_AT, isClosed));
    }
}
