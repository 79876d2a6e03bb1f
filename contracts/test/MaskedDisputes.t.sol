// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IFederation} from "../src/IFederation.sol";
import {MaskedTrees} from "./kit/MaskedTrees.sol";
import {MaskedWorld} from "./kit/MaskedWorld.sol";
import {Trees} from "./kit/Trees.sol";

/// @dev Disputes over masked updates: what challengeSum() takes and refuses, and what the other challenges become.
///      One leaf of a tree is real, number LEAF of five at depth 3; what is beside it are digests.
contract MaskedDisputesTest is MaskedWorld {
    uint256 private constant VALUES = 256;
    int256 private constant MOST = 127;

    struct Case {
        uint256 grid;
        uint256 leaf;
        uint256 depth;
        address[] participants;
        uint256[] weights;
        bytes32[] ownSeeds;
        bytes32[][] pairSeeds;
        bytes[] masked;
        bytes before;
        bytes model;
    }

    Case private played;
    uint32 private cap;
    address private challenger = _account("challenger");

    // ---------------------------------------------------------------- the world

    function setUp() public override {
        _drawCase(5, 3, 5);
        super.setUp();
    }

    function _terms() internal view override returns (IFederation.Terms memory terms) {
        terms = super._terms();
        terms.identity.leafCount = uint32((1 << played.depth) / 2 + 1);
        if (played.leaf >= terms.identity.leafCount) terms.identity.leafCount = uint32(played.leaf + 1);
        terms.identity.treeDepth = uint8(played.depth);
        terms.identity.gridBits = uint8(played.grid);
        terms.identity.initialModelRoot = _fold(played.before);
        if (played.weights.length != 0) terms.seats.weightCap = cap;
        terms.seats.roundSeats = terms.seats.roundTarget = terms.seats.maxParticipants = _roundSeats();
    }

    function _roundSeats() private view returns (uint16) {
        return uint16(played.weights.length == 0 ? SEATS : played.weights.length);
    }

    function _participant(uint256 i) internal view override returns (address) {
        return i < played.participants.length ? played.participants[i] : super._participant(i);
    }

    function _examples(uint256 i) internal view override returns (uint32) {
        return i < played.weights.length ? uint32(played.weights[i]) : super._examples(i);
    }

    function _ownSeed(uint256 round, uint256 i) internal view override returns (bytes32) {
        return i < played.ownSeeds.length ? played.ownSeeds[i] : super._ownSeed(round, i);
    }

    function _pairSeed(uint256 round, uint256 i, uint256 j) internal view override returns (bytes32) {
        return i < played.pairSeeds.length ? played.pairSeeds[i][j] : super._pairSeed(round, i, j);
    }

    function _root(uint256, uint256 i) internal view override returns (bytes32) {
        return _fold(played.masked[i]);
    }

    // ----------------------------------------------------------- golden vectors

    /// @notice The masked leaves of the vectors, with and without drop-outs: a wrong model is refuted, the right one not.
    function test_MaskingVectorsInDispute() public {
        string memory json = vm.readFile("../tests/vectors/masking.json");
        uint256 count = vm.parseJsonUint(json, ".case_count");
        uint256 disputed = 0;
        uint256 dropped = 0;
        for (uint256 i = 0; i < count; ++i) {
            string memory key = string.concat(".cases[", vm.toString(i), "].");
            // No masked federation has that many leaves (library Limits).
            if (vm.parseJsonUint(json, string.concat(key, "leaf")) >= 1 << 24) continue;
            dropped += _readCase(json, key);
            _dispute(i);
            disputed += 1;
        }
        vm.assertEq(disputed, 4, "disputes");
        vm.assertGt(dropped, 6, "drop-outs");
    }

    /// @notice The averages of the vectors, of updates masked here; each time one more update was left out.
    function test_AverageVectorsInDispute() public {
        string memory json = vm.readFile("../tests/vectors/average.json");
        uint256 count = vm.parseJsonUint(json, ".case_count");
        uint256 disputed = 0;
        for (uint256 i = 0; i < count; ++i) {
            string memory key = string.concat(".cases[", vm.toString(i), "].");
            uint256[] memory weights = vm.parseJsonUintArray(json, string.concat(key, "weights"));
            // With an update outside there is room for 31; terms leave room for all of them at full weight.
            if (weights.length < 3 || weights.length > 31) continue;
            bytes[] memory updates = vm.parseJsonBytesArray(json, string.concat(key, "update_bytes"));
            _maskCase(updates, weights);
            played.grid = vm.parseJsonUint(json, string.concat(key, "grid"));
            played.before = vm.parseJsonBytes(json, string.concat(key, "before_bytes"));
            played.model = vm.parseJsonBytes(json, string.concat(key, "after_bytes"));
            _dispute(i);
            disputed += 1;
        }
        vm.assertGt(disputed, 0, "disputes");
    }

    // ----------------------------------------------------------------- the sum

    /// @notice A wrong value anywhere in the leaf is shown; the right leaf is not refuted.
    function test_AWrongValueIsShown() public {
        uint256 round = _proposedCase();
        _challengeRight(round);
        for (uint256 k = 0; k < VALUES; k += 17) {
            _startAgain();
            int256 value = Trees.value(played.model, k);
            bytes memory model = played.model;
            Trees.put(model, k, k % 2 == 0 ? value + 1 : value - 1);
            played.model = model;
            round = _proposedCase();
            _challenge(round);
            vm.assertEq(federation.creditOf(challenger), HALF, "half the bond");
            _assertAggregator(aggregators[0], IFederation.AggregatorState.Slashed);
            _assertStatus(round, IFederation.Status.Propose);
            vm.assertEq(federation.getRound(round).nextDeadline, block.timestamp + PROPOSE, "the standby's");
            Trees.put(model, k, value);
            played.model = model;
        }
        // The standby, over the same set.
        _proposeCase(round);
        _challengeRight(round);
    }

    /// @notice Somebody went silent and was recovered: its seeds are in the records as everybody's.
    function test_ARecoveredMembersUpdateCounts() public {
        isLeftOut[1] = true;
        _finishCase();
        uint256 round = _committedOf();
        _mine();
        federation.fixSketch(round);
        _unmaskFrom(round, 2);
        _toAssist(round);
        _recover(round, 0);
        _proposeCase(round);
        _challengeRight(round);
        _bend(100);
        _startAgain();
        isLeftOut[1] = true;
        round = _proposedCase();
        _challenge(round);
        _assertAggregator(aggregators[0], IFederation.AggregatorState.Slashed);
    }

    /// @notice Garbage under a mask is held at 127 times the weights, on both sides, and never beyond.
    function test_GarbageIsHeld() public {
        bytes memory garbage = new bytes(4 * VALUES);
        for (uint256 k = 0; k < VALUES; ++k) {
            Trees.put(garbage, k, int256(int32(uint32(uint256(keccak256(abi.encode("garbage", k)))))));
        }
        int256[6] memory edges = [
            int256(type(int32).max),
            type(int32).min,
            MOST * _total(),
            -MOST * _total(),
            MOST * _total() + 1,
            -MOST * _total() - 1
        ];
        bytes memory sum = _sumOf();
        for (uint256 k = 0; k < 6; ++k) {
            // Of these places the sum becomes what stands in `edges`.
            Trees.put(garbage, 7 * k, int256(int32(uint32(uint256(edges[k] - Trees.value(sum, 7 * k))))));
        }
        bytes memory masked = played.masked[2];
        MaskedTrees.add(masked, garbage, 1);
        played.masked[2] = masked;
        _finishCase();
        sum = _sumOf();
        uint256 held = 0;
        for (uint256 k = 0; k < VALUES; ++k) {
            int256 value = Trees.value(sum, k);
            if (value > MOST * _total() || value < -MOST * _total()) held += 1;
        }
        vm.assertGt(held, 200, "held");
        for (uint256 k = 0; k < 6; ++k) {
            vm.assertEq(Trees.value(sum, 7 * k), edges[k], "edge");
        }
        uint256 round = _proposedCase();
        _challengeRight(round);
        for (uint256 k = 0; k < 6; ++k) {
            _startAgain();
            bytes memory model = played.model;
            Trees.put(model, 7 * k, Trees.value(model, 7 * k) ^ 1);
            played.model = model;
            round = _proposedCase();
            _challenge(round);
            _assertAggregator(aggregators[0], IFederation.AggregatorState.Slashed);
            Trees.put(model, 7 * k, Trees.value(model, 7 * k) ^ 1);
            played.model = model;
        }
    }

    /// @notice The updates of whole federations at random, a third of them gone.
    /// forge-config: default.fuzz.runs = 12
    /// forge-config: deep.fuzz.runs = 500
    function testFuzz_Sums(uint256 seed, uint256 count, uint256 wrong) public {
        count = _bound(count, 3, 8);
        _drawCase(seed, 3, count);
        uint256 most = count - (2 * count + 2) / 3;
        if (count - most < 3) most = count - 3;
        for (uint256 i = 0; i < most; ++i) {
            isLeftOut[uint256(keccak256(abi.encode(seed, "outside", i))) % count] = true;
        }
        _finishCase();
        _startAgainKeeping();
        uint256 round = _proposedCase();
        _challengeRight(round);
        _startAgainKeeping();
        bytes memory model = played.model;
        wrong = _bound(wrong, 0, VALUES - 1);
        Trees.put(model, wrong, Trees.value(model, wrong) ^ 1);
        played.model = model;
        round = _proposedCase();
        _challenge(round);
        _assertAggregator(aggregators[0], IFederation.AggregatorState.Slashed);
    }

    // ------------------------------------------------------------ what is refused

    /// @notice Leaf, proof, manifest, examples and seeds are those of the openings: any other byte is seen.
    function test_RevertWhen_ARecordIsAnother() public {
        isLeftOut[1] = true;
        _bend(3);
        uint256 round = _proposedCase();
        IFederation.Verdict[] memory verdicts = _sumVerdicts(round);
        uint256 length = 1024 + 32 * 3 + 36 + 64;
        uint256[8] memory at = [uint256(0), 1023, 1024, 1119, 1120, 1152, 1156, length - 1]; // first and last byte of each part
        for (uint256 i = 0; i < 8; ++i) {
            for (uint256 record = 0; record < 4; record += 3) {
                bytes memory updates = _records(round);
                updates[record * length + at[i]] ^= 0x01;
                vm.expectRevert();
                _challenge(round, verdicts, updates);
            }
        }
        bytes memory swapped = _records(round);
        for (uint256 k = 0; k < length; ++k) {
            (swapped[k], swapped[length + k]) = (swapped[length + k], swapped[k]);
        }
        vm.expectRevert();
        _challenge(round, verdicts, swapped);
        _challenge(round);
        _assertAggregator(aggregators[0], IFederation.AggregatorState.Slashed);
    }

    /// @notice A wrong seed leads to another digest than that of the verdict: it is named.
    function test_RevertWhen_ASeedIsAnother() public {
        isLeftOut[1] = true;
        _bend(3);
        uint256 round = _proposedCase();
        IFederation.Verdict[] memory verdicts = _sumVerdicts(round);
        bytes memory updates = _records(round);
        bytes32 own = "another";
        for (uint256 k = 0; k < 32; ++k) {
            updates[1024 + 96 + 36 + k] = own[k];
        }
        bytes32 manifest = keccak256(abi.encodePacked(_binding(round, 0), own, _pairSeed(round, 0, 1)));
        bytes30 given = bytes30(keccak256(abi.encode(_root(round, 0), manifest, uint256(_examples(0)))));
        vm.expectRevert(
            abi.encodeWithSelector(IFederation.RevealMismatch.selector, _participant(0), given, _digest(round, 0))
        );
        _challenge(round, verdicts, updates);
    }

    /// @notice Records are of one length, and one for each of the set.
    function test_RevertWhen_RecordsAreMissingOrTooLong() public {
        isLeftOut[1] = true;
        _bend(3);
        uint256 round = _proposedCase();
        IFederation.Verdict[] memory verdicts = _sumVerdicts(round);
        bytes memory updates = _records(round);
        uint256 length = updates.length;
        vm.assertEq(length, 4 * (1024 + 96 + 36 + 64));
        int256[5] memory by = [int256(-1), 1, -1220, 1220, -int256(length)];
        for (uint256 i = 0; i < 5; ++i) {
            bytes memory other = new bytes(uint256(int256(length) + by[i]));
            for (uint256 k = 0; k < other.length && k < length; ++k) {
                other[k] = updates[k];
            }
            vm.expectRevert(abi.encodeWithSelector(IFederation.LeafLength.selector, other.length, length));
            _challenge(round, verdicts, other);
        }
    }

    /// @notice The other rules of a challenge hold: phase, verdicts, members, leaves of the models, its number.
    function test_RevertWhen_AChallengeOfASumHasNoGround() public {
        _bend(3);
        uint256 round = _proposedCase();
        IFederation.Verdict[] memory verdicts = _sumVerdicts(round);
        bytes memory updates = _records(round);
        IFederation.Verdict[] memory others = _sumVerdicts(round);
        others[0].weight += 1;
        vm.expectRevert(
            abi.encodeWithSelector(
                IFederation.VerdictsMismatch.selector, keccak256(abi.encode(others)), keccak256(abi.encode(verdicts))
            )
        );
        _challenge(round, others, updates);
        IFederation.Leaf memory start = _leafOf(played.before);
        IFederation.Leaf memory model = _leafOf(played.model);
        vm.expectRevert(abi.encodeWithSelector(IFederation.LeafOutOfRange.selector, 5, 5));
        federation.challengeSum(round, 5, verdicts, updates, start, model);
        vm.expectRevert(
            abi.encodeWithSelector(IFederation.RootMismatch.selector, _fold(played.model), _fold(played.before))
        );
        federation.challengeSum(round, played.leaf, verdicts, updates, model, model);
        vm.expectRevert(
            abi.encodeWithSelector(IFederation.RootMismatch.selector, _fold(played.before), _fold(played.model))
        );
        federation.challengeSum(round, played.leaf, verdicts, updates, start, start);
        vm.warp(federation.getRound(round).nextDeadline);
        _expectWrongStatus(round, IFederation.Status.Challenge, IFederation.Status.Settleable);
        _challenge(round, verdicts, updates);
    }

    // -------------------------------------------------------- the other challenges

    /// @notice What reads updates themselves has no place here, nor what a standby could not mend.
    function test_RevertWhen_ADisputeIsOfTheOtherPrivacy() public {
        uint256 round = _proposedCase();
        IFederation.Verdict[] memory verdicts = _sumVerdicts(round);
        IFederation.Leaf memory leaf = _leafOf(played.before);
        bytes[3] memory calls = [
            abi.encodeCall(
                IFederation.challengeAverage,
                (round, played.leaf, verdicts, new IFederation.OpenedLeaf[](0), leaf, leaf)
            ),
            abi.encodeCall(
                IFederation.challengeDuplicate, (round, 1, 0, verdicts, _opening(round, 1), _opening(round, 0))
            ),
            abi.encodeCall(IFederation.challengeOriginal, (round, 1, verdicts, _openings(round)))
        ];
        for (uint256 i = 0; i < 3; ++i) {
            (bool isDone, bytes memory answer) = address(federation).call(calls[i]);
            vm.assertFalse(isDone, vm.toString(i));
            vm.assertEq(
                answer,
                abi.encodeWithSelector(IFederation.WrongPrivacy.selector, IFederation.Privacy.Masked),
                vm.toString(i)
            );
        }
        IFederation.Terms memory clear = _terms();
        clear.rules.privacy = IFederation.Privacy.Clear;
        clear.rules.minSet = 0;
        clear.windows.sealSeconds = clear.windows.unmaskSeconds = clear.windows.assistSeconds = 0;
        federation = _deploy(clear);
        _expectWrongPrivacy(IFederation.Privacy.Clear);
        federation.challengeSum(round, played.leaf, verdicts, "", leaf, leaf);
    }

    /// @notice A weight is min(examples, cap) or nothing; which update is zero cannot be seen.
    function test_AWrongWeightIsShown() public {
        isLeftOut[1] = true;
        uint256 round = _summedCase();
        IFederation.Verdict[] memory verdicts = _sumVerdicts(round);
        bytes32 root = _fold(played.model);
        verdicts[4].weight += 1;
        vm.prank(aggregators[0]);
        federation.propose(round, root, NEW_MANIFEST, verdicts);
        for (uint256 i = 0; i < 4; ++i) {
            IFederation.Opening memory right = _opening(round, i);
            vm.expectRevert(abi.encodeWithSelector(IFederation.VerdictIsRight.selector, round, _participant(i)));
            federation.challengeVerdict(round, i, verdicts, right);
        }
        IFederation.Opening memory opening = _opening(round, 4);
        opening.manifest = _binding(round, 4); // not the opening that stands
        vm.expectRevert(
            abi.encodeWithSelector(
                IFederation.RevealMismatch.selector,
                _participant(4),
                bytes30(keccak256(abi.encode(opening))),
                _digest(round, 4)
            )
        );
        federation.challengeVerdict(round, 4, verdicts, opening);
        opening = _opening(round, 4);
        vm.prank(challenger);
        federation.challengeVerdict(round, 4, verdicts, opening);
        vm.assertEq(federation.creditOf(challenger), HALF);
    }

    /// @notice Neither the root of zeros nor reason 9 says anything about a masked update.
    function test_ZeroIsNoMatterOfTheContract() public {
        IFederation.Terms memory terms = _terms();
        terms.identity.zeroRoot = _fold(played.masked[0]);
        federation = _deploy(terms);
        uint256 round = _summedCase();
        IFederation.Verdict[] memory verdicts = _sumVerdicts(round);
        (verdicts[1].score, verdicts[1].reason) = (0, 9);
        bytes32 root = _fold(played.model);
        vm.prank(aggregators[0]);
        federation.propose(round, root, NEW_MANIFEST, verdicts);
        for (uint256 i = 0; i < 2; ++i) {
            IFederation.Opening memory opening = _opening(round, i);
            vm.expectRevert(abi.encodeWithSelector(IFederation.VerdictIsRight.selector, round, _participant(i)));
            federation.challengeVerdict(round, i, verdicts, opening);
        }
    }

    /// @notice A move further than any average is shown without any update.
    function test_AMoveTooFarIsShown() public {
        bytes memory model = played.before;
        int256 reach = MOST << (24 - played.grid);
        int256 from = Trees.value(model, 9);
        Trees.put(model, 9, from > 0 ? from - reach - 1 : from + reach + 1);
        played.model = model;
        uint256 round = _proposedCase();
        IFederation.Leaf memory start = _leafOf(played.before);
        IFederation.Leaf memory moved = _leafOf(played.model);
        federation.challengeMove(round, played.leaf, start, moved);
        _assertAggregator(aggregators[0], IFederation.AggregatorState.Slashed);
    }

    // ----------------------------------------------------------- leaf requests

    /// @notice A masked update's leaf has 1,024 bytes, and is asked for and posted as any other.
    function test_AMaskedLeafIsPosted() public {
        isLeftOut[1] = true;
        played.depth = 0; // the tree is its leaf: no padding to get right
        played.leaf = 0;
        _drawCaseAgain();
        uint256 round = _proposedCase();
        _give(challenger, 2 * DEPOSIT);
        IFederation.Verdict[] memory verdicts = _sumVerdicts(round);
        IFederation.Opening memory opening = _opening(round, 1);
        vm.expectRevert(abi.encodeWithSelector(IFederation.UpdateRejected.selector, round, _participant(1)));
        federation.requestUpdateLeaf(round, 0, 1, verdicts, opening);
        opening = _opening(round, 2);
        vm.prank(challenger);
        federation.requestUpdateLeaf(round, 0, 2, verdicts, opening);
        IFederation.LeafAnswer[] memory answers = new IFederation.LeafAnswer[](1);
        answers[0] = IFederation.LeafAnswer({
            root: opening.root, index: 0, leaf: IFederation.Leaf({values: new bytes(256), proof: new bytes32[](0)})
        });
        vm.expectRevert(abi.encodeWithSelector(IFederation.LeafLength.selector, 256, 1024));
        federation.postLeaves(answers);
        answers[0].leaf.values = played.masked[2];
        vm.prank(stranger);
        federation.postLeaves(answers);
        vm.assertEq(federation.creditOf(stranger), DEPOSIT);
        vm.assertFalse(federation.leafRequest(opening.root, 0).isModel, "of an update");
        // The same leaf of the model, which has as many bytes, is another one.
        vm.prank(challenger);
        federation.requestModelLeaf(round, 0);
        vm.assertTrue(federation.leafRequest(_fold(played.model), 0).isModel, "of a model");
    }

    // ------------------------------------------------------------ how it is made

    /// @dev Updates of `count` participants, masked for each other, and the model that they make.
    function _drawCase(uint256 seed, uint256 depth, uint256 count) private {
        uint256[] memory weights = new uint256[](count);
        bytes[] memory updates = new bytes[](count);
        for (uint256 i = 0; i < count; ++i) {
            weights[i] = 1 + uint256(keccak256(abi.encode(seed, i))) % 170;
            updates[i] = new bytes(VALUES);
            for (uint256 k = 0; k < VALUES; ++k) {
                uint8 drawn = uint8(uint256(keccak256(abi.encode(seed, i, k))));
                updates[i][k] = bytes1(drawn == 0x80 ? 0x7f : drawn);
            }
        }
        played.depth = depth;
        played.leaf = depth == 0 ? 0 : 3;
        played.grid = 13;
        cap = 150;
        _mask(updates, weights, seed);
        bytes memory start = new bytes(4 * VALUES);
        for (uint256 k = 0; k < VALUES; ++k) {
            int256 value = int256(int32(uint32(uint256(keccak256(abi.encode(seed, "model", k))))));
            Trees.put(
                start, k, k % 5 == 0 ? (value > 0 ? Trees.LARGEST : -Trees.LARGEST) : Trees.hold(value, Trees.LARGEST)
            );
        }
        played.before = start;
        _finishCase();
    }

    function _drawCaseAgain() private {
        uint256 depth = played.depth;
        _drawCase(5, depth, 5);
        federation = _deploy(_terms());
    }

    /// @dev The updates of average vectors with one more, which is left out: so a seed of each pair with it is opened.
    function _maskCase(bytes[] memory updates, uint256[] memory weights) private {
        uint256 count = updates.length + 1;
        bytes[] memory all = new bytes[](count);
        uint256[] memory heavy = new uint256[](count);
        uint256 out = count / 2; // some stand before it, some behind
        cap = 0;
        for (uint256 i = 0; i < count; ++i) {
            all[i] = i == out ? new bytes(VALUES) : updates[i < out ? i : i - 1];
            heavy[i] = i == out ? 1 : weights[i < out ? i : i - 1];
            if (heavy[i] > cap) cap = uint32(heavy[i]);
            isLeftOut[i] = i == out;
        }
        played.depth = 2;
        played.leaf = 1;
        _mask(all, heavy, 77);
    }

    function _mask(bytes[] memory updates, uint256[] memory weights, uint256 seed) private {
        uint256 count = updates.length;
        delete played.participants;
        delete played.ownSeeds;
        delete played.pairSeeds;
        delete played.masked;
        played.weights = weights;
        for (uint256 i = 0; i < count; ++i) {
            played.participants.push(super._participant(i));
            played.ownSeeds.push(keccak256(abi.encode("own", seed, i)));
            played.pairSeeds.push();
            for (uint256 j = 0; j < count; ++j) {
                played.pairSeeds[i].push(keccak256(abi.encode("pair", seed, i < j ? i : j, i < j ? j : i)));
            }
        }
        for (uint256 i = 0; i < count; ++i) {
            bytes memory leaf = MaskedTrees.weighted(updates[i], int256(weights[i] < cap ? weights[i] : cap));
            MaskedTrees.add(leaf, MaskedTrees.stream(played.ownSeeds[i], played.leaf), 1);
            for (uint256 j = 0; j < count; ++j) {
                if (j == i) continue;
                MaskedTrees.add(leaf, MaskedTrees.stream(played.pairSeeds[i][j], played.leaf), i < j ? int256(1) : -1);
            }
            played.masked.push(leaf);
        }
    }

    /// @dev A case of masking.json. Returns how many are left out.
    function _readCase(string memory json, string memory key) private returns (uint256 out) {
        played.grid = vm.parseJsonUint(json, string.concat(key, "grid"));
        played.leaf = vm.parseJsonUint(json, string.concat(key, "leaf"));
        played.participants = vm.parseJsonAddressArray(json, string.concat(key, "participants"));
        played.weights = vm.parseJsonUintArray(json, string.concat(key, "weights"));
        played.ownSeeds = vm.parseJsonBytes32Array(json, string.concat(key, "own_seeds"));
        played.masked = vm.parseJsonBytesArray(json, string.concat(key, "masked_bytes"));
        played.before = vm.parseJsonBytes(json, string.concat(key, "before_bytes"));
        played.model = vm.parseJsonBytes(json, string.concat(key, "after_bytes"));
        played.depth = 0;
        while (1 << played.depth <= played.leaf) played.depth += 1;
        uint256[] memory accepted = vm.parseJsonUintArray(json, string.concat(key, "accepted"));
        uint256 count = played.participants.length;
        delete played.pairSeeds;
        cap = 0;
        for (uint256 i = 0; i < count; ++i) {
            played.pairSeeds.push();
            for (uint256 j = 0; j < count; ++j) {
                string memory at = string.concat(key, "pair_seeds[", vm.toString(i), "][", vm.toString(j), "]");
                played.pairSeeds[i].push(i == j ? bytes32(0) : vm.parseJsonBytes32(json, at));
            }
            isLeftOut[i] = true;
            if (played.weights[i] > cap) cap = uint32(played.weights[i]);
        }
        for (uint256 k = 0; k < accepted.length; ++k) {
            isLeftOut[accepted[k]] = false;
        }
        return count - accepted.length;
    }

    /// @dev The model that the case's updates make, from a sum made value by value.
    function _finishCase() private {
        played.model = MaskedTrees.moved(played.before, _sumOf(), _total(), 24 - played.grid);
    }

    function _sumOf() private view returns (bytes memory sum) {
        sum = new bytes(4 * VALUES);
        uint256 count = played.masked.length;
        for (uint256 i = 0; i < count; ++i) {
            if (isLeftOut[i]) continue;
            MaskedTrees.add(sum, played.masked[i], 1);
            MaskedTrees.add(sum, MaskedTrees.stream(played.ownSeeds[i], played.leaf), -1);
            for (uint256 j = 0; j < count; ++j) {
                if (!isLeftOut[j]) continue;
                MaskedTrees.add(sum, MaskedTrees.stream(played.pairSeeds[i][j], played.leaf), i < j ? -1 : int256(1));
            }
        }
    }

    function _total() private view returns (int256 total) {
        for (uint256 i = 0; i < played.weights.length; ++i) {
            uint256 weight = played.weights[i] < cap ? played.weights[i] : cap;
            if (!isLeftOut[i]) total += int256(weight);
        }
    }

    // --------------------------------------------------------------- the dispute

    /// @dev The lead proposes another value somewhere and is refuted; the standby proposes the right leaf.
    function _dispute(uint256 value) private {
        bytes memory model = played.model;
        bytes memory right = played.model;
        model[4 * value + value % 4] ^= bytes1(uint8(1) << uint8(value % 8));
        played.model = model;
        _startAgainKeeping();
        uint256 round = _proposedCase();
        _challenge(round);
        _assertAggregator(aggregators[0], IFederation.AggregatorState.Slashed);
        played.model = right;
        _proposeCase(round);
        _challengeRight(round);
    }

    /// @dev Another federation, in which nobody is left out.
    function _startAgain() private {
        for (uint256 i = 0; i < 32; ++i) {
            isLeftOut[i] = false;
        }
        _startAgainKeeping();
    }

    function _startAgainKeeping() private {
        for (uint256 i = 0; i < 32; ++i) {
            isOpen[i] = isRecovered[i] = false;
        }
        federation = _deploy(_terms());
    }

    function _committedOf() private returns (uint256 round) {
        return _sealedWith(played.weights.length);
    }

    function _summedCase() private returns (uint256 round) {
        return _summedWith(played.weights.length);
    }

    function _proposedCase() private returns (uint256 round) {
        if (federation.roundCount() != 0) _startAgainKeeping();
        round = _summedCase();
        _proposeCase(round);
    }

    function _proposeCase(uint256 round) private {
        bytes32 root = _fold(played.model);
        IFederation.Verdict[] memory verdicts = _sumVerdicts(round);
        vm.prank(federation.currentAggregator());
        federation.propose(round, root, NEW_MANIFEST, verdicts);
    }

    function _bend(uint256 k) private {
        _finishCase();
        bytes memory model = played.model;
        Trees.put(model, k, Trees.value(model, k) ^ 1);
        played.model = model;
    }

    /// @dev Everything is hashed before the call that is to be refused: the precompile would be the next one.
    function _challengeRight(uint256 round) private {
        IFederation.Verdict[] memory verdicts = _sumVerdicts(round);
        bytes memory updates = _records(round);
        vm.expectRevert(abi.encodeWithSelector(IFederation.LeafIsRight.selector, round, played.leaf));
        _challenge(round, verdicts, updates);
    }

    function _challenge(uint256 round) private {
        _challenge(round, _sumVerdicts(round), _records(round));
    }

    function _challenge(uint256 round, IFederation.Verdict[] memory verdicts, bytes memory updates) private {
        IFederation.Leaf memory start = _leafOf(played.before);
        IFederation.Leaf memory model = _leafOf(played.model);
        vm.prank(challenger);
        federation.challengeSum(round, played.leaf, verdicts, updates, start, model);
    }

    /// @dev One for each of the set, one behind the other.
    function _records(uint256 round) private view returns (bytes memory records) {
        for (uint256 i = 0; i < members; ++i) {
            if (_isOutside(i)) continue;
            records = abi.encodePacked(
                records,
                played.masked[i],
                _proof(),
                _binding(round, i),
                _examples(i),
                _ownSeed(round, i),
                _seeds(round, i)
            );
        }
    }

    function _leafOf(bytes memory values) private view returns (IFederation.Leaf memory) {
        return IFederation.Leaf({values: values, proof: _proof()});
    }

    /// @dev What is beside the real leaf is the same in every tree.
    function _proof() private view returns (bytes32[] memory proof) {
        proof = new bytes32[](played.depth);
        for (uint256 level = 0; level < proof.length; ++level) {
            proof[level] = keccak256(abi.encode("beside", level));
        }
    }

    function _fold(bytes memory leaf) private view returns (bytes32) {
        return Trees.fold(leaf, played.leaf, _proof());
    }
}
