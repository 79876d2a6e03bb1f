// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IFederation} from "../src/IFederation.sol";
import {Libraries} from "./kit/Libraries.sol";
import {World} from "./kit/World.sol";

/// @dev The golden vectors of tests/vectors, which Python holds protocol/ to, against the contract itself.
contract VectorsTest is World {
    uint256 private constant VALUES = 256;
    uint256 private constant FRACTION_BITS = 24;
    uint256 private constant MOST_WEIGHT = 1 << 24; // roundSeats * weightCap stays below
    // Slot of rounds in State, and where in its first word a round keeps `active`. Each use is read back.
    uint256 private constant ROUNDS_SLOT = 5;
    uint256 private constant ACTIVE_BIT = 160;

    struct Update {
        address participant;
        bytes32 root;
        bytes32 manifest;
        uint32 examples;
    }

    Libraries private libraries = new Libraries();
    Update[] private updates; // of the case that is played

    // ------------------------------------------------------------------- tree

    /// @notice Every leaf leads to its root, of updates and models, and its padding is right.
    function test_Trees() public view {
        string memory json = _read("tree");
        uint256 count = _count(json);
        uint256 proofs = 0;
        for (uint256 i = 0; i < count; ++i) {
            string memory key = _case(i);
            uint256 k = 0;
            while (vm.keyExistsJson(json, _proofKey(key, k))) {
                _checkProof(json, key, _proofKey(key, k));
                k += 1;
            }
            proofs += k;
        }
        vm.assertGt(proofs, 2 * count, "proofs");
    }

    /// @notice The digests of places without a leaf are those of the vectors, over up to 2^8 places.
    function test_EmptySubtrees() public view {
        bytes32[] memory empty = vm.parseJsonBytes32Array(_read("tree"), ".empty_subtrees");
        vm.assertGt(empty.length, 8, "levels");
        vm.assertTrue(libraries.isPadded(1, 0, empty), "empty");
        for (uint256 level = 0; level < empty.length; ++level) {
            empty[level] ^= bytes32(uint256(1));
            vm.assertFalse(libraries.isPadded(1, 0, empty), vm.toString(level));
            empty[level] ^= bytes32(uint256(1));
        }
    }

    // ---------------------------------------------------------------- average

    /// @notice The library takes each leaf of the vectors, and none in which a bit of one value differs.
    function test_Averages() public view {
        string memory json = _read("average");
        uint256 count = _count(json);
        for (uint256 i = 0; i < count; ++i) {
            string memory key = _case(i);
            uint256 shift = FRACTION_BITS - _uint(json, key, "grid");
            uint256[] memory weights = vm.parseJsonUintArray(json, string.concat(key, "weights"));
            bytes[] memory leaves = vm.parseJsonBytesArray(json, string.concat(key, "update_bytes"));
            bytes memory start = _bytes(json, key, "before_bytes");
            bytes memory model = _bytes(json, key, "after_bytes");
            vm.assertTrue(libraries.isAverage(leaves, weights, shift, start, model), key);
            // In steps of 5: every lane of every word is met.
            for (uint256 k = 0; k < VALUES; k += 5) {
                _flip(model, k);
                vm.assertFalse(libraries.isAverage(leaves, weights, shift, start, model), key);
                _flip(model, k);
            }
        }
    }

    /// @notice A proposal of the vectors' leaf stands in a dispute, and one in which a value differs does not.
    function test_AveragesInDispute() public {
        string memory json = _read("average");
        uint256 count = _count(json);
        uint256 played = 0;
        for (uint256 i = 0; i < count; ++i) {
            string memory key = _case(i);
            uint256[] memory weights = vm.parseJsonUintArray(json, string.concat(key, "weights"));
            // Terms leave room for every seat at full weight, which some sums of the vectors do not.
            if (_largest(weights) * weights.length >= MOST_WEIGHT) continue;
            played += 1;
            _disputeAverage(json, key, weights, i);
        }
        vm.assertGt(played, 8, "disputes");
    }

    // ------------------------------------------------------------------ moves

    /// @notice The bound is that of the vectors, in the library and in a dispute.
    function test_Moves() public {
        string memory json = _read("moves");
        uint256 count = _count(json);
        uint256 bounded = 0;
        for (uint256 i = 0; i < count; ++i) {
            string memory key = _case(i);
            bool isBounded = vm.parseJsonBool(json, string.concat(key, "is_bounded"));
            uint256 grid = _uint(json, key, "grid");
            bytes memory start = _bytes(json, key, "before_bytes");
            bytes memory model = _bytes(json, key, "after_bytes");
            vm.assertEq(_uint(json, key, "most_moved"), 127 << (FRACTION_BITS - grid), key);
            vm.assertEq(libraries.isBounded(FRACTION_BITS - grid, start, model), isBounded, key);
            _disputeMove(grid, start, model, isBounded);
            if (isBounded) bounded += 1;
        }
        vm.assertGt(bounded, 0, "bounded");
        vm.assertGt(count, bounded, "too far");
    }

    // ---------------------------------------------------------------- digests

    /// @notice A commitment and what is kept of its reveal, in the round and at the address of the vectors.
    function test_Commitments() public {
        string memory json = _read("commitments");
        uint256 count = _count(json);
        uint256 played = 0;
        for (uint256 i = 0; i < count; ++i) {
            if (_checkCommitment(json, _case(i))) played += 1;
        }
        vm.assertGt(played, 1, "commitments that the contract can be asked about");
    }

    /// @notice fixSeed() makes the seed of the vectors, in the round and at the address of the vectors.
    function test_Seeds() public {
        string memory json = _read("eligibility");
        uint256 count = _uint(json, ".", "seed_count");
        uint256 played = 0;
        for (uint256 i = 0; i < count; ++i) {
            if (_checkSeed(json, string.concat(".seeds[", vm.toString(i), "]."))) played += 1;
        }
        vm.assertGt(played, 1, "seeds that the contract can make");
    }

    /// @notice Who is asked is drawn as in the vectors, whatever the seed and the number of seats.
    function test_Eligibility() public {
        string memory json = _read("eligibility");
        uint256 count = _count(json);
        uint256 eligible = 0;
        for (uint256 i = 0; i < count; ++i) {
            if (_checkDraw(json, _case(i))) eligible += 1;
        }
        vm.assertGt(eligible, 0, "asked");
        vm.assertGt(count, eligible, "not asked");
    }

    /// @notice A proposal keeps the hash of the vectors, over the digests of what was revealed.
    function test_Verdicts() public {
        string memory json = _read("verdicts");
        uint256 count = _count(json);
        uint256 played = 0;
        for (uint256 i = 0; i < count; ++i) {
            string memory key = _case(i);
            IFederation.Verdict[] memory verdicts = _readVerdicts(json, key);
            bytes32 expected = vm.parseJsonBytes32(json, string.concat(key, "hash"));
            vm.assertEq(keccak256(abi.encode(verdicts)), expected, key);
            if (verdicts.length == 0) continue; // a round without reveals has no proposal
            uint256 round = _proposeVector(json, key, verdicts, REWARD, FEE);
            vm.assertEq(federation.getRound(round).verdictsHash, expected, key);
            played += 1;
        }
        vm.assertGt(played, 1, "verdicts that were proposed");
    }

    /// @notice Settling pays the prices and the fee of the vectors, and keeps the rest in escrow.
    function test_Payouts() public {
        string memory json = _read("payouts");
        uint256 count = _count(json);
        uint256 played = 0;
        for (uint256 i = 0; i < count; ++i) {
            if (_checkPayouts(json, _case(i))) played += 1;
        }
        vm.assertGt(played, 1, "rounds that were settled");
    }

    // ------------------------------------------------------------- the world's

    function _participant(uint256 i) internal view override returns (address) {
        return i < updates.length ? updates[i].participant : super._participant(i);
    }

    function _root(uint256 round, uint256 i) internal view override returns (bytes32) {
        return i < updates.length ? updates[i].root : super._root(round, i);
    }

    function _manifest(uint256 round, uint256 i) internal view override returns (bytes32) {
        return i < updates.length ? updates[i].manifest : super._manifest(round, i);
    }

    function _examples(uint256 i) internal view override returns (uint32) {
        return i < updates.length ? updates[i].examples : super._examples(i);
    }

    // --------------------------------------------------------------- disputes

    /// @dev The lead proposes another value somewhere and is refuted; the standby proposes the right leaf.
    function _disputeAverage(string memory json, string memory key, uint256[] memory weights, uint256 value) private {
        bytes memory start = _bytes(json, key, "before_bytes");
        bytes memory model = _bytes(json, key, "after_bytes");
        bytes[] memory leaves = vm.parseJsonBytesArray(json, string.concat(key, "update_bytes"));
        _keepUpdates(leaves, weights);
        uint256 count = leaves.length;
        uint256 round = _revealIn(_oneLeaf(_uint(json, key, "grid"), start, count, _largest(weights)), count);
        _flip(model, value);
        _proposeLeaf(round, model, count);
        _call(_challenge(round, leaves, start, model), "");
        _assertAggregator(aggregators[0], IFederation.AggregatorState.Slashed);
        _flip(model, value);
        _proposeLeaf(round, model, count);
        _call(
            _challenge(round, leaves, start, model),
            abi.encodeWithSelector(IFederation.LeafIsRight.selector, round, uint256(0))
        );
    }

    function _disputeMove(uint256 grid, bytes memory start, bytes memory model, bool isBounded) private {
        delete updates;
        uint256 round = _revealIn(_oneLeaf(grid, start, 1, WEIGHT_CAP), 1);
        _proposeLeaf(round, model, 1);
        bytes memory refusal = abi.encodeWithSelector(IFederation.MoveIsBounded.selector, round, uint256(0));
        _call(
            abi.encodeCall(IFederation.challengeMove, (round, 0, _onlyLeaf(start), _onlyLeaf(model))),
            isBounded ? refusal : bytes("")
        );
        _assertAggregator(
            aggregators[0], isBounded ? IFederation.AggregatorState.Bonded : IFederation.AggregatorState.Slashed
        );
    }

    /// @dev Asks the federation, which answers with this error; without one it is done.
    function _call(bytes memory call, bytes memory refusal) private {
        (bool isDone, bytes memory answer) = address(federation).call(call);
        vm.assertEq(answer, refusal);
        vm.assertEq(isDone, refusal.length == 0);
    }

    function _challenge(uint256 round, bytes[] memory leaves, bytes memory start, bytes memory model)
        private
        view
        returns (bytes memory)
    {
        IFederation.OpenedLeaf[] memory opened = new IFederation.OpenedLeaf[](leaves.length);
        for (uint256 i = 0; i < leaves.length; ++i) {
            opened[i] = IFederation.OpenedLeaf({opening: _opening(round, i), leaf: _onlyLeaf(leaves[i])});
        }
        return abi.encodeCall(
            IFederation.challengeAverage,
            (round, 0, _verdicts(round, leaves.length), opened, _onlyLeaf(start), _onlyLeaf(model))
        );
    }

    /// @dev Terms for models of one leaf, which is the tree: its digest is the root.
    function _oneLeaf(uint256 grid, bytes memory start, uint256 count, uint256 cap)
        private
        view
        returns (IFederation.Terms memory terms)
    {
        terms = _termsOf(count, cap);
        terms.identity.leafCount = 1;
        terms.identity.treeDepth = 0;
        terms.identity.gridBits = uint8(grid);
        terms.identity.initialModelRoot = _digestOf(start);
    }

    function _proposeLeaf(uint256 round, bytes memory model, uint256 count) private {
        IFederation.Verdict[] memory verdicts = _verdicts(round, count);
        bytes32 root = _digestOf(model);
        vm.prank(federation.currentAggregator());
        federation.propose(round, root, NEW_MANIFEST, verdicts);
    }

    function _keepUpdates(bytes[] memory leaves, uint256[] memory weights) private {
        delete updates;
        for (uint256 i = 0; i < leaves.length; ++i) {
            updates.push(
                Update({
                    participant: super._participant(i),
                    root: _digestOf(leaves[i]),
                    manifest: super._manifest(1, i),
                    examples: uint32(weights[i])
                })
            );
        }
    }

    function _onlyLeaf(bytes memory values) private pure returns (IFederation.Leaf memory) {
        return IFederation.Leaf({values: values, proof: new bytes32[](0)});
    }

    function _digestOf(bytes memory leaf) private pure returns (bytes32) {
        return sha256(bytes.concat(hex"00", leaf));
    }

    /// @dev One bit of a model's value, in another byte and at another place from value to value.
    function _flip(bytes memory model, uint256 value) private pure {
        model[4 * value + value % 4] ^= bytes1(uint8(1) << uint8(value % 8));
    }

    function _largest(uint256[] memory numbers) private pure returns (uint256 largest) {
        for (uint256 i = 0; i < numbers.length; ++i) {
            if (numbers[i] > largest) largest = numbers[i];
        }
    }

    // ----------------------------------------------------------------- rounds

    function _termsOf(uint256 count, uint256 cap) private view returns (IFederation.Terms memory terms) {
        terms = _terms();
        terms.seats.maxParticipants = terms.seats.roundSeats = terms.seats.roundTarget = uint16(count);
        terms.seats.weightCap = uint32(cap);
    }

    /// @dev Founded, opened, and `count` updates revealed: the aggregator's turn.
    function _revealIn(IFederation.Terms memory terms, uint256 count) private returns (uint256 round) {
        federation = _deploy(terms);
        if (_price() != 0) _fund(_price());
        _bond(aggregators[0]);
        _bond(aggregators[1]);
        _join(count);
        _mine();
        round = _open();
        _commitAll(round, count);
        _revealAll(round, count);
    }

    function _proposeVector(
        string memory json,
        string memory key,
        IFederation.Verdict[] memory verdicts,
        uint128 reward,
        uint128 fee
    ) private returns (uint256 round) {
        _readUpdates(json, key);
        IFederation.Terms memory terms = _termsOf(verdicts.length, _uint(json, key, "weight_cap"));
        terms.money.updateReward = reward;
        terms.money.aggregatorFee = fee;
        round = _revealIn(terms, verdicts.length);
        bool isMoved = false;
        for (uint256 i = 0; i < verdicts.length; ++i) {
            isMoved = isMoved || verdicts[i].weight != 0;
        }
        vm.prank(aggregators[0]);
        if (isMoved) federation.propose(round, NEW_ROOT, NEW_MANIFEST, verdicts);
        else federation.propose(round, INITIAL_ROOT, INITIAL_MANIFEST, verdicts);
    }

    /// @dev Returns false for a round without reveals, which is never settled.
    function _checkPayouts(string memory json, string memory key) private returns (bool) {
        IFederation.Verdict[] memory verdicts = _readVerdicts(json, key);
        if (verdicts.length == 0) return false;
        uint128 reward = uint128(_uint(json, key, "update_reward"));
        uint256 round = _proposeVector(json, key, verdicts, reward, uint128(_uint(json, key, "aggregator_fee")));
        vm.assertEq(federation.getRound(round).revealedWeight, _uint(json, key, "revealed_weight"), key);
        uint256 left = federation.escrow();
        _finalize(round, verdicts);
        uint256[] memory payouts = vm.parseJsonUintArray(json, string.concat(key, "payouts"));
        vm.assertEq(payouts.length, verdicts.length, key);
        for (uint256 i = 0; i < payouts.length; ++i) {
            vm.assertEq(federation.creditOf(verdicts[i].participant), payouts[i], key);
            left -= payouts[i];
        }
        vm.assertEq(federation.creditOf(aggregators[0]), _uint(json, key, "fee"), key);
        vm.assertEq(federation.escrow(), left - _uint(json, key, "fee"), key);
        return true;
    }

    /// @dev Returns false when the contract's types cannot hold the case; then only the encoding is compared.
    function _checkCommitment(string memory json, string memory key) private returns (bool) {
        uint256 round = _uint(json, key, "round");
        uint256 examples = _uint(json, key, "examples");
        Update memory u = Update({
            participant: vm.parseJsonAddress(json, string.concat(key, "participant")),
            root: vm.parseJsonBytes32(json, string.concat(key, "root")),
            manifest: vm.parseJsonBytes32(json, string.concat(key, "manifest")),
            examples: uint32(examples)
        });
        address at = vm.parseJsonAddress(json, string.concat(key, "federation"));
        bytes32 salt = vm.parseJsonBytes32(json, string.concat(key, "salt"));
        bytes32 commitment = vm.parseJsonBytes32(json, string.concat(key, "commitment"));
        bytes32 digest = vm.parseJsonBytes32(json, string.concat(key, "update_digest"));
        vm.assertEq(
            keccak256(abi.encode(at, round, u.participant, u.root, u.manifest, examples, salt)), commitment, key
        );
        vm.assertEq(keccak256(abi.encode(u.root, u.manifest, examples)), digest, key);
        if (u.examples == 0 || u.examples != examples || round > type(uint32).max) return false;

        _openRoundAt(at, round, u.participant);
        _mine();
        federation.fixSeed(round);
        vm.prank(u.participant);
        federation.commit(round, commitment);
        vm.assertEq(federation.getSubmission(round, u.participant).digest, bytes32(bytes30(commitment)), key);
        vm.prank(u.participant);
        federation.reveal(round, u.root, u.manifest, u.examples, salt);
        vm.assertEq(federation.getSubmission(round, u.participant).digest, bytes32(bytes30(digest)), key);
        return true;
    }

    /// @dev Returns false when the contract's types cannot hold the case; then only the encoding is compared.
    function _checkSeed(string memory json, string memory key) private returns (bool) {
        uint256 round = _uint(json, key, "round");
        address at = vm.parseJsonAddress(json, string.concat(key, "federation"));
        bytes32 hash = vm.parseJsonBytes32(json, string.concat(key, "block_hash"));
        uint256 randao = _uint(json, key, "prevrandao");
        bytes32 seed = vm.parseJsonBytes32(json, string.concat(key, "seed"));
        vm.assertEq(keccak256(abi.encode(at, round, hash, randao)), seed, key);
        if (round > type(uint32).max) return false;

        _openRoundAt(at, round, stranger);
        _mine();
        vm.setBlockhash(federation.getRound(round).openedBlock, hash);
        vm.prevrandao(bytes32(randao));
        federation.fixSeed(round);
        vm.assertEq(federation.getRound(round).seed, seed, key);
        return true;
    }

    /// @dev A federation at a given address whose open round, still without a seed, has a given number.
    function _openRoundAt(address at, uint256 round, address participant) private {
        IFederation.Terms memory terms = _terms();
        terms.seats.rounds = uint32(round);
        vm.etch(at, address(_deploy(terms)).code);
        federation = IFederation(at);
        _fund(_price());
        _bond(aggregators[0]);
        _joinOne(participant);
        _mine();
        while (_openUnseeded() != round) {
            vm.roll(block.number + 257);
            federation.abandon(federation.roundCount());
        }
    }

    /// @dev Returns whether the seat is asked. More seats are active in the vectors than a federation has: stored here.
    function _checkDraw(string memory json, string memory key) private returns (bool isEligible) {
        bytes32 seed = vm.parseJsonBytes32(json, string.concat(key, "seed"));
        address participant = vm.parseJsonAddress(json, string.concat(key, "participant"));
        uint256 active = _uint(json, key, "active");
        vm.assertEq(uint256(keccak256(abi.encode(seed, participant))), _uint(json, key, "draw"), key);
        IFederation.Terms memory terms = _terms();
        terms.seats.roundTarget = uint16(_uint(json, key, "round_target"));
        federation = _deploy(terms);
        uint256 slot = uint256(keccak256(abi.encode(uint256(1), ROUNDS_SLOT)));
        vm.store(address(federation), bytes32(slot), bytes32(active << ACTIVE_BIT));
        vm.store(address(federation), bytes32(slot + 1), seed);
        vm.assertEq(federation.getRound(1).active, active, key);
        vm.assertEq(federation.getRound(1).seed, seed, key);
        isEligible = vm.parseJsonBool(json, string.concat(key, "eligible"));
        vm.assertEq(federation.isEligible(1, participant), isEligible, key);
    }

    // ---------------------------------------------------------------- reading

    function _checkProof(string memory json, string memory key, string memory at) private view {
        bytes32[] memory siblings = vm.parseJsonBytes32Array(json, string.concat(at, ".siblings"));
        bytes memory leaf = vm.parseJsonBytes(json, string.concat(at, ".leaf"));
        uint256 index = vm.parseJsonUint(json, string.concat(at, ".index"));
        vm.assertEq(leaf.length, _uint(json, key, "leaf_bytes"), at);
        vm.assertEq(siblings.length, _uint(json, key, "depth"), at);
        bytes32 root = vm.parseJsonBytes32(json, string.concat(key, "root"));
        vm.assertEq(libraries.rootOf(leaf, index, siblings), root, at);
        vm.assertTrue(libraries.isPadded(_uint(json, key, "leaf_count"), index, siblings), at);
    }

    function _readVerdicts(string memory json, string memory key)
        private
        pure
        returns (IFederation.Verdict[] memory verdicts)
    {
        address[] memory participants = vm.parseJsonAddressArray(json, string.concat(key, "participants"));
        bytes32[] memory revealed = vm.parseJsonBytes32Array(json, string.concat(key, "revealed"));
        uint256[] memory weights = vm.parseJsonUintArray(json, string.concat(key, "weights"));
        uint256[] memory scores = vm.parseJsonUintArray(json, string.concat(key, "scores"));
        uint256[] memory reasons = vm.parseJsonUintArray(json, string.concat(key, "reasons"));
        verdicts = new IFederation.Verdict[](participants.length);
        for (uint256 i = 0; i < verdicts.length; ++i) {
            verdicts[i] = IFederation.Verdict({
                participant: participants[i],
                revealed: bytes30(revealed[i]),
                weight: uint32(weights[i]),
                score: uint16(scores[i]),
                reason: uint8(reasons[i])
            });
        }
    }

    function _readUpdates(string memory json, string memory key) private {
        address[] memory participants = vm.parseJsonAddressArray(json, string.concat(key, "participants"));
        bytes32[] memory roots = vm.parseJsonBytes32Array(json, string.concat(key, "roots"));
        bytes32[] memory manifests = vm.parseJsonBytes32Array(json, string.concat(key, "manifests"));
        uint256[] memory examples = vm.parseJsonUintArray(json, string.concat(key, "examples"));
        delete updates;
        for (uint256 i = 0; i < participants.length; ++i) {
            updates.push(
                Update({
                    participant: participants[i], root: roots[i], manifest: manifests[i], examples: uint32(examples[i])
                })
            );
        }
    }

    function _read(string memory name) private view returns (string memory) {
        return vm.readFile(string.concat("../tests/vectors/", name, ".json"));
    }

    function _count(string memory json) private pure returns (uint256 count) {
        count = _uint(json, ".", "case_count");
        vm.assertGt(count, 0, "cases");
    }

    function _uint(string memory json, string memory key, string memory field) private pure returns (uint256) {
        return vm.parseJsonUint(json, string.concat(key, field));
    }

    function _bytes(string memory json, string memory key, string memory field) private pure returns (bytes memory) {
        return vm.parseJsonBytes(json, string.concat(key, field));
    }

    function _case(uint256 i) private pure returns (string memory) {
        return string.concat(".cases[", vm.toString(i), "].");
    }

    function _proofKey(string memory key, uint256 k) private pure returns (string memory) {
        return string.concat(key, "proofs[", vm.toString(k), "]");
    }
}
