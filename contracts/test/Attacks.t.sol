// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IFederation} from "../src/IFederation.sol";
import {RequestWorld} from "./kit/RequestWorld.sol";
import {Trees} from "./kit/Trees.sol";

/// @dev What a cheat would try, each attempt as one test. The numbers are those of the attacks on the first version that
///      this one was made to stop (docs/threat-model.md).
contract AttacksTest is RequestWorld {
    uint32 private claimed; // examples of the free-rider, when there is one

    function _examples(uint256 i) internal view override returns (uint32) {
        return claimed != 0 && i == 3 ? claimed : super._examples(i);
    }

    // ---------------------------------------------------------------- attack 1

    /// @notice A free-rider that claims 1,000 examples is paid one posted price, takes nothing from the others, and has
    ///         the weight of one.
    function test_Attack01_AFreeRiderClaims1000Examples() public {
        IFederation.Terms memory terms = _terms();
        terms.seats.weightCap = 20; // steps * batch size: the most that a round can read
        federation = _deploy(terms);
        _draw(1, 4);
        for (uint256 i = 0; i < 3; ++i) {
            examplesOf[i] = 20;
        }
        claimed = 1000;
        uint256 round = _revealedWith(4);
        vm.assertEq(federation.getRound(round).revealedWeight, 80, "a quarter of the weight");
        IFederation.Verdict[] memory verdicts = _verdicts(round, 4);
        vm.assertEq(verdicts[3].weight, 20, "the cap");
        verdicts[3].weight = 1000;
        vm.expectRevert(abi.encodeWithSelector(IFederation.InvalidVerdict.selector, _participant(3), 1000, FULL, 0));
        _proposeAs(aggregators[0], round, verdicts);
        verdicts[3].weight = 20;
        _propose(round, verdicts);
        _finalize(round, verdicts);
        for (uint256 i = 0; i < 4; ++i) {
            vm.assertEq(federation.creditOf(_participant(i)), REWARD, "one price each");
        }
    }

    // ---------------------------------------------------------------- attack 2

    /// @notice The largest dispute of 64 updates under a tree of depth 32 has at most 120,000 bytes signed and costs at
    ///         most 16 million gas.
    function test_Attack02_TheLargestDisputeFitsIntoATransaction() public {
        uint256 round = _largestRound();
        IFederation.Verdict[] memory verdicts = _verdicts(round, 64);
        IFederation.OpenedLeaf[] memory updates = new IFederation.OpenedLeaf[](64);
        for (uint256 i = 0; i < 64; ++i) {
            updates[i] = IFederation.OpenedLeaf({opening: _opening(round, i), leaf: _deepLeaf(i, VALUES)});
        }
        bytes memory call = abi.encodeCall(
            IFederation.challengeAverage,
            (round, DEEP_INDEX, verdicts, updates, _deepLeaf(100, 4 * VALUES), _deepLeaf(101, 4 * VALUES))
        );
        _fits(call);
        vm.assertEq(federation.creditOf(challenger), HALF, "refuted");
    }

    /// @notice Every other dispute of that round fits as well, and so does requesting and posting its leaves.
    function test_Attack02_EveryOtherDisputeFitsToo() public {
        uint256 round = _largestRound();
        IFederation.Verdict[] memory verdicts = _verdicts(round, 64);
        IFederation.Opening[] memory all = new IFederation.Opening[](64);
        for (uint256 i = 0; i < 64; ++i) {
            all[i] = _opening(round, i);
        }
        bytes[5] memory calls = [
            abi.encodeCall(
                IFederation.challengeMove, (round, DEEP_INDEX, _deepLeaf(100, 4 * VALUES), _deepLeaf(101, 4 * VALUES))
            ),
            abi.encodeCall(IFederation.challengeVerdict, (round, 63, verdicts, all[63])),
            abi.encodeCall(IFederation.challengeDuplicate, (round, 63, 62, verdicts, all[63], all[62])),
            abi.encodeCall(IFederation.challengeOriginal, (round, 63, verdicts, all)),
            abi.encodeCall(IFederation.requestUpdateLeaf, (round, DEEP_INDEX, 63, verdicts, all[63]))
        ];
        for (uint256 i = 0; i < 5; ++i) {
            vm.assertLe(calls[i].length + 300, 120_000, "bytes signed");
        }
    }

    // ---------------------------------------------------------------- attack 3

    /// @notice A lead that rejects all but a friend gains the friend nothing and loses most of its own fee.
    function test_Attack03_TheLeadRejectsAllButAFriend() public {
        uint256 round = _revealedWith(COUNT);
        IFederation.Verdict[] memory verdicts = _verdicts(round, COUNT);
        uint256 id = vm.snapshotState();
        _propose(round, verdicts);
        _finalize(round, verdicts);
        uint256 friendHonestly = federation.creditOf(_participant(0));
        uint256 feeHonestly = federation.creditOf(aggregators[0]);
        vm.revertToState(id);
        (verdicts[1], verdicts[2]) = (_rejection(round, 1, 12), _rejection(round, 2, 12));
        _propose(round, verdicts);
        _finalize(round, verdicts);
        vm.assertEq(federation.creditOf(_participant(0)), friendHonestly, "the friend gains nothing");
        vm.assertGt(feeHonestly, federation.creditOf(aggregators[0]), "the lead loses");
        vm.assertEq(federation.creditOf(aggregators[0]), uint256(FEE) * verdicts[0].weight / _revealedWeight(round));
    }

    /// @notice One seat cannot empty the escrow before others join: a round pays it one price, and rounds wait for
    ///         minParticipants.
    function test_Attack03_OneSeatEmptiesTheEscrow() public {
        IFederation.Terms memory terms = _terms();
        terms.seats.minParticipants = 2;
        federation = _deploy(terms);
        _ready(1);
        _fund(9 * ESCROW);
        vm.expectRevert(abi.encodeWithSelector(IFederation.TooFewParticipants.selector, 1, 2));
        vm.prank(aggregators[0]);
        federation.openRound();
        _joinOne(_participant(1));
        _mine();
        uint256 round = _open();
        _commit(round, 0);
        _revealAll(round, 1);
        IFederation.Verdict[] memory verdicts = _verdicts(round, 1);
        _propose(round, verdicts);
        _finalize(round, verdicts);
        vm.assertLe(federation.creditOf(_participant(0)), REWARD, "one price");
        vm.assertGe(federation.escrow(), 10 * ESCROW - REWARD - FEE, "the rest stays");
    }

    /// @notice A lead that rejects everybody every round earns nothing, and the sponsor's money stays the sponsor's.
    function test_Attack03_TheLeadRejectsEverybodyEveryRound() public {
        _ready(COUNT);
        for (uint256 i = 0; i < 4; ++i) {
            uint256 round = _open();
            _commitAll(round, COUNT);
            _revealAll(round, COUNT);
            _proposeNothing(round, COUNT, 12);
            _finalize(round, _rejections(round, COUNT, 12));
        }
        vm.assertEq(federation.creditOf(aggregators[0]), 0, "no fee");
        vm.assertEq(federation.escrow(), ESCROW, "nothing spent");
        vm.prank(sponsor);
        federation.close();
        federation.refund();
        vm.assertEq(federation.creditOf(sponsor), ESCROW);
    }

    /// @notice Weights that nobody challenged never raise the fee above its term, nor lock the round.
    function test_Attack03_OverstatedWeightsDoNotRaiseTheFee() public {
        examplesOf[0] = 1;
        uint256 round = _revealedWith(1);
        IFederation.Verdict[] memory verdicts = _verdicts(round, 1);
        verdicts[0].weight = 150;
        _propose(round, verdicts);
        _finalize(round, verdicts); // the auditors slept
        vm.assertEq(federation.creditOf(aggregators[0]), FEE);
        vm.assertEq(federation.creditOf(_participant(0)), REWARD);
        vm.assertEq(federation.escrow(), ESCROW - REWARD - FEE);
    }

    // ---------------------------------------------------------------- attack 4

    /// @notice A proposal made over some reveals does not stand over others after a reorganisation.
    function test_Attack04_AProposalBindsWhatWasRevealed() public {
        uint256 round = _openWith(COUNT);
        uint256 id = vm.snapshotState();
        _commitAll(round, COUNT);
        _revealAll(round, COUNT);
        IFederation.Verdict[] memory verdicts = _verdicts(round, COUNT);
        _propose(round, verdicts); // on the branch that is lost
        vm.revertToState(id);

        bytes30 before = _digest(round, 1);
        rootOf[1] = keccak256("another update of the same seat, with the same weight");
        _commitAll(round, COUNT);
        _revealAll(round, COUNT);
        vm.expectRevert(
            abi.encodeWithSelector(IFederation.RevealMismatch.selector, _participant(1), before, _digest(round, 1))
        );
        _proposeAs(aggregators[0], round, verdicts); // from the pool
        _assertStatus(round, IFederation.Status.Propose);
    }

    // ---------------------------------------------------------------- attack 6

    /// @notice An aggregator and a friend whose update nobody can get still cannot move a value further than an average
    ///         could: challengeMove needs no update.
    function test_Attack06_AWrongLeafHidesBehindAWithheldUpdate() public {
        modelLeaves = beforeLeaves;
        uint256 k = 0;
        while (Trees.value(beforeLeaves[3], k) > 0) k += 1;
        _bend(3, k, 1_000_000_000);
        uint256 round = _revealedWith(COUNT);
        IFederation.Verdict[] memory verdicts = _verdicts(round, COUNT);
        verdicts[0] = _rejection(round, 0, 1);
        verdicts[1] = _rejection(round, 1, 1);
        _proposeModel(round, verdicts); // only the friend's, whose bytes exist nowhere
        _challengeMove(round, 3);
        _assertRefuted(round);
    }

    // ---------------------------------------------------------------- attack 7

    /// @notice A flood of leaf requests in the last second costs the flooder its deposits, is answered in one call, and
    ///         delays nothing.
    function test_Attack07_AFloodOfLeafRequests() public {
        uint256 round = _proposedModel(COUNT);
        uint256 deadline = federation.getRound(round).nextDeadline;
        vm.warp(deadline - 2 * RESPONSE);
        IFederation.LeafAnswer[] memory answers = new IFederation.LeafAnswer[](LEAVES * 2);
        for (uint256 leaf = 0; leaf < LEAVES; ++leaf) {
            _requestModel(round, leaf);
            _requestUpdate(round, 0, leaf);
            (answers[2 * leaf], answers[2 * leaf + 1]) = (_modelAnswer(leaf), _updateAnswer(0, leaf));
        }
        vm.warp(block.timestamp + RESPONSE - 1);
        vm.prank(aggregators[0]);
        federation.postLeaves(answers);
        vm.assertEq(federation.creditOf(aggregators[0]), 10 * DEPOSIT);
        vm.assertEq(token.balanceOf(challenger), PURSE - 10 * DEPOSIT);
        vm.warp(deadline);
        federation.finalize(round, _verdicts(round, COUNT)); // not a second later than without
        vm.assertEq(federation.creditOf(challenger), 0);
    }

    /// @notice An answer copied from the pool answers all the same, and loses the other responder nothing but a deposit.
    function test_Attack07_AnAnswerIsCopiedFromThePool() public {
        uint256 round = _proposedModel(COUNT);
        _requestModel(round, 1);
        _requestModel(round, 2);
        _postAs(stranger, _modelAnswer(1)); // first into the block
        IFederation.LeafAnswer[] memory answers = new IFederation.LeafAnswer[](2);
        (answers[0], answers[1]) = (_modelAnswer(1), _modelAnswer(2));
        vm.prank(aggregators[0]);
        federation.postLeaves(answers);
        vm.assertEq(federation.creditOf(stranger), DEPOSIT);
        vm.assertEq(federation.creditOf(aggregators[0]), DEPOSIT);
        _finalize(round, _verdicts(round, COUNT));
    }

    /// @notice Requests of a round that ended or of a proposal that fell slash nobody, though the root is the same.
    function test_Attack07_AnOldRequestSlashesNobody() public {
        _fund(10 * ESCROW);
        uint256 first = _proposedModel(COUNT);
        bytes32 root = _modelRoot(first);
        _requestUpdate(first, 0, 0);
        _requestModel(first, 0);
        _requestModel(first, 1);
        vm.warp(block.timestamp + RESPONSE);
        _settle(root, 0);
        _proposeModel(first, _verdicts(first, COUNT));
        _finalize(first, _verdicts(first, COUNT));
        _mine();
        uint256 second = _open();
        _commitAll(second, COUNT);
        _revealAll(second, COUNT); // the same roots once more
        _proposeModel(second, _verdicts(second, COUNT));
        vm.assertEq(federation.getRound(second).proposals, 1); // as the number in the old requests
        _settle(rootOf[0], 0);
        _settle(root, 1);
        _assertAggregator(aggregators[1], IFederation.AggregatorState.Bonded);
        _assertStatus(second, IFederation.Status.Challenge);
        vm.assertEq(federation.creditOf(challenger), 3 * DEPOSIT + HALF);
        _assertOpen(second, 0);
    }

    /// @notice An aggregator cannot hide behind its own request: the same deadline, the same loss, and half is burned.
    function test_Attack07_AnAggregatorRequestsItsOwnLeaf() public {
        uint256 round = _proposedModel(COUNT);
        bytes32 root = _modelRoot(round);
        _give(aggregators[0], DEPOSIT);
        _requestModelAs(aggregators[0], round, 2);
        _requestModel(round, 3); // any other leaf is free
        vm.warp(block.timestamp + RESPONSE);
        _settle(root, 2);
        _assertAggregator(aggregators[0], IFederation.AggregatorState.Slashed);
        vm.assertEq(federation.creditOf(aggregators[0]), DEPOSIT + HALF);
        vm.assertEq(federation.burned(), BOND - HALF, "what a lie costs at least");
        _settle(root, 3);
        vm.assertEq(federation.creditOf(challenger), DEPOSIT);
    }

    /// @notice However many leaves are overdue, they cost one bond.
    function test_Attack07_ManyOverdueLeavesCostOneBond() public {
        uint256 round = _proposedModel(COUNT);
        bytes32 root = _modelRoot(round);
        for (uint256 leaf = 0; leaf < LEAVES; ++leaf) {
            _requestModel(round, leaf);
        }
        vm.warp(block.timestamp + RESPONSE);
        for (uint256 leaf = 0; leaf < LEAVES; ++leaf) {
            _settle(root, leaf);
            vm.assertEq(federation.creditOf(challenger), (leaf + 1) * DEPOSIT + HALF);
        }
        _assertAggregator(aggregators[1], IFederation.AggregatorState.Bonded);
        vm.assertEq(federation.deposits(), 0);
    }

    // ---------------------------------------------------------------- attack 8

    /// @notice When the only aggregator is slashed nothing is locked: the federation is over at once, the sponsor has its
    ///         money back and every seat can go.
    function test_Attack08_TheOnlyAggregatorIsSlashed() public {
        _bend(0, 0, 1);
        _fund(ESCROW);
        _bond(aggregators[0]);
        _join(COUNT);
        _mine();
        uint256 round = _open();
        _commitAll(round, COUNT);
        _revealAll(round, COUNT);
        _proposeModel(round, _verdicts(round, COUNT));
        _challengeAverage(round, COUNT, 0);
        vm.assertTrue(federation.isOver(), "over at once");
        federation.refund();
        vm.assertEq(_withdraw(sponsor), ESCROW);
        for (uint256 i = 0; i < COUNT; ++i) {
            _leave(_participant(i));
        }
        vm.warp(block.timestamp + UNBONDING);
        for (uint256 i = 0; i < COUNT; ++i) {
            vm.assertEq(_withdraw(_participant(i)), STAKE);
        }
    }

    /// @notice No closing date is further away than five years: nobody's money waits longer.
    function test_Attack08_TheClosingDateIsBounded() public {
        IFederation.Terms memory terms = _terms();
        terms.windows.closesAt = uint40(block.timestamp + 5 * 366 days + 1);
        vm.expectRevert();
        factory.create(terms, aggregators);
    }

    /// @notice A standby is not held for years by a federation that goes on without it.
    function test_Attack08_StandbysMayLeave() public {
        _bond(aggregators[0]);
        _bond(aggregators[1]);
        vm.prank(aggregators[1]);
        federation.unbond();
        vm.assertEq(_withdraw(aggregators[1]), BOND);
    }

    // ---------------------------------------------------------------- attack 9

    /// @notice A seat that is created, a round that it opens and a seed that draws it do not fit into one block.
    function test_Attack09_ASeatCreatedAndDrawnInOneTransaction() public {
        IFederation.Terms memory terms = _terms();
        terms.seats.roundTarget = 1;
        federation = _deploy(terms);
        _ready(COUNT);
        _joinOne(stranger); // the aggregator's own, ground to be drawn
        uint256 round = _openUnseeded();
        vm.expectRevert(abi.encodeWithSelector(IFederation.SeedTooEarly.selector, block.number, block.number));
        federation.fixSeed(round);
        vm.prank(stranger);
        (bool isTaken,) = address(federation).call(abi.encodeCall(IFederation.commit, (round, keccak256("at once"))));
        vm.assertFalse(isTaken, "no seed, no commitment");
        _mine();
        federation.fixSeed(round);
        vm.expectRevert(abi.encodeWithSelector(IFederation.NotActive.selector, round, stranger));
        vm.prank(stranger);
        federation.commit(round, keccak256("a block later"));
    }

    /// @notice The seed is made of a hash that nobody knows while opening, and of a later block's randomness; a seat that
    ///         joins once the opening is known is not drawn by it.
    function test_Attack09_TheSeedIsGround() public {
        _ready(COUNT);
        uint256 round = _openUnseeded();
        uint256 opening = block.number;
        uint256 id = vm.snapshotState();
        bytes32[] memory seeds = new bytes32[](8);
        for (uint256 i = 0; i < 8; ++i) {
            vm.roll(opening + 1 + i / 2);
            vm.prevrandao(keccak256(abi.encode(i)));
            federation.fixSeed(round);
            seeds[i] = federation.getRound(round).seed;
            vm.assertEq(
                seeds[i],
                keccak256(abi.encode(address(federation), round, blockhash(opening), uint256(keccak256(abi.encode(i)))))
            );
            for (uint256 j = 0; j < i; ++j) {
                vm.assertNotEq(seeds[j], seeds[i], "another block, another seed");
            }
            vm.revertToState(id);
            id = vm.snapshotState();
        }
    }

    // --------------------------------------------------------------- attack 10

    /// @notice Seats that are squatted and never used are freed, and their rewards stay in escrow.
    function test_Attack10_SeatsAreSquatted() public {
        _ready(SEATS);
        for (uint256 i = 0; i < 2; ++i) {
            uint256 round = _open();
            _commitAll(round, 2);
            _revealAll(round, 2);
            IFederation.Verdict[] memory verdicts = _rejections(round, 2, 11);
            _proposeNothing(round, 2, 11);
            _finalize(round, verdicts);
            _mine();
        }
        uint256[] memory missed = new uint256[](2);
        (missed[0], missed[1]) = (1, 2);
        for (uint256 i = 2; i < SEATS; ++i) {
            federation.evict(_participant(i), missed);
        }
        vm.assertEq(federation.activeCount(), 2, "six seats are free");
        _joinOne(stranger);
        vm.assertEq(federation.escrow(), ESCROW);
    }

    /// @notice Junk seats that fill a round make no honest seat miss it, and pay for what they do not reveal.
    function test_Attack10_JunkSeatsFillTheRound() public {
        IFederation.Terms memory terms = _terms();
        terms.seats.roundSeats = 2;
        terms.seats.maxMissed = 1;
        federation = _deploy(terms);
        uint256 round = _openWith(4);
        _commit(round, 1); // junk
        _commit(round, 2);
        bytes32 commitment = _commitment(round, 0);
        vm.expectRevert(abi.encodeWithSelector(IFederation.RoundFull.selector, round, 2));
        vm.prank(_participant(0));
        federation.commit(round, commitment);
        vm.warp(federation.getRound(round).revealDeadline - 1);
        _reveal(round, 1);
        vm.warp(federation.getRound(round).revealDeadline);
        uint256[] memory missed = new uint256[](1);
        missed[0] = round;
        vm.expectRevert(abi.encodeWithSelector(IFederation.NotMissed.selector, round, _participant(0)));
        federation.evict(_participant(0), missed);
        federation.penalize(round, _participant(2));
        vm.assertEq(federation.burned(), PENALTY);
        vm.assertFalse(federation.getParticipant(_participant(2)).active, "must fill its stake up");
    }

    // --------------------------------------------------------------- attack 11

    /// @notice An outage over the whole reveal phase costs nobody anything: no penalty, no bond, not even by whoever is
    ///         quick to replace the lead afterwards.
    function test_Attack11_AnOutageOverTheRevealPhase() public {
        uint256 round = _openWith(COUNT);
        _commitAll(round, COUNT);
        vm.warp(federation.getRound(round).revealDeadline + 1);
        vm.expectRevert(abi.encodeWithSelector(IFederation.NothingRevealed.selector, round));
        federation.penalize(round, _participant(0));
        vm.warp(block.timestamp + PROPOSE + 1); // it lasts longer than that
        vm.prank(stranger);
        (bool isReplaced,) = address(federation).call(abi.encodeCall(IFederation.replaceAggregator, ()));
        vm.assertFalse(isReplaced, "there was nothing to propose");
        _assertAggregator(aggregators[0], IFederation.AggregatorState.Bonded);
        federation.abandon(round);
        vm.assertEq(federation.burned(), 0);
        vm.assertEq(federation.getParticipant(_participant(0)).stake, STAKE);
        vm.assertEq(federation.activeCount(), COUNT);
    }

    // ------------------------------------------- as old as commit and reveal

    /// @notice A copied commitment cannot be revealed, and does not stop the one it was copied from.
    function test_ACopiedCommitmentCannotBeRevealed() public {
        uint256 round = _openWith(2);
        bytes32 copied = _commitment(round, 0);
        vm.prank(_participant(1)); // first into the block
        federation.commit(round, copied);
        _commit(round, 0);
        _reveal(round, 0);
        bytes32 opened = _commitmentOf(address(federation), round, _participant(1), round, 0);
        vm.expectRevert(
            abi.encodeWithSelector(IFederation.CommitmentMismatch.selector, bytes30(copied), bytes30(opened))
        );
        _revealAs(_participant(1), round, 0);
        vm.warp(federation.getRound(round).revealDeadline);
        federation.penalize(round, _participant(1));
        _assertSubmission(round, _participant(0), IFederation.SubmissionState.Revealed);
    }

    /// @notice Leaving and coming back is no second commitment, nor a way out of the penalty.
    function test_LeavingAndComingBackIsNoSecondCommitment() public {
        uint256 round = _openWith(2);
        _commit(round, 0);
        _leave(_participant(0));
        _joinAs(_participant(0));
        vm.prank(_participant(0));
        (bool isTaken,) = address(federation).call(abi.encodeCall(IFederation.commit, (round, keccak256("second"))));
        vm.assertFalse(isTaken, "second");
        _commit(round, 1);
        _reveal(round, 1);
        vm.warp(federation.getRound(round).revealDeadline);
        federation.penalize(round, _participant(0));
        vm.assertEq(federation.getParticipant(_participant(0)).stake, STAKE - PENALTY);
    }

    /// @notice Who is leaving still reveals and is paid for what it committed to.
    function test_WhoIsLeavingIsStillPaid() public {
        uint256 round = _openWith(2);
        _commitAll(round, 2);
        _leave(_participant(0));
        _revealAll(round, 2);
        IFederation.Verdict[] memory verdicts = _verdicts(round, 2);
        _propose(round, verdicts);
        _finalize(round, verdicts);
        vm.assertEq(federation.creditOf(_participant(0)), uint256(REWARD) * verdicts[0].weight / 150);
    }

    /// @notice A stake cannot be withdrawn before the penalty for the round it stands for can be taken.
    function test_NoStakeLeavesBeforeItsRound() public {
        IFederation.Terms memory terms = _terms();
        terms.windows.unbondingSeconds = COMMIT + REVEAL + PROPOSE;
        federation = _deploy(terms);
        uint256 round = _openWith(2);
        vm.warp(federation.getRound(round).commitDeadline - 1);
        _commit(round, 1);
        vm.warp(federation.getRound(round).commitDeadline);
        _leave(_participant(0));
        uint256 unlockAt = federation.getParticipant(_participant(0)).unlockAt;
        vm.assertGe(unlockAt, federation.getRound(round).revealDeadline + PROPOSE, "time to take the penalty");
    }

    // --------------------------------------------------------------- helpers

    uint256 private constant DEEP_INDEX = 0xfedcba98; // below 2^32 - 1
    mapping(uint256 i => bytes32 root) private deepRoots;

    function _root(uint256 round, uint256 i) internal view override returns (bytes32) {
        return deepRoots[i] == 0 ? super._root(round, i) : deepRoots[i];
    }

    function _revealedWeight(uint256 round) private view returns (uint256) {
        return federation.getRound(round).revealedWeight;
    }

    /// @dev 64 updates and two models under trees of depth 32, of which one leaf each is known.
    function _largestRound() private returns (uint256 round) {
        for (uint256 i = 0; i < 102; i = i == 63 ? 100 : i + 1) {
            IFederation.Leaf memory leaf = _deepLeaf(i, i < 64 ? VALUES : 4 * VALUES);
            deepRoots[i] = Trees.fold(leaf.values, DEEP_INDEX, leaf.proof);
            examplesOf[i] = 0xabcdef;
        }
        IFederation.Terms memory terms = _terms();
        terms.identity.initialModelRoot = deepRoots[100];
        terms.identity.leafCount = type(uint32).max;
        terms.identity.treeDepth = 32;
        terms.seats.maxParticipants = 64;
        terms.seats.roundTarget = 64;
        terms.seats.roundSeats = 64;
        terms.seats.weightCap = (1 << 18) - 1;
        federation = _deploy(terms);
        round = _revealedWith(64);
        IFederation.Verdict[] memory verdicts = _verdicts(round, 64);
        vm.prank(aggregators[0]);
        federation.propose(round, deepRoots[101], NEW_MANIFEST, verdicts);
    }

    /// @dev Without a zero byte: calldata at its dearest.
    function _deepLeaf(uint256 i, uint256 length) private pure returns (IFederation.Leaf memory leaf) {
        leaf.values = new bytes(length);
        for (uint256 k = 0; k < length; ++k) {
            leaf.values[k] = bytes1(uint8(1 + (i + 7 * k) % 127));
        }
        leaf.proof = new bytes32[](32);
        for (uint256 level = 0; level < 32; ++level) {
            leaf.proof[level] = keccak256(abi.encode(i, level));
        }
    }

    /// @dev Bytes signed: the calldata and at most 300 of an envelope. Gas: work, or the floor of EIP-7623.
    function _fits(bytes memory call) private {
        vm.assertLe(call.length + 300, 120_000, "bytes signed");
        vm.assertLe(21_000 + 40 * call.length, 16_000_000, "floor of the gas");
        address target = address(federation);
        vm.prank(challenger);
        uint256 before = gasleft();
        (bool succeeded,) = target.call(call);
        vm.assertLe(before - gasleft() + 21_000 + 16 * call.length, 16_000_000, "gas");
        vm.assertTrue(succeeded, "call");
    }
}
