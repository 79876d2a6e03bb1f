// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IFederation} from "../src/IFederation.sol";
import {MaskedWorld} from "./kit/MaskedWorld.sol";

/// @dev What becomes of a masked round once its set is sealed: proposals, objections, void rounds, and who pays.
contract MaskedRoundsTest is MaskedWorld {
    // ---------------------------------------------------------------- propose

    /// @notice A round with drop-outs of every kind is proposed and paid: by weight, and nothing to who was silent.
    function test_FinalizePaysWhoPostedItsSecrets() public {
        (hasMissed[1], isLeftOut[3]) = (true, true);
        uint256 round = _sketchedWith(7);
        _unmaskFrom(round, 2);
        _toAssist(round);
        _recover(round, 0);
        _assertStatus(round, IFederation.Status.Propose);
        IFederation.Verdict[] memory verdicts = _sumVerdicts(round);
        vm.assertEq(verdicts.length, 6);
        verdicts[5].score = 0; // an update like another's: its part of the sum counts, and is not paid
        verdicts[5].reason = 12;
        _propose(round, verdicts);
        _finalize(round, verdicts);
        vm.assertEq(federation.creditOf(_participant(0)), 0, "silent");
        vm.assertEq(federation.creditOf(_participant(1)), 0, "never revealed");
        vm.assertEq(federation.creditOf(_participant(3)), 0, "outside");
        vm.assertEq(federation.creditOf(_participant(6)), 0, "rejected with a reason");
        uint256 paid = 0;
        for (uint256 i = 2; i < 6; ++i) {
            if (i == 3) continue;
            uint256 price = REWARD * uint256(_weight(i)) / WEIGHT_CAP;
            vm.assertEq(federation.creditOf(_participant(i)), price, "price");
            paid += price;
        }
        // Weights in the sum count for the fee, paid or not.
        uint256 used = _weight(0) + _weight(2) + _weight(4) + _weight(5) + _weight(6);
        uint256 fee = FEE * used / (used + _weight(3));
        vm.assertEq(federation.creditOf(aggregators[0]), fee, "fee");
        vm.assertEq(federation.escrow(), ESCROW - paid - fee);
        vm.assertEq(federation.burned(), PENALTY, "of who was silent");
        federation.penalize(round, _participant(1));
        vm.assertEq(federation.burned(), 2 * PENALTY, "of who never revealed");
        (bytes32 root,) = federation.currentModel();
        vm.assertEq(root, NEW_ROOT);
    }

    /// @notice A proposal waits for every secret.
    function test_RevertWhen_TheSumIsNotOpen() public {
        uint256 round = _revealedMasked(3);
        IFederation.Verdict[] memory verdicts = _sumVerdicts(round);
        _expectWrongStatus(round, IFederation.Status.Propose, IFederation.Status.Seal);
        _proposeAs(aggregators[0], round, verdicts);
        _seal(round);
        _mine();
        federation.fixSketch(round);
        _unmaskFrom(round, 1);
        verdicts = _sumVerdicts(round);
        _expectWrongStatus(round, IFederation.Status.Propose, IFederation.Status.Unmask);
        _proposeAs(aggregators[0], round, verdicts);
        _toAssist(round);
        _expectWrongStatus(round, IFederation.Status.Propose, IFederation.Status.Assist);
        _proposeAs(aggregators[0], round, verdicts);
        _toVoid(round);
        _expectWrongStatus(round, IFederation.Status.Propose, IFederation.Status.Void);
        _proposeAs(aggregators[0], round, verdicts);
    }

    /// @notice Who is in the sum is as sealed, and who was silent as others' posting says.
    function test_RevertWhen_TheProposalIsNotAsSealed() public {
        isLeftOut[2] = true;
        uint256 round = _sketchedWith(5);
        _unmaskFrom(round, 1);
        _toAssist(round);
        _recover(round, 0);
        _refuseUnsealed(round, 1, 0, 0, 12); // in the set, without a weight
        _refuseUnsealed(round, 0, 0, 0, SILENT);
        _refuseUnsealed(round, 2, 1, FULL, 0); // outside, with one
        _refuseUnsealed(round, 2, 1, 0, 12);
        _refuseUnsealed(round, 0, 1, FULL, 0); // silent, and paid
        _refuseUnsealed(round, 0, 1, 0, 12); // silent, for another reason
        _refuseUnsealed(round, 1, 1, 0, SILENT); // not silent
        _refuseUnsealed(round, 2, 0, 0, SILENT); // never asked
        // As sealed, and of no form.
        _refuseForm(round, 1, 1, FULL - 1, 0);
        _refuseForm(round, 1, 1, FULL + 1, 0);
        _refuseForm(round, 1, 1, 1, 12);
        _refuseForm(round, 0, 1, FULL, SILENT);
        _refuseForm(round, 1, WEIGHT_CAP + 1, FULL, 0);
        _refuseForm(round, 1, WEIGHT_CAP + 1, 0, 12);
        _refuseForm(round, 2, 0, 1, 12);
        _refuseForm(round, 2, 0, 0, 0);
        _refuseForm(round, 2, 0, FULL, 0);
        IFederation.Verdict[] memory verdicts = _sumVerdicts(round);
        (verdicts[1].score, verdicts[1].reason, verdicts[3].weight) = (0, 12, WEIGHT_CAP);
        _propose(round, verdicts);
    }

    /// @notice Verdicts are on the digests that stand: those with the secrets.
    function test_RevertWhen_TheProposalIsOverTheReveals() public {
        uint256 round = _summedWith(3);
        IFederation.Verdict[] memory verdicts = _sumVerdicts(round);
        bytes30 known = verdicts[1].revealed;
        isOpen[1] = false;
        verdicts[1].revealed = _digest(round, 1);
        vm.expectRevert(
            abi.encodeWithSelector(IFederation.RevealMismatch.selector, _participant(1), verdicts[1].revealed, known)
        );
        _proposeAs(aggregators[0], round, verdicts);
    }

    /// @notice Every revealed update has a verdict, outside the set or not, and no other.
    function test_RevertWhen_TheProposalIsNotOnAllThatRevealed() public {
        (hasMissed[1], isLeftOut[3]) = (true, true);
        uint256 round = _summedWith(6);
        IFederation.Verdict[] memory all = _sumVerdicts(round);
        IFederation.Verdict[] memory fewer = new IFederation.Verdict[](4);
        for (uint256 i = 0; i < 4; ++i) {
            fewer[i] = all[i];
        }
        vm.expectRevert(abi.encodeWithSelector(IFederation.VerdictCount.selector, 4, 5));
        _proposeAs(aggregators[0], round, fewer);
        all[1].participant = _participant(1);
        all[1].revealed = federation.getSubmission(round, _participant(1)).digest;
        _expectWrongSubmission(
            round, _participant(1), IFederation.SubmissionState.Revealed, IFederation.SubmissionState.Committed
        );
        _proposeAs(aggregators[0], round, all);
        federation.penalize(round, _participant(1));
        _expectWrongSubmission(
            round, _participant(1), IFederation.SubmissionState.Revealed, IFederation.SubmissionState.Penalized
        );
        _proposeAs(aggregators[0], round, all);
    }

    /// @notice No set is empty, so that the model may always move; it need not.
    function test_AModelMayStayWithUpdates() public {
        uint256 round = _summedWith(3);
        (bytes32 root, bytes32 manifest) = federation.currentModel();
        IFederation.Verdict[] memory verdicts = _sumVerdicts(round);
        vm.prank(aggregators[0]);
        federation.propose(round, root, manifest, verdicts);
        _finalize(round, verdicts);
        (bytes32 after_,) = federation.currentModel();
        vm.assertEq(after_, root);
    }

    // ----------------------------------------------------------------- object

    /// @notice Two thirds of the set void the round, one fewer leaves it standing.
    function test_TwoThirdsOfTheSetVoidTheRound() public {
        for (uint256 size = 3; size <= SEATS; ++size) {
            federation = _deploy(_terms());
            uint256 round = _proposedSum(size);
            uint256 needed = (2 * size + 2) / 3;
            for (uint256 i = 0; i < needed; ++i) {
                _assertStatus(round, IFederation.Status.Challenge);
                vm.expectEmit(address(federation));
                emit IFederation.Objected(round, _participant(i));
                _object(round, i);
                vm.assertEq(federation.getSum(round).objections, i + 1);
                _assertSubmission(round, _participant(i), IFederation.SubmissionState.Objected);
            }
            _assertStatus(round, IFederation.Status.Void);
            uint256 snapshot = vm.snapshotState();
            vm.warp(federation.getRound(round).nextDeadline); // and so it stays
            _assertStatus(round, IFederation.Status.Void);
            vm.revertToState(snapshot);
            for (uint256 i = 0; i < size; ++i) {
                isOpen[i] = false;
            }
        }
    }

    /// @notice Fewer objections change nothing: the round is settled, who objected is paid.
    function test_FewerObjectionsLeaveTheRoundStanding() public {
        uint256 round = _proposedSum(4);
        _object(round, 0);
        _object(round, 3);
        IFederation.Verdict[] memory verdicts = _sumVerdicts(round);
        _finalize(round, verdicts);
        vm.assertEq(federation.creditOf(_participant(0)), REWARD * uint256(_weight(0)) / WEIGHT_CAP);
        vm.assertEq(federation.creditOf(_participant(3)), REWARD * uint256(_weight(3)) / WEIGHT_CAP);
    }

    /// @notice Who posted its secrets itself may object, once, in the challenge window.
    function test_RevertWhen_ObjectingAsNobodyMay() public {
        (hasMissed[1], isLeftOut[3]) = (true, true);
        uint256 round = _sketchedWith(7);
        _unmaskFrom(round, 2);
        _toAssist(round);
        _expectWrongStatus(round, IFederation.Status.Challenge, IFederation.Status.Assist);
        _object(round, 2);
        _recover(round, 0);
        _propose(round, _sumVerdicts(round));
        _expectWrongSubmission(
            round, _participant(0), IFederation.SubmissionState.Unmasked, IFederation.SubmissionState.Recovered
        );
        _object(round, 0);
        _expectWrongSubmission(
            round, _participant(1), IFederation.SubmissionState.Unmasked, IFederation.SubmissionState.Committed
        );
        _object(round, 1);
        _expectWrongSubmission(
            round, _participant(3), IFederation.SubmissionState.Unmasked, IFederation.SubmissionState.Revealed
        );
        _object(round, 3);
        _expectWrongSubmission(round, stranger, IFederation.SubmissionState.Unmasked, IFederation.SubmissionState.None);
        vm.prank(stranger);
        federation.object(round);
        _object(round, 2);
        _expectWrongSubmission(
            round, _participant(2), IFederation.SubmissionState.Unmasked, IFederation.SubmissionState.Objected
        );
        _object(round, 2);
        vm.warp(federation.getRound(round).nextDeadline);
        _expectWrongStatus(round, IFederation.Status.Challenge, IFederation.Status.Settleable);
        _object(round, 4);
    }

    /// @notice An objection is to the sum: a refuted proposal does not take it back.
    function test_ObjectionsOutliveAProposal() public {
        uint256 round = _proposedSum(4);
        _object(round, 0);
        IFederation.Verdict[] memory verdicts = _sumVerdicts(round);
        vm.warp(block.timestamp + 1);
        _refute(round);
        _assertStatus(round, IFederation.Status.Propose);
        vm.assertEq(federation.getRound(round).nextDeadline, block.timestamp + PROPOSE, "no second seal");
        vm.assertEq(federation.getSum(round).objections, 1);
        _expectWrongStatus(round, IFederation.Status.Challenge, IFederation.Status.Propose);
        _object(round, 1);
        _propose(round, verdicts);
        _expectWrongSubmission(
            round, _participant(0), IFederation.SubmissionState.Unmasked, IFederation.SubmissionState.Objected
        );
        _object(round, 0);
        _object(round, 1);
        _object(round, 2);
        _assertStatus(round, IFederation.Status.Void);
    }

    // ---------------------------------------------------------------- streams

    /// @notice Who posted its secrets itself accounts for its masks once two thirds object, before and after the end.
    function test_WhoseSetWasObjectedToAccountsForItsMasks() public {
        uint256 round = _proposedSum(4);
        for (uint256 i = 0; i < 3; ++i) {
            _expectWrongStatus(round, IFederation.Status.Void, IFederation.Status.Challenge);
            _postStreams(round, i);
            _object(round, i);
        }
        for (uint256 i = 0; i < 4; ++i) {
            vm.expectEmit(address(federation));
            emit IFederation.StreamsPosted(round, _participant(i), keccak256(abi.encode(i)));
            _postStreams(round, i);
        }
        _void(round);
        _assertStatus(round, IFederation.Status.Abandoned);
        vm.expectEmit(address(federation));
        emit IFederation.StreamsPosted(round, _participant(1), keccak256(abi.encode(uint256(1))));
        _postStreams(round, 1);
    }

    /// @notice Nobody else is asked: strangers, who was silent or outside, or whose set nobody objects to.
    function test_RevertWhen_AccountingForMasksAsNobodyMay() public {
        (hasMissed[1], isLeftOut[3]) = (true, true);
        uint256 round = _sketchedWith(7);
        _unmaskFrom(round, 2);
        _toAssist(round);
        _recover(round, 0);
        _propose(round, _sumVerdicts(round));
        for (uint256 i = 4; i < 7; ++i) {
            _object(round, i);
        }
        _object(round, 2);
        _assertStatus(round, IFederation.Status.Void);
        IFederation.SubmissionState[3] memory states = [
            IFederation.SubmissionState.Recovered,
            IFederation.SubmissionState.Committed,
            IFederation.SubmissionState.Revealed
        ];
        uint256[3] memory who = [uint256(0), 1, 3];
        for (uint256 i = 0; i < 3; ++i) {
            _expectWrongSubmission(round, _participant(who[i]), IFederation.SubmissionState.Unmasked, states[i]);
            _postStreams(round, who[i]);
        }
        _expectWrongSubmission(round, stranger, IFederation.SubmissionState.Unmasked, IFederation.SubmissionState.None);
        vm.prank(stranger);
        federation.postStreams(round, 0);
    }

    // ------------------------------------------------------------------- void

    /// @notice Without the secrets of one the round is void: half the price to who posted its own, nothing else.
    function test_AVoidRoundPaysHalf() public {
        (hasMissed[1], isLeftOut[3]) = (true, true);
        IFederation.Terms memory terms = _terms();
        terms.seats.weightCap = 105; // of participants 5 and 6 the whole counts
        federation = _deploy(terms);
        uint256 round = _sketchedWith(8);
        _unmaskFrom(round, 4);
        _toAssist(round);
        _recover(round, 0);
        _toVoid(round); // 2 was silent
        _assertStatus(round, IFederation.Status.Void);
        uint256 paid = 0;
        for (uint256 i = 4; i < 8; ++i) {
            uint256 half = REWARD * uint256(_weight(i)) / (2 * 105);
            paid += half;
            vm.expectEmit(address(federation));
            emit IFederation.Paid(round, _participant(i), half);
        }
        vm.expectEmit(address(federation));
        emit IFederation.Voided(round);
        vm.expectEmit(address(federation));
        emit IFederation.Abandoned(round);
        _void(round);
        _assertStatus(round, IFederation.Status.Abandoned);
        vm.assertEq(federation.creditOf(_participant(4)), REWARD * uint256(104) / 210, "rounded down");
        vm.assertEq(federation.creditOf(_participant(7)), REWARD / 2, "held at the cap");
        vm.assertEq(federation.creditOf(_participant(0)), 0, "recovered");
        vm.assertEq(federation.creditOf(_participant(2)), 0, "silent");
        vm.assertEq(federation.creditOf(aggregators[0]), 0, "no fee");
        vm.assertEq(federation.escrow(), ESCROW - paid);
        vm.assertEq(federation.idleSince(), block.timestamp);
        _assertAggregator(aggregators[0], IFederation.AggregatorState.Bonded);
        (bytes32 root,) = federation.currentModel();
        vm.assertEq(root, INITIAL_ROOT, "the model stays");
        federation.penalize(round, _participant(2));
        federation.penalize(round, _participant(1));
        vm.assertEq(federation.burned(), 3 * PENALTY);
        _expectWrongStatus(round, IFederation.Status.Void, IFederation.Status.Abandoned);
        _void(round);
    }

    /// @notice Objections in a challenge window void the round likewise; the proposal is forgotten.
    function test_AnObjectedRoundPaysHalf() public {
        isLeftOut[1] = true;
        uint256 round = _proposedSum(5);
        _object(round, 0);
        _object(round, 2);
        _object(round, 4);
        _assertStatus(round, IFederation.Status.Void);
        _void(round);
        for (uint256 i = 0; i < 5; ++i) {
            uint256 half = i == 1 ? 0 : REWARD * uint256(_weight(i)) / (2 * WEIGHT_CAP);
            vm.assertEq(federation.creditOf(_participant(i)), half, "objected or not");
        }
        IFederation.Round memory facts = federation.getRound(round);
        vm.assertEq(facts.modelRoot, 0);
        vm.assertEq(facts.modelManifest, 0);
        vm.assertEq(facts.verdictsHash, 0);
        _assertAggregator(aggregators[0], IFederation.AggregatorState.Bonded);
        vm.assertEq(federation.burned(), 0);
    }

    /// @notice In a void round nothing but voidRound() is left.
    function test_RevertWhen_AVoidRoundIsToGoOn() public {
        uint256 round = _proposedSum(3);
        IFederation.Verdict[] memory verdicts = _sumVerdicts(round);
        _object(round, 0);
        _object(round, 1);
        _expectWrongStatus(round, IFederation.Status.Challenge, IFederation.Status.Void);
        _object(round, 2);
        vm.warp(federation.getRound(round).nextDeadline);
        _expectWrongStatus(round, IFederation.Status.Settleable, IFederation.Status.Void);
        federation.finalize(round, verdicts);
        _expectWrongStatus(round, IFederation.Status.Expired, IFederation.Status.Void);
        federation.abandon(round);
        vm.expectRevert(abi.encodeWithSelector(IFederation.RoundStillOpen.selector, round, IFederation.Status.Void));
        federation.replaceAggregator();
        IFederation.Opening memory opening = _opening(round, 0);
        _expectWrongStatus(round, IFederation.Status.Challenge, IFederation.Status.Void);
        federation.challengeVerdict(round, 0, verdicts, opening);
        _expectWrongStatus(round, IFederation.Status.Challenge, IFederation.Status.Void);
        federation.requestModelLeaf(round, 0);
        _void(round);
        _fund(_price());
        _mine();
        isOpen[0] = isOpen[1] = isOpen[2] = false;
        vm.assertEq(_open(), round + 1, "the federation goes on");
    }

    /// @notice Openings are those of all that posted their secrets themselves, in order, each as stored.
    function test_RevertWhen_AVoidRoundIsToldWrongly() public {
        isLeftOut[1] = true;
        uint256 round = _sketchedWith(6);
        _unmaskFrom(round, 2); // 0 is silent
        bytes memory list = _membersBytes();
        IFederation.Opening[] memory openings = _openings(round);
        _expectWrongStatus(round, IFederation.Status.Void, IFederation.Status.Unmask);
        federation.voidRound(round, list, openings);
        _toVoid(round);
        bytes memory other = _membersBytes();
        other[119] ^= 0x01;
        vm.expectRevert(abi.encodeWithSelector(IFederation.MembersMismatch.selector, keccak256(other), keccak256(list)));
        federation.voidRound(round, other, openings);
        for (uint256 given = 3; given <= 5; given += 2) {
            IFederation.Opening[] memory some = new IFederation.Opening[](given);
            for (uint256 k = 0; k < given && k < 4; ++k) {
                some[k] = openings[k];
            }
            vm.expectRevert(abi.encodeWithSelector(IFederation.OpenedCount.selector, given, 4));
            federation.voidRound(round, list, some);
        }
        openings[3].examples += 100;
        bytes30 given_ = bytes30(keccak256(abi.encode(openings[3])));
        vm.expectRevert(
            abi.encodeWithSelector(IFederation.RevealMismatch.selector, _participant(5), given_, _digest(round, 5))
        );
        federation.voidRound(round, list, openings);
    }

    /// @notice A price of nothing credits nothing.
    function test_AVoidRoundWithoutAPrice() public {
        IFederation.Terms memory terms = _terms();
        terms.money.updateReward = 0;
        federation = _deploy(terms);
        uint256 round = _sketchedWith(3);
        _unmaskFrom(round, 1);
        _toVoid(round);
        vm.recordLogs();
        _void(round);
        vm.assertEq(vm.getRecordedLogs().length, 2, "Voided and Abandoned");
        vm.assertEq(federation.escrow(), FEE);
    }

    // --------------------------------------------------------------- penalize

    /// @notice Who was silent pays when nobody can post its secrets any more, once.
    function test_TheSilentPay() public {
        isLeftOut[3] = true;
        uint256 round = _sketchedWith(5);
        _unmaskFrom(round, 2);
        IFederation.Status[2] memory open = [IFederation.Status.Unmask, IFederation.Status.Assist];
        for (uint256 i = 0; i < 2; ++i) {
            _expectWrongStatus(round, IFederation.Status.Void, open[i]);
            federation.penalize(round, _participant(0));
            _toAssist(round);
        }
        _toVoid(round);
        vm.expectEmit(address(federation));
        emit IFederation.Penalized(round, _participant(0), PENALTY);
        federation.penalize(round, _participant(0));
        _assertSubmission(round, _participant(0), IFederation.SubmissionState.Penalized);
        vm.assertFalse(federation.getParticipant(_participant(0)).active, "seat");
        _expectWrongSubmission(
            round, _participant(0), IFederation.SubmissionState.Committed, IFederation.SubmissionState.Penalized
        );
        federation.penalize(round, _participant(0));
        _expectWrongSubmission(
            round, _participant(2), IFederation.SubmissionState.Committed, IFederation.SubmissionState.Unmasked
        );
        federation.penalize(round, _participant(2));
        vm.expectRevert(abi.encodeWithSelector(IFederation.NotInSet.selector, round, _participant(3)));
        federation.penalize(round, _participant(3));
        _void(round);
        federation.penalize(round, _participant(1)); // after it, too
        vm.assertEq(federation.burned(), 2 * PENALTY);
    }

    /// @notice Who was left out and revealed pays nothing, however the round ends.
    function test_RevertWhen_AnUpdateOutsideIsToPay() public {
        isLeftOut[3] = true;
        uint256 round = _proposedSum(5);
        _expectWrongStatus(round, IFederation.Status.Void, IFederation.Status.Challenge);
        federation.penalize(round, _participant(3));
        _finalize(round, _sumVerdicts(round));
        _expectWrongStatus(round, IFederation.Status.Void, IFederation.Status.Finalized);
        federation.penalize(round, _participant(3));
    }

    /// @notice A commitment that was never revealed costs the penalty from the seal's phase on.
    function test_MissedRevealsPayFromTheSealOn() public {
        hasMissed[1] = true;
        uint256 round = _committedMasked(4);
        _revealMasked(round, 0);
        _expectWrongStatus(round, IFederation.Status.Seal, IFederation.Status.Reveal);
        federation.penalize(round, _participant(1));
        _revealMasked(round, 2);
        _revealMasked(round, 3);
        vm.warp(federation.getRound(round).revealDeadline);
        _assertStatus(round, IFederation.Status.Seal);
        federation.penalize(round, _participant(1));
        vm.assertEq(federation.burned(), PENALTY);
        _seal(round); // a penalized commitment is sealed as one that was not revealed
        vm.assertEq(federation.getSum(round).size, 3);
        vm.assertEq(federation.getSum(round).byRank, 13); // 0b1101
    }

    // --------------------------------------------------- rounds that do not go on

    /// @notice With fewer reveals than a set takes anybody ends the round, and nobody is blamed.
    function test_ARoundOfTooFewIsAbandoned() public {
        for (uint256 revealed = 0; revealed < 3; ++revealed) {
            federation = _deploy(_terms());
            for (uint256 i = 0; i < 5; ++i) {
                hasMissed[i] = i >= revealed;
            }
            uint256 round = _revealedMasked(5);
            _assertStatus(round, IFederation.Status.Seal);
            uint256 snapshot = vm.snapshotState();
            for (uint256 late = 0; late < 2; ++late) {
                if (late == 1) {
                    vm.warp(federation.getRound(round).nextDeadline);
                    _assertStatus(round, IFederation.Status.Expired);
                    vm.expectRevert(
                        abi.encodeWithSelector(IFederation.RoundStillOpen.selector, round, IFederation.Status.Expired)
                    );
                    federation.replaceAggregator();
                }
                vm.prank(stranger);
                federation.abandon(round);
                _assertStatus(round, IFederation.Status.Abandoned);
                _assertAggregator(aggregators[0], IFederation.AggregatorState.Bonded);
                vm.assertEq(federation.escrow(), ESCROW);
                vm.revertToState(snapshot);
                snapshot = vm.snapshotState();
            }
        }
    }

    /// @notice Nobody reveals into a round whose sum can never be opened, and nobody pays for that.
    function test_ARoundOfTooFewCommitmentsHasNoReveals() public {
        uint256 round = _openWith(4);
        members = 3;
        _commitMasked(round, 0);
        _commitMasked(round, 1);
        uint256 snapshot = vm.snapshotState();
        vm.warp(federation.getRound(round).commitDeadline - 1);
        _commitMasked(round, 2); // three are enough
        vm.warp(federation.getRound(round).commitDeadline);
        _assertStatus(round, IFederation.Status.Reveal);
        vm.revertToState(snapshot);
        vm.warp(federation.getRound(round).commitDeadline);
        _assertStatus(round, IFederation.Status.Seal);
        _expectWrongStatus(round, IFederation.Status.Reveal, IFederation.Status.Seal);
        _revealMasked(round, 0);
        vm.expectRevert(abi.encodeWithSelector(IFederation.NothingRevealed.selector, round));
        federation.penalize(round, _participant(0));
        federation.abandon(round);
        _assertStatus(round, IFederation.Status.Abandoned);
        vm.expectRevert(abi.encodeWithSelector(IFederation.NothingRevealed.selector, round));
        federation.penalize(round, _participant(1));
    }

    /// @notice With enough of them the lead answers for the seal, as for the proposal.
    function test_RevertWhen_ARoundIsAbandonedThatCouldBeSealed() public {
        (hasMissed[3], hasMissed[4]) = (true, true);
        uint256 round = _revealedMasked(5);
        _expectWrongStatus(round, IFederation.Status.Expired, IFederation.Status.Seal);
        federation.abandon(round);
        vm.expectRevert(abi.encodeWithSelector(IFederation.RoundStillOpen.selector, round, IFederation.Status.Seal));
        federation.replaceAggregator();
        uint256 snapshot = vm.snapshotState();
        _seal(round);
        _mine();
        federation.fixSketch(round);
        _expectWrongStatus(round, IFederation.Status.Expired, IFederation.Status.Unmask);
        federation.abandon(round);
        _unmaskFrom(round, 0);
        _expectWrongStatus(round, IFederation.Status.Expired, IFederation.Status.Propose);
        federation.abandon(round);
        vm.warp(federation.getRound(round).nextDeadline);
        vm.expectRevert(abi.encodeWithSelector(IFederation.StandbyAvailable.selector, aggregators[1]));
        federation.abandon(round);
        vm.revertToState(snapshot);

        vm.warp(federation.getRound(round).nextDeadline);
        vm.expectRevert(abi.encodeWithSelector(IFederation.StandbyAvailable.selector, aggregators[1]));
        federation.abandon(round);
        federation.replaceAggregator();
        vm.warp(federation.getRound(round).nextDeadline);
        _assertStatus(round, IFederation.Status.Expired);
        federation.abandon(round); // no standby is left: the second one is slashed too
        _assertAggregator(aggregators[0], IFederation.AggregatorState.Slashed);
        _assertAggregator(aggregators[1], IFederation.AggregatorState.Slashed);
        vm.assertEq(federation.burned(), 2 * uint256(BOND));
        vm.assertTrue(federation.isOver(), "nobody is left to lead");
    }

    /// @notice After the seal a late proposal costs the bond, and the standby proposes over the same set.
    function test_TheStandbyProposesOverTheSealedSet() public {
        isLeftOut[0] = true;
        uint256 round = _summedWith(5);
        vm.warp(federation.getRound(round).nextDeadline);
        _assertStatus(round, IFederation.Status.Expired);
        vm.expectEmit(address(federation));
        emit IFederation.AggregatorReplaced(round, aggregators[0], aggregators[1], uint40(block.timestamp) + PROPOSE);
        federation.replaceAggregator();
        _proposeAs(aggregators[1], round, _sumVerdicts(round));
        _finalize(round, _sumVerdicts(round));
        vm.assertEq(federation.lastFinalizedRound(), round);
    }

    // ----------------------------------------------------------- leaf requests

    /// @notice A request that is open when the round becomes void is given back: no bond is touched.
    function test_RequestsOfAVoidRoundAreReturned() public {
        uint256 round = _proposedSum(3);
        _give(stranger, DEPOSIT);
        vm.prank(stranger);
        federation.requestModelLeaf(round, 0);
        vm.assertEq(federation.getRound(round).openRequests, 1);
        vm.expectRevert(
            abi.encodeWithSelector(IFederation.LeafNotLate.selector, block.timestamp, block.timestamp + RESPONSE)
        );
        federation.settleRequest(NEW_ROOT, 0);
        _object(round, 0);
        _object(round, 1);
        _assertStatus(round, IFederation.Status.Void);
        IFederation.LeafAnswer[] memory answers = new IFederation.LeafAnswer[](1);
        answers[0].root = NEW_ROOT;
        vm.expectRevert(abi.encodeWithSelector(IFederation.NotRequested.selector, NEW_ROOT, 0));
        federation.postLeaves(answers);
        uint256 snapshot = vm.snapshotState();
        for (uint256 i = 0; i < 2; ++i) {
            if (i == 0) vm.warp(federation.getRound(round).nextDeadline); // long overdue
            else _void(round);
            federation.settleRequest(NEW_ROOT, 0);
            vm.assertEq(federation.creditOf(stranger), DEPOSIT);
            vm.assertEq(federation.deposits(), 0);
            _assertAggregator(aggregators[0], IFederation.AggregatorState.Bonded);
            _assertStatus(round, i == 0 ? IFederation.Status.Void : IFederation.Status.Abandoned);
            vm.revertToState(snapshot);
            snapshot = vm.snapshotState();
        }
        vm.assertEq(federation.getRound(round).openRequests, 1);
        _void(round);
        vm.assertEq(federation.getRound(round).openRequests, 0);
    }

    // ---------------------------------------------------------------- the next

    /// @notice Each round has a sum of its own.
    function test_TwoRounds() public {
        isLeftOut[0] = true;
        uint256 first = _proposedSum(4);
        _finalize(first, _sumVerdicts(first));
        IFederation.Sum memory sum = federation.getSum(first);
        isLeftOut[0] = false;
        for (uint256 i = 0; i < 4; ++i) {
            isOpen[i] = false;
        }
        _fund(_price());
        _mine();
        uint256 second = _open();
        _commitAllMasked(second, 4);
        _revealAllMasked(second);
        vm.assertEq(federation.getSum(second).sealedBlock, 0);
        _seal(second);
        _mine();
        federation.fixSketch(second);
        _unmaskFrom(second, 0);
        _propose(second, _sumVerdicts(second));
        _finalize(second, _sumVerdicts(second));
        vm.assertEq(federation.lastFinalizedRound(), second);
        vm.assertEq(abi.encode(federation.getSum(first)), abi.encode(sum));
        vm.assertEq(federation.getSum(second).size, 4);
    }

    // --------------------------------------------------------------- helpers

    function _refuseUnsealed(uint256 round, uint256 i, uint32 weight, uint16 score, uint8 reason) private {
        IFederation.Verdict[] memory verdicts = _sumVerdicts(round);
        (verdicts[i].weight, verdicts[i].score, verdicts[i].reason) = (weight, score, reason);
        vm.expectRevert(abi.encodeWithSelector(IFederation.NotAsSealed.selector, round, _participant(i)));
        _proposeAs(aggregators[0], round, verdicts);
    }

    function _refuseForm(uint256 round, uint256 i, uint32 weight, uint16 score, uint8 reason) private {
        IFederation.Verdict[] memory verdicts = _sumVerdicts(round);
        (verdicts[i].weight, verdicts[i].score, verdicts[i].reason) = (weight, score, reason);
        vm.expectRevert(
            abi.encodeWithSelector(IFederation.InvalidVerdict.selector, _participant(i), weight, score, reason)
        );
        _proposeAs(aggregators[0], round, verdicts);
    }

    /// @dev A leaf of the proposal that nobody posts.
    function _refute(uint256 round) private {
        _give(stranger, DEPOSIT);
        vm.prank(stranger);
        federation.requestModelLeaf(round, 0);
        vm.warp(block.timestamp + RESPONSE);
        federation.settleRequest(NEW_ROOT, 0);
        _assertAggregator(aggregators[0], IFederation.AggregatorState.Slashed);
    }
}
