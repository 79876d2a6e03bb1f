// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IFederation} from "../src/IFederation.sol";
import {MaskedWorld} from "./kit/MaskedWorld.sol";

/// @dev Commitments, reveals, the seal and the secrets of masked updates: each rule, and what breaks it.
contract MaskingTest is MaskedWorld {
    // ----------------------------------------------------------------- commit

    /// @notice A commitment is kept as a clear one is, and its key is told.
    function test_CommitMasked() public {
        uint256 round = _openWith(3);
        members = 3;
        bytes32 commitment = _maskedCommitment(round, 1);
        vm.expectEmit(address(federation));
        emit IFederation.Committed(round, _participant(1), commitment);
        vm.expectEmit(address(federation));
        emit IFederation.KeyPublished(round, _participant(1), _publicKey(round, 1));
        _commitMasked(round, 1);
        IFederation.Submission memory submission = federation.getSubmission(round, _participant(1));
        vm.assertEq(bytes32(submission.digest), bytes32(bytes30(commitment)), "digest");
        _assertSubmission(round, _participant(1), IFederation.SubmissionState.Committed);
        _commitMasked(round, 0);
        vm.assertEq(federation.getSubmission(round, _participant(0)).order, 1, "order");
        vm.assertEq(federation.getRound(round).committed, 2);
        vm.assertEq(federation.getParticipant(_participant(0)).lastCommitted, round);
    }

    /// @notice The rules of commit() hold: its phase, its seats, once each, a digest.
    function test_RevertWhen_CommittingAsNobodyMay() public {
        uint256 round = _openWith(3);
        bytes32 key = _publicKey(round, 0);
        vm.expectRevert(abi.encodeWithSelector(IFederation.ZeroDigest.selector));
        vm.prank(_participant(0));
        federation.commitMasked(round, 0, key);
        vm.expectRevert(abi.encodeWithSelector(IFederation.NotActive.selector, round, stranger));
        vm.prank(stranger);
        federation.commitMasked(round, "commitment", key);
        members = 3;
        _commitMasked(round, 0);
        _expectWrongSubmission(
            round, _participant(0), IFederation.SubmissionState.None, IFederation.SubmissionState.Committed
        );
        vm.prank(_participant(0));
        federation.commitMasked(round, "another", key);
        vm.warp(federation.getRound(round).commitDeadline);
        _expectWrongStatus(round, IFederation.Status.Commit, IFederation.Status.Seal);
        vm.prank(_participant(1));
        federation.commitMasked(round, "late", key);
    }

    /// @notice No key of small order is taken, with its highest bit set or not; those next to them are.
    function test_RevertWhen_AKeyIsWeak() public {
        uint256 round = _openWith(3);
        bytes32[7] memory weak = [
            bytes32(0),
            hex"0100000000000000000000000000000000000000000000000000000000000000",
            hex"e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
            hex"5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
            hex"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            hex"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            hex"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"
        ];
        for (uint256 i = 0; i < 7; ++i) {
            bytes32 twin = weak[i] | bytes32(uint256(0x80));
            _refuseKey(round, weak[i]);
            _refuseKey(round, twin);
        }
        uint256 snapshot = vm.snapshotState();
        for (uint256 i = 0; i < 7; ++i) {
            // Another bit, in the byte that is read last and in the one that is read first.
            _takeKey(round, weak[i] ^ bytes32(uint256(0x40)));
            vm.revertToState(snapshot);
            snapshot = vm.snapshotState();
            _takeKey(round, weak[i] ^ bytes32(uint256(0x10) << 248));
            vm.revertToState(snapshot);
            snapshot = vm.snapshotState();
        }
    }

    /// @notice Masked and clear federations have calls of their own to commit and to reveal.
    function test_RevertWhen_TheCallIsOfTheOtherPrivacy() public {
        uint256 round = _openWith(3);
        _expectWrongPrivacy(IFederation.Privacy.Masked);
        vm.prank(_participant(0));
        federation.commit(round, "commitment");
        members = 3;
        _commitMasked(round, 0);
        _commitMasked(round, 1);
        _commitMasked(round, 2);
        _expectWrongPrivacy(IFederation.Privacy.Masked);
        vm.prank(_participant(0));
        federation.reveal(round, "root", "manifest", 1, 0);

        IFederation.Terms memory clear = _terms();
        clear.rules.privacy = IFederation.Privacy.Clear;
        clear.rules.minSet = 0;
        clear.windows.sealSeconds = clear.windows.unmaskSeconds = clear.windows.assistSeconds = 0;
        federation = _deploy(clear);
        round = _openWith(3);
        bytes32 key = _publicKey(round, 0);
        _expectWrongPrivacy(IFederation.Privacy.Clear);
        vm.prank(_participant(0));
        federation.commitMasked(round, "commitment", key);
        _commitAll(round, 3);
        IFederation.MaskedReveal memory revealed = _maskedReveal(round, 0);
        _expectWrongPrivacy(IFederation.Privacy.Clear);
        vm.prank(_participant(0));
        federation.revealMasked(round, revealed);
    }

    /// @notice Nothing of a sum is to be had where updates are clear.
    function test_RevertWhen_AClearFederationIsAskedForASum() public {
        IFederation.Terms memory clear = _terms();
        clear.rules.privacy = IFederation.Privacy.Clear;
        clear.rules.minSet = 0;
        clear.windows.sealSeconds = clear.windows.unmaskSeconds = clear.windows.assistSeconds = 0;
        federation = _deploy(clear);
        members = 3;
        uint256 round = 1;
        bytes[7] memory calls = [
            abi.encodeCall(IFederation.sealSet, (round, new IFederation.Verdict[](0))),
            abi.encodeCall(IFederation.fixSketch, (round)),
            abi.encodeCall(IFederation.unmask, (round, _secrets(round, 0), 0)),
            abi.encodeCall(IFederation.assist, (round, _participant(0), new bytes32[](1))),
            abi.encodeCall(IFederation.object, (round)),
            abi.encodeCall(IFederation.postStreams, (round, bytes32(0))),
            abi.encodeCall(IFederation.voidRound, (round, "", new IFederation.Opening[](0)))
        ];
        for (uint256 i = 0; i < 7; ++i) {
            (bool isDone, bytes memory answer) = address(federation).call(calls[i]);
            vm.assertFalse(isDone, vm.toString(i));
            vm.assertEq(
                answer, abi.encodeWithSelector(IFederation.WrongPrivacy.selector, IFederation.Privacy.Clear), "privacy"
            );
        }
    }

    // ----------------------------------------------------------------- reveal

    /// @notice A reveal binds root, manifest, examples and secrets, and counts as a clear one does.
    function test_RevealMasked() public {
        uint256 round = _committedMasked(4);
        IFederation.MaskedReveal memory r = _maskedReveal(round, 2);
        vm.expectEmit(address(federation));
        emit IFederation.Revealed(round, _participant(2), r.root, r.manifest, r.examples, r.salt);
        vm.expectEmit(address(federation));
        emit IFederation.SecretsBound(round, _participant(2), r.secrets);
        _revealMasked(round, 2);
        bytes32 binding = keccak256(abi.encode(r.manifest, r.secrets));
        bytes30 expected = bytes30(keccak256(abi.encode(r.root, binding, uint256(r.examples))));
        bytes30 digest = federation.getSubmission(round, _participant(2)).digest;
        vm.assertEq(bytes32(digest), bytes32(expected), "digest");
        _assertSubmission(round, _participant(2), IFederation.SubmissionState.Revealed);
        vm.assertEq(federation.getRound(round).revealed, 1);
        vm.assertEq(federation.getRound(round).revealedWeight, _weight(2));
    }

    /// @notice What the contract keeps of a reveal is what tests/vectors/openings.json says, which Python is held to.
    function test_OpeningVectors() public {
        string memory json = vm.readFile("../tests/vectors/openings.json");
        uint256 count = vm.parseJsonUint(json, ".case_count");
        vm.assertGt(count, 2, "cases");
        uint256 round = _openWith(count);
        IFederation.MaskedReveal[] memory reveals = new IFederation.MaskedReveal[](count);
        for (uint256 i = 0; i < count; ++i) {
            string memory key = string.concat(".cases[", vm.toString(i), "]");
            reveals[i].root = vm.parseJsonBytes32(json, string.concat(key, ".root"));
            reveals[i].manifest = vm.parseJsonBytes32(json, string.concat(key, ".manifest"));
            reveals[i].examples = uint32(vm.parseJsonUint(json, string.concat(key, ".examples")));
            reveals[i].secrets = vm.parseJsonBytes32(json, string.concat(key, ".secrets"));
            reveals[i].publicKey = _publicKey(round, i);
            address account = _participant(i);
            bytes32 commitment = keccak256(
                abi.encode(federation, round, account, reveals[i].publicKey, reveals[i].examples, reveals[i].salt)
            );
            vm.prank(account);
            federation.commitMasked(round, commitment, reveals[i].publicKey);
        }
        if (federation.status(round) == IFederation.Status.Commit) vm.warp(federation.getRound(round).commitDeadline);
        for (uint256 i = 0; i < count; ++i) {
            _revealMaskedAs(round, i, reveals[i]);
            bytes32 expected = vm.parseJsonBytes32(json, string.concat(".cases[", vm.toString(i), "].revealed_digest"));
            bytes30 digest = federation.getSubmission(round, _participant(i)).digest;
            vm.assertEq(bytes32(digest), bytes32(bytes30(expected)), vm.toString(i));
        }
    }

    /// @notice No update weighs more than the cap.
    function test_TheWeightIsCapped() public {
        IFederation.Terms memory terms = _terms();
        terms.seats.weightCap = 101;
        federation = _deploy(terms);
        uint256 round = _committedMasked(3);
        _revealAllMasked(round);
        vm.assertEq(federation.getRound(round).revealedWeight, 100 + 101 + 101);
    }

    /// @notice Key, examples and salt are what was committed to.
    function test_RevertWhen_TheRevealIsAnother() public {
        uint256 round = _committedMasked(3);
        for (uint256 i = 0; i < 3; ++i) {
            IFederation.MaskedReveal memory r = _maskedReveal(round, 0);
            if (i == 0) r.publicKey ^= bytes32(uint256(1));
            if (i == 1) r.examples += 1;
            if (i == 2) r.salt ^= bytes32(uint256(1));
            bytes32 opened = keccak256(
                abi.encode(address(federation), round, _participant(0), r.publicKey, uint256(r.examples), r.salt)
            );
            vm.expectRevert(
                abi.encodeWithSelector(
                    IFederation.CommitmentMismatch.selector, bytes30(_maskedCommitment(round, 0)), bytes30(opened)
                )
            );
            _revealMaskedAs(round, 0, r);
        }
        // A commitment is its participant's.
        IFederation.MaskedReveal memory stolen = _maskedReveal(round, 1);
        vm.expectRevert();
        _revealMaskedAs(round, 0, stolen);
    }

    /// @notice The rules of reveal() hold: its phase, once each, digests and examples.
    function test_RevertWhen_RevealingAsNobodyMay() public {
        uint256 round = _openWith(4);
        members = 3;
        _commitMasked(round, 0);
        _expectWrongStatus(round, IFederation.Status.Reveal, IFederation.Status.Commit);
        _revealMasked(round, 0);
        _commitMasked(round, 1);
        _commitMasked(round, 2);
        vm.warp(federation.getRound(round).commitDeadline);
        IFederation.MaskedReveal memory r = _maskedReveal(round, 0);
        r.root = 0;
        vm.expectRevert(abi.encodeWithSelector(IFederation.ZeroDigest.selector));
        _revealMaskedAs(round, 0, r);
        r = _maskedReveal(round, 0);
        r.manifest = 0;
        vm.expectRevert(abi.encodeWithSelector(IFederation.ZeroDigest.selector));
        _revealMaskedAs(round, 0, r);
        r = _maskedReveal(round, 0);
        r.secrets = 0;
        vm.expectRevert(abi.encodeWithSelector(IFederation.ZeroDigest.selector));
        _revealMaskedAs(round, 0, r);
        r = _maskedReveal(round, 0);
        r.examples = 0;
        vm.expectRevert(abi.encodeWithSelector(IFederation.NoExamples.selector));
        _revealMaskedAs(round, 0, r);
        _revealMasked(round, 0);
        _expectWrongSubmission(
            round, _participant(0), IFederation.SubmissionState.Committed, IFederation.SubmissionState.Revealed
        );
        _revealMasked(round, 0);
        _expectWrongSubmission(
            round, _participant(3), IFederation.SubmissionState.Committed, IFederation.SubmissionState.None
        );
        _revealMaskedAs(round, 3, r);
    }

    // ----------------------------------------------------------------- phases

    /// @notice Each phase of a masked round, to the second.
    function test_PhasesOfASum() public {
        hasMissed[3] = true;
        uint256 round = _committedMasked(5);
        uint40 revealDeadline = federation.getRound(round).revealDeadline;
        vm.assertEq(federation.getRound(round).nextDeadline, revealDeadline + SEAL, "until the seal");
        for (uint256 i = 0; i < 5; ++i) {
            if (i != 3) _revealMasked(round, i);
        }
        vm.warp(revealDeadline - 1);
        _assertStatus(round, IFederation.Status.Reveal);
        vm.warp(revealDeadline);
        _assertStatus(round, IFederation.Status.Seal);
        vm.warp(revealDeadline + SEAL - 1);
        _assertStatus(round, IFederation.Status.Seal);
        uint256 snapshot = vm.snapshotState();
        vm.warp(revealDeadline + SEAL);
        _assertStatus(round, IFederation.Status.Expired);
        vm.revertToState(snapshot);

        _seal(round);
        uint256 sealedAt = block.timestamp;
        vm.assertEq(federation.getSum(round).unmaskDeadline, sealedAt + UNMASK);
        vm.assertEq(federation.getSum(round).assistDeadline, sealedAt + UNMASK + ASSIST);
        vm.assertEq(federation.getRound(round).nextDeadline, sealedAt + UNMASK + ASSIST + PROPOSE);
        _mine();
        federation.fixSketch(round);
        vm.warp(sealedAt + UNMASK - 1);
        _assertStatus(round, IFederation.Status.Unmask);
        vm.warp(sealedAt + UNMASK);
        _assertStatus(round, IFederation.Status.Assist);
        vm.warp(sealedAt + UNMASK + ASSIST - 1);
        _assertStatus(round, IFederation.Status.Assist);
        snapshot = vm.snapshotState();
        vm.warp(sealedAt + UNMASK + ASSIST);
        _assertStatus(round, IFederation.Status.Void);
        vm.warp(sealedAt + UNMASK + ASSIST + PROPOSE);
        _assertStatus(round, IFederation.Status.Void);
        vm.revertToState(snapshot);

        _unmaskFrom(round, 0);
        _assertStatus(round, IFederation.Status.Propose);
        vm.warp(sealedAt + UNMASK + ASSIST + PROPOSE - 1);
        _assertStatus(round, IFederation.Status.Propose);
        snapshot = vm.snapshotState();
        vm.warp(sealedAt + UNMASK + ASSIST + PROPOSE);
        _assertStatus(round, IFederation.Status.Expired);
        vm.revertToState(snapshot);

        _propose(round, _sumVerdicts(round));
        _assertStatus(round, IFederation.Status.Challenge);
        vm.warp(block.timestamp + CHALLENGE);
        _assertStatus(round, IFederation.Status.Settleable);
        federation.finalize(round, _sumVerdicts(round));
        _assertStatus(round, IFederation.Status.Finalized);
    }

    /// @notice Reveals that are all in need no deadline, and neither do secrets.
    function test_PhasesEndEarly() public {
        uint256 round = _openWith(SEATS);
        uint256 start = block.timestamp;
        members = SEATS;
        _commitAllMasked(round, SEATS);
        for (uint256 i = 0; i < SEATS; ++i) {
            _assertStatus(round, IFederation.Status.Reveal);
            _revealMasked(round, i);
        }
        _assertStatus(round, IFederation.Status.Seal);
        _seal(round);
        _assertStatus(round, IFederation.Status.Unmask);
        _mine();
        federation.fixSketch(round);
        _unmaskFrom(round, 0);
        _assertStatus(round, IFederation.Status.Propose);
        vm.assertEq(block.timestamp, start, "no time has passed");
    }

    // ------------------------------------------------------------------- seal

    /// @notice A seal keeps who is in, by order and by rank, and who committed; it says when what is due.
    function test_Seal() public {
        (hasMissed[1], isLeftOut[4]) = (true, true);
        uint256 round = _openWith(7);
        members = 7;
        uint8[7] memory order = [6, 2, 0, 1, 5, 4, 3]; // in which they commit
        for (uint256 i = 0; i < 7; ++i) {
            _commitMasked(round, order[i]);
        }
        _revealAllMasked(round);
        IFederation.Verdict[] memory verdicts = _sealVerdicts(round);
        uint40 unmaskDeadline = uint40(block.timestamp) + UNMASK;
        vm.expectEmit(address(federation));
        emit IFederation.SetSealed(
            round, aggregators[0], unmaskDeadline, unmaskDeadline + ASSIST, unmaskDeadline + ASSIST + PROPOSE, verdicts
        );
        _seal(round);
        IFederation.Sum memory sum = federation.getSum(round);
        vm.assertEq(sum.sealedBlock, block.number);
        vm.assertEq(sum.size, 5, "size");
        vm.assertEq(sum.byRank, 109, "all but 1 and 4, by rank"); // 0b1101101
        vm.assertEq(sum.byOrder, 87, "all but the fourth and the sixth, by order"); // 0b1010111
        vm.assertEq(sum.membersHash, keccak256(_membersBytes()), "members");
        vm.assertEq(sum.unmasked, 0);
        vm.assertEq(sum.objections, 0);
        vm.assertEq(sum.sketchSeed, 0, "sketches");
    }

    /// @notice A seal comes after the reveals and before its deadline, from whoever leads.
    function test_RevertWhen_TheSealIsNotDue() public {
        uint256 round = _committedMasked(3);
        IFederation.Verdict[] memory verdicts = _sealVerdicts(round);
        _expectWrongStatus(round, IFederation.Status.Seal, IFederation.Status.Reveal);
        _sealAs(aggregators[0], round, verdicts);
        _revealAllMasked(round);
        verdicts = _sealVerdicts(round);
        vm.expectRevert(abi.encodeWithSelector(IFederation.NotAggregator.selector, aggregators[1], aggregators[0]));
        _sealAs(aggregators[1], round, verdicts);
        vm.warp(federation.getRound(round).nextDeadline);
        _expectWrongStatus(round, IFederation.Status.Seal, IFederation.Status.Expired);
        _sealAs(aggregators[0], round, verdicts);
    }

    /// @notice There is one seal: two sums over different sets would open the updates in which they differ.
    function test_RevertWhen_ASecondSetIsSealed() public {
        uint256 round = _sketchedWith(5);
        isLeftOut[0] = true;
        IFederation.Verdict[] memory other = _sealVerdicts(round);
        _expectWrongStatus(round, IFederation.Status.Seal, IFederation.Status.Unmask);
        _sealAs(aggregators[0], round, other);
        _toAssist(round);
        _expectWrongStatus(round, IFederation.Status.Seal, IFederation.Status.Assist);
        _sealAs(aggregators[0], round, other);
        uint256 snapshot = vm.snapshotState();
        _toVoid(round);
        _expectWrongStatus(round, IFederation.Status.Seal, IFederation.Status.Void);
        _sealAs(aggregators[0], round, other);
        vm.revertToState(snapshot);

        isLeftOut[0] = false;
        _unmaskFrom(round, 0);
        IFederation.Sum memory sum = federation.getSum(round);
        vm.warp(federation.getRound(round).nextDeadline);
        federation.replaceAggregator();
        _assertStatus(round, IFederation.Status.Propose); // no second phase of sealing
        _expectWrongStatus(round, IFederation.Status.Seal, IFederation.Status.Propose);
        _sealAs(aggregators[1], round, other);
        vm.assertEq(abi.encode(federation.getSum(round)), abi.encode(sum));
        _propose(round, _sumVerdicts(round));
        _expectWrongStatus(round, IFederation.Status.Seal, IFederation.Status.Challenge);
        _sealAs(aggregators[1], round, other);
    }

    /// @notice Who is late with the seal loses the bond, and the standby seals in a phase of its own.
    function test_TheStandbySealsWhenTheLeadIsLate() public {
        uint256 round = _revealedMasked(4);
        vm.warp(federation.getRound(round).nextDeadline);
        vm.expectEmit(address(federation));
        emit IFederation.AggregatorReplaced(round, aggregators[0], aggregators[1], uint40(block.timestamp) + SEAL);
        federation.replaceAggregator();
        _assertAggregator(aggregators[0], IFederation.AggregatorState.Slashed);
        _assertStatus(round, IFederation.Status.Seal);
        vm.assertEq(federation.getRound(round).nextDeadline, block.timestamp + SEAL);
        IFederation.Verdict[] memory verdicts = _sealVerdicts(round);
        vm.expectRevert(abi.encodeWithSelector(IFederation.NotAggregator.selector, aggregators[0], aggregators[1]));
        _sealAs(aggregators[0], round, verdicts);
        _sealAs(aggregators[1], round, verdicts);
        _assertStatus(round, IFederation.Status.Unmask);
    }

    /// @notice Verdicts are on all that committed, in order, each on what is stored.
    function test_RevertWhen_TheVerdictsAreNotOnAllThatCommitted() public {
        hasMissed[2] = true;
        uint256 round = _revealedMasked(5);
        IFederation.Verdict[] memory verdicts = new IFederation.Verdict[](4);
        vm.expectRevert(abi.encodeWithSelector(IFederation.VerdictCount.selector, 4, 5));
        _sealAs(aggregators[0], round, verdicts);
        verdicts = _sealVerdicts(round);
        (verdicts[0], verdicts[1]) = (verdicts[1], verdicts[0]);
        vm.expectRevert(abi.encodeWithSelector(IFederation.VerdictOrder.selector, _participant(1), _participant(0)));
        _sealAs(aggregators[0], round, verdicts);
        verdicts[0] = verdicts[1];
        vm.expectRevert(abi.encodeWithSelector(IFederation.VerdictOrder.selector, _participant(0), _participant(0)));
        _sealAs(aggregators[0], round, verdicts);
        verdicts = _sealVerdicts(round);
        verdicts[4].participant = _participant(5); // took no part
        _expectWrongSubmission(
            round, _participant(5), IFederation.SubmissionState.Committed, IFederation.SubmissionState.None
        );
        _sealAs(aggregators[0], round, verdicts);
        verdicts = _sealVerdicts(round);
        bytes30 digest = _digest(round, 1);
        verdicts[1].revealed = digest ^ bytes30(uint240(1));
        vm.expectRevert(
            abi.encodeWithSelector(
                IFederation.RevealMismatch.selector, _participant(1), digest ^ bytes30(uint240(1)), digest
            )
        );
        _sealAs(aggregators[0], round, verdicts);
        verdicts = _sealVerdicts(round);
        digest = federation.getSubmission(round, _participant(2)).digest; // a commitment is no reveal
        verdicts[2].revealed = digest;
        vm.expectRevert(
            abi.encodeWithSelector(IFederation.RevealMismatch.selector, _participant(2), digest, bytes30(0))
        );
        _sealAs(aggregators[0], round, verdicts);
    }

    /// @notice In the set: a weight up to the cap, the full score, no reason. Outside: a reason alone, or nothing.
    function test_RevertWhen_AVerdictOfTheSealHasNoForm() public {
        hasMissed[2] = true;
        uint256 round = _revealedMasked(5);
        _refuseForm(round, 0, 0, FULL, 0);
        _refuseForm(round, 0, 0, 0, 0);
        _refuseForm(round, 0, WEIGHT_CAP + 1, FULL, 0);
        _refuseForm(round, 0, 1, FULL - 1, 0);
        _refuseForm(round, 0, 1, FULL + 1, 0);
        _refuseForm(round, 0, 1, FULL, 1);
        _refuseForm(round, 0, 1, 0, 1);
        _refuseForm(round, 0, 0, 1, 1);
        _refuseForm(round, 2, 1, FULL, 0);
        _refuseForm(round, 2, 0, 0, 1);
        _refuseForm(round, 2, 0, 1, 0);
        IFederation.Verdict[] memory verdicts = _sealVerdicts(round);
        verdicts[0].weight = WEIGHT_CAP;
        _sealAs(aggregators[0], round, verdicts);
    }

    /// @notice The set has two thirds of what was revealed, rounded up, and minSet at least.
    function test_TheSetHasTwoThirdsOfTheReveals() public {
        for (uint256 revealed = 3; revealed <= SEATS; ++revealed) {
            uint256 least = (2 * revealed + 2) / 3;
            if (least < 3) least = 3;
            federation = _deploy(_terms());
            uint256 round = _revealedMasked(revealed);
            for (uint256 i = 0; i < revealed; ++i) {
                isLeftOut[i] = i >= least - 1;
            }
            IFederation.Verdict[] memory verdicts = _sealVerdicts(round);
            vm.expectRevert(abi.encodeWithSelector(IFederation.SetTooSmall.selector, least - 1, least));
            _sealAs(aggregators[0], round, verdicts);
            isLeftOut[least - 1] = false;
            _seal(round);
            vm.assertEq(federation.getSum(round).size, least, "size");
            for (uint256 i = 0; i < revealed; ++i) {
                isLeftOut[i] = false;
            }
        }
    }

    /// @notice Two thirds are of those that revealed: who missed it does not raise them, but minSet stays.
    function test_TheSetHasMinSetAtLeast() public {
        (hasMissed[0], hasMissed[1], hasMissed[2], isLeftOut[7]) = (true, true, true, true);
        IFederation.Terms memory terms = _terms();
        terms.seats.minParticipants = 5;
        terms.rules.minSet = 5;
        federation = _deploy(terms);
        uint256 round = _revealedMasked(8); // 5 revealed: two thirds are 4
        IFederation.Verdict[] memory verdicts = _sealVerdicts(round);
        vm.expectRevert(abi.encodeWithSelector(IFederation.SetTooSmall.selector, 4, 5));
        _sealAs(aggregators[0], round, verdicts);
        isLeftOut[7] = false;
        _seal(round);
        vm.assertEq(federation.getSum(round).size, 5);
    }

    /// @notice Where no sum can be opened, an empty set ends the round: nobody pays but who missed the reveal.
    function test_AnEmptySetEndsTheRound() public {
        hasMissed[3] = true;
        uint256 round = _revealedMasked(4);
        for (uint256 i = 0; i < 3; ++i) {
            isLeftOut[i] = true;
        }
        IFederation.Verdict[] memory verdicts = _sealVerdicts(round);
        vm.expectEmit(address(federation));
        emit IFederation.SetSealed(round, aggregators[0], 0, 0, 0, verdicts);
        vm.expectEmit(address(federation));
        emit IFederation.Abandoned(round);
        _seal(round);
        _assertStatus(round, IFederation.Status.Abandoned);
        vm.assertEq(federation.getSum(round).size, 0);
        vm.assertEq(federation.getSum(round).sealedBlock, 0);
        vm.assertEq(federation.escrow(), ESCROW, "no fee");
        vm.assertEq(federation.idleSince(), block.timestamp);
        _assertAggregator(aggregators[0], IFederation.AggregatorState.Bonded);
        federation.penalize(round, _participant(3));
        vm.assertEq(federation.burned(), PENALTY);
        vm.expectRevert(abi.encodeWithSelector(IFederation.NotInSet.selector, round, _participant(0)));
        federation.penalize(round, _participant(0));
        _openUnseeded();
    }

    // ---------------------------------------------------------------- sketches

    /// @notice The vectors follow from the seal's block and from what came after it, once.
    function test_SketchSeed() public {
        uint256 round = _sealedWith(3);
        uint256 sealedBlock = block.number;
        vm.expectRevert(abi.encodeWithSelector(IFederation.SketchTooEarly.selector, sealedBlock, sealedBlock));
        federation.fixSketch(round);
        _mine();
        vm.setBlockhash(sealedBlock, keccak256("seal"));
        vm.prevrandao(bytes32(uint256(77)));
        bytes32 z = keccak256(abi.encode(keccak256("seal"), uint256(77)));
        vm.expectEmit(address(federation));
        emit IFederation.SketchFixed(round, z);
        vm.prank(stranger);
        federation.fixSketch(round);
        vm.assertEq(federation.getSum(round).sketchSeed, z, "z");
        vm.expectRevert(abi.encodeWithSelector(IFederation.SketchIsFixed.selector, round));
        federation.fixSketch(round);
    }

    /// @notice A seal of long ago has no hash any more: then that of the block before counts.
    function test_SketchSeedAfter256Blocks() public {
        uint256 round = _sealedWith(3);
        uint256 sealedBlock = block.number;
        vm.prevrandao(bytes32(uint256(78)));
        uint256 snapshot = vm.snapshotState();
        vm.roll(sealedBlock + 256);
        vm.setBlockhash(sealedBlock, keccak256("seal"));
        vm.setBlockhash(block.number - 1, keccak256("before"));
        federation.fixSketch(round);
        vm.assertEq(
            federation.getSum(round).sketchSeed, keccak256(abi.encode(keccak256("seal"), uint256(78))), "in time"
        );
        vm.revertToState(snapshot);
        vm.roll(sealedBlock + 257);
        vm.setBlockhash(block.number - 1, keccak256("before"));
        federation.fixSketch(round);
        vm.assertEq(
            federation.getSum(round).sketchSeed, keccak256(abi.encode(keccak256("before"), uint256(78))), "late"
        );
    }

    /// @notice Vectors are drawn while secrets are posted, and can be drawn as long as those of the silent can.
    function test_RevertWhen_NoSketchIsDue() public {
        uint256 round = _revealedMasked(3);
        _expectWrongStatus(round, IFederation.Status.Unmask, IFederation.Status.Seal);
        federation.fixSketch(round);
        _seal(round);
        _mine();
        _toAssist(round);
        uint256 snapshot = vm.snapshotState();
        federation.fixSketch(round);
        vm.revertToState(snapshot);
        _toVoid(round);
        _expectWrongStatus(round, IFederation.Status.Unmask, IFederation.Status.Void);
        federation.fixSketch(round);
    }

    // ----------------------------------------------------------------- unmask

    /// @notice Secrets are told, counted, and part of what was revealed from then on.
    function test_Unmask() public {
        (hasMissed[0], isLeftOut[3]) = (true, true);
        uint256 round = _sketchedWith(6);
        bytes32[] memory seeds = new bytes32[](2);
        (seeds[0], seeds[1]) = (_pairSeed(round, 2, 0), _pairSeed(round, 2, 3));
        vm.expectEmit(address(federation));
        emit IFederation.Unmasked(round, _participant(2), _participant(2), _ownSeed(round, 2), seeds, _sketch(round, 2));
        _unmask(round, 2);
        bytes32 manifest = keccak256(
            abi.encodePacked(
                keccak256(abi.encode(_rawManifest(round, 2), keccak256(abi.encodePacked(_commitments(round, 2))))),
                _ownSeed(round, 2),
                seeds[0],
                seeds[1]
            )
        );
        bytes30 digest = federation.getSubmission(round, _participant(2)).digest;
        bytes32 expected = keccak256(abi.encode(_root(round, 2), manifest, uint256(_examples(2))));
        vm.assertEq(bytes32(digest), bytes32(bytes30(expected)), "digest");
        _assertSubmission(round, _participant(2), IFederation.SubmissionState.Unmasked);
        vm.assertEq(federation.getSum(round).unmasked, 1);
        _assertStatus(round, IFederation.Status.Unmask);
        _unmaskFrom(round, 4);
        _assertStatus(round, IFederation.Status.Unmask);
        _unmask(round, 1);
        _assertStatus(round, IFederation.Status.Propose);
        vm.assertEq(federation.burned(), 0, "nobody was silent");
    }

    /// @notice A member may post its secrets as long as others may, without a loss.
    function test_AMemberMayBeLate() public {
        uint256 round = _sketchedWith(3);
        _toAssist(round);
        _unmaskFrom(round, 0);
        _assertStatus(round, IFederation.Status.Propose);
        vm.assertEq(federation.burned(), 0);
    }

    /// @notice Secrets of a silent member, posted by anybody, cost it the penalty and its seat at once.
    function test_SecretsAreRecovered() public {
        hasMissed[4] = true;
        uint256 round = _sketchedWith(5);
        _unmaskFrom(round, 1);
        _toAssist(round);
        bytes32[] memory seeds = new bytes32[](1);
        seeds[0] = _pairSeed(round, 0, 4);
        vm.expectEmit(address(federation));
        emit IFederation.Unmasked(round, _participant(0), stranger, _ownSeed(round, 0), seeds, 0);
        vm.expectEmit(address(federation));
        emit IFederation.Penalized(round, _participant(0), PENALTY);
        _recover(round, 0);
        _assertSubmission(round, _participant(0), IFederation.SubmissionState.Recovered);
        vm.assertEq(federation.getParticipant(_participant(0)).stake, STAKE - PENALTY);
        vm.assertFalse(federation.getParticipant(_participant(0)).active, "seat");
        vm.assertEq(federation.activeCount(), 4);
        vm.assertEq(federation.burned(), PENALTY);
        bytes30 digest = federation.getSubmission(round, _participant(0)).digest;
        vm.assertEq(bytes32(digest), bytes32(_digest(round, 0)), "digest");
        _assertStatus(round, IFederation.Status.Propose);
        _expectWrongSubmission(
            round, _participant(0), IFederation.SubmissionState.Committed, IFederation.SubmissionState.Recovered
        );
        federation.penalize(round, _participant(0));
    }

    /// @notice Secrets are posted once the set is sealed and the vectors are drawn, by their owner first.
    function test_RevertWhen_SecretsAreNotDue() public {
        uint256 round = _revealedMasked(4);
        IFederation.Secrets memory secrets = _secrets(round, 0);
        _expectWrongStatus(round, IFederation.Status.Unmask, IFederation.Status.Seal);
        _unmaskAs(_participant(0), round, secrets, 0);
        _seal(round);
        vm.expectRevert(abi.encodeWithSelector(IFederation.SketchNotFixed.selector, round));
        _unmaskAs(_participant(0), round, secrets, 0);
        _mine();
        federation.fixSketch(round);
        _expectWrongStatus(round, IFederation.Status.Assist, IFederation.Status.Unmask);
        _unmaskAs(stranger, round, secrets, 0);
        _expectWrongStatus(round, IFederation.Status.Assist, IFederation.Status.Unmask);
        _unmaskAs(_participant(1), round, secrets, 0);
        _unmask(round, 0);
        _expectWrongSubmission(
            round, _participant(0), IFederation.SubmissionState.Revealed, IFederation.SubmissionState.Unmasked
        );
        _unmaskAs(_participant(0), round, secrets, 0);
        secrets = _secrets(round, 1);
        _toVoid(round);
        _expectWrongStatus(round, IFederation.Status.Unmask, IFederation.Status.Void);
        _unmaskAs(_participant(1), round, secrets, 0);
    }

    /// @notice Nobody opens what is not in the set, or says wrongly who committed.
    function test_RevertWhen_SecretsAreOfNoMember() public {
        isLeftOut[2] = true;
        uint256 round = _sketchedWith(5);
        IFederation.Secrets memory secrets = _secrets(round, 2);
        vm.expectRevert(abi.encodeWithSelector(IFederation.NotInSet.selector, round, _participant(2)));
        _unmaskAs(_participant(2), round, secrets, 0);
        secrets.rank = 5;
        vm.expectRevert(abi.encodeWithSelector(IFederation.NotInSet.selector, round, address(0)));
        _unmaskAs(_participant(2), round, secrets, 0);
        secrets.rank = 255;
        vm.expectRevert(abi.encodeWithSelector(IFederation.NotInSet.selector, round, address(0)));
        _unmaskAs(_participant(2), round, secrets, 0);
        secrets = _secrets(round, 0);
        bytes32 required = keccak256(secrets.members);
        secrets.members[19] ^= 0x01;
        vm.expectRevert(
            abi.encodeWithSelector(IFederation.MembersMismatch.selector, keccak256(secrets.members), required)
        );
        _unmaskAs(_participant(0), round, secrets, 0);
        // The secrets of another: what was revealed is the rank's.
        secrets = _secrets(round, 0);
        secrets.rank = 1;
        vm.expectRevert(
            abi.encodeWithSelector(
                IFederation.RevealMismatch.selector, _participant(1), _digest(round, 0), _digest(round, 1)
            )
        );
        _unmaskAs(_participant(1), round, secrets, 0);
    }

    /// @notice Opening and commitments are those of the reveal.
    function test_RevertWhen_TheOpeningIsAnother() public {
        isLeftOut[0] = true;
        uint256 round = _sketchedWith(4);
        for (uint256 i = 0; i < 4; ++i) {
            IFederation.Secrets memory secrets = _secrets(round, 1);
            if (i == 0) secrets.opening.root ^= bytes32(uint256(1));
            if (i == 1) secrets.opening.manifest ^= bytes32(uint256(1));
            if (i == 2) secrets.opening.examples += 1;
            if (i == 3) {
                // A seed of its own choice, with a commitment that fits.
                secrets.ownSeed = "another";
                secrets.commitments[0] = keccak256(abi.encode(secrets.ownSeed));
            }
            vm.expectRevert();
            _unmaskAs(_participant(1), round, secrets, 0);
        }
        _unmask(round, 1);
    }

    /// @notice Each secret is what was committed to: its own, and in their places those shared with who is outside.
    function test_RevertWhen_ASecretIsAnother() public {
        (hasMissed[0], isLeftOut[3]) = (true, true);
        uint256 round = _sketchedWith(6);
        for (uint256 i = 1; i < 6; ++i) {
            if (i == 3) continue;
            _refuseSecret(round, i, 0, 0);
            _refuseSecret(round, i, 1, 1); // of the pair with 0
            _refuseSecret(round, i, 2, i < 3 ? 3 : 4); // of the pair with 3
        }
        // Right seeds, in each other's place.
        IFederation.Secrets memory secrets = _secrets(round, 1);
        (secrets.seeds[0], secrets.seeds[1]) = (secrets.seeds[1], secrets.seeds[0]);
        vm.expectRevert(
            abi.encodeWithSelector(
                IFederation.SecretMismatch.selector,
                1,
                keccak256(abi.encode(_pairSeed(round, 1, 3))),
                keccak256(abi.encode(_pairSeed(round, 1, 0)))
            )
        );
        _unmaskAs(_participant(1), round, secrets, 0);
        // That with a member of the set opens a mask that cancels: it is no secret to post.
        secrets.seeds[0] = _pairSeed(round, 1, 2);
        vm.expectRevert();
        _unmaskAs(_participant(1), round, secrets, 0);
    }

    /// @notice There are as many secrets as members outside, and one more.
    function test_RevertWhen_SecretsAreMissingOrTooMany() public {
        (hasMissed[0], isLeftOut[3]) = (true, true);
        uint256 round = _sketchedWith(6);
        for (uint256 given = 0; given < 5; ++given) {
            if (given == 2) continue;
            IFederation.Secrets memory secrets = _secrets(round, 1);
            bytes32[] memory seeds = new bytes32[](given);
            for (uint256 k = 0; k < given && k < 2; ++k) {
                seeds[k] = secrets.seeds[k];
            }
            secrets.seeds = seeds;
            vm.expectRevert(abi.encodeWithSelector(IFederation.SecretCount.selector, given + 1, 3));
            _unmaskAs(_participant(1), round, secrets, 0);
        }
    }

    /// @notice Who bound itself to another number of commitments can open nothing.
    function test_RevertWhen_ABundleHasAnotherSize() public {
        for (uint256 size = 2; size <= 4; size += 2) {
            federation = _deploy(_terms());
            uint256 round = _committedMasked(3);
            bytes32[] memory commitments = new bytes32[](size);
            commitments[0] = keccak256(abi.encode(_ownSeed(round, 0)));
            IFederation.MaskedReveal memory r = _maskedReveal(round, 0);
            r.secrets = keccak256(abi.encodePacked(commitments));
            _revealMaskedAs(round, 0, r);
            _revealMasked(round, 1);
            _revealMasked(round, 2);
            IFederation.Verdict[] memory verdicts = _sealVerdicts(round);
            verdicts[0].revealed = federation.getSubmission(round, _participant(0)).digest;
            _sealAs(aggregators[0], round, verdicts);
            _mine();
            federation.fixSketch(round);
            IFederation.Secrets memory secrets = _secrets(round, 0);
            secrets.commitments = commitments;
            vm.expectRevert(abi.encodeWithSelector(IFederation.SecretCount.selector, size, 3));
            _unmaskAs(_participant(0), round, secrets, 0);
        }
    }

    // ----------------------------------------------------------------- assist

    /// @notice Shares of a silent member's secrets are told, by members of the set only.
    function test_Assist() public {
        isLeftOut[1] = true;
        uint256 round = _sketchedWith(5);
        bytes32[] memory shares = new bytes32[](2);
        (shares[0], shares[1]) = ("share of the own seed", "share of that with 1");
        _expectWrongStatus(round, IFederation.Status.Assist, IFederation.Status.Unmask);
        _assistAs(_participant(0), round, _participant(3), shares);
        _unmask(round, 0);
        _toAssist(round);
        vm.expectEmit(address(federation));
        emit IFederation.Assisted(round, _participant(3), _participant(0), shares);
        _assistAs(_participant(0), round, _participant(3), shares);
        _assistAs(_participant(4), round, _participant(3), shares); // late itself, and still of use
        vm.assertEq(federation.getSum(round).unmasked, 1, "an event is all there is");
        _toVoid(round);
        _expectWrongStatus(round, IFederation.Status.Assist, IFederation.Status.Void);
        _assistAs(_participant(0), round, _participant(3), shares);
    }

    /// @notice Only of the set, about who is in it and silent, and as many shares as there are secrets.
    function test_RevertWhen_SharesAreOfNoUse() public {
        (isLeftOut[1], hasMissed[4]) = (true, true);
        uint256 round = _sketchedWith(6);
        bytes32[] memory shares = new bytes32[](3);
        _unmask(round, 0);
        _toAssist(round);
        address[3] memory outside = [_participant(1), _participant(4), stranger];
        for (uint256 i = 0; i < 3; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IFederation.NotInSet.selector, round, outside[i]));
            _assistAs(outside[i], round, _participant(3), shares);
            vm.expectRevert(abi.encodeWithSelector(IFederation.NotInSet.selector, round, outside[i]));
            _assistAs(_participant(2), round, outside[i], shares);
        }
        _expectWrongSubmission(
            round, _participant(0), IFederation.SubmissionState.Revealed, IFederation.SubmissionState.Unmasked
        );
        _assistAs(_participant(2), round, _participant(0), shares);
        for (uint256 given = 2; given <= 4; given += 2) {
            shares = new bytes32[](given);
            vm.expectRevert(abi.encodeWithSelector(IFederation.SecretCount.selector, given, 3));
            _assistAs(_participant(2), round, _participant(3), shares);
        }
    }

    // --------------------------------------------------------------- helpers

    function _refuseKey(uint256 round, bytes32 key) private {
        vm.expectRevert(abi.encodeWithSelector(IFederation.WeakKey.selector, key));
        vm.prank(_participant(0));
        federation.commitMasked(round, "commitment", key);
    }

    function _takeKey(uint256 round, bytes32 key) private {
        vm.prank(_participant(0));
        federation.commitMasked(round, "commitment", key);
    }

    function _refuseForm(uint256 round, uint256 i, uint32 weight, uint16 score, uint8 reason) private {
        IFederation.Verdict[] memory verdicts = _sealVerdicts(round);
        (verdicts[i].weight, verdicts[i].score, verdicts[i].reason) = (weight, score, reason);
        vm.expectRevert(
            abi.encodeWithSelector(IFederation.InvalidVerdict.selector, _participant(i), weight, score, reason)
        );
        _sealAs(aggregators[0], round, verdicts);
    }

    /// @dev Participant `i` posts another secret than that of number `which`, whose commitment stands at `index`.
    function _refuseSecret(uint256 round, uint256 i, uint256 which, uint256 index) private {
        IFederation.Secrets memory secrets = _secrets(round, i);
        if (which == 0) secrets.ownSeed = "wrong";
        else secrets.seeds[which - 1] = "wrong";
        vm.expectRevert(
            abi.encodeWithSelector(
                IFederation.SecretMismatch.selector,
                index,
                keccak256(abi.encode(bytes32("wrong"))),
                _commitments(round, i)[index]
            )
        );
        _unmaskAs(_participant(i), round, secrets, 0);
    }

    function _assistAs(address sender, uint256 round, address silent, bytes32[] memory shares) private {
        vm.prank(sender);
        federation.assist(round, silent, shares);
    }
}
