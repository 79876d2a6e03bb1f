// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {IFederation} from "../../src/IFederation.sol";
import {Masks} from "../../src/Masks.sol";
import {Handler} from "./Handler.sol";
import {MaskedTrees} from "./MaskedTrees.sol";
import {Trees} from "./Trees.sol";

/// @dev The same roles where only sums are opened. Updates are those of clear rounds behind their masks; the honest
///      participant posts its secrets, and the honest aggregator seals whatever was revealed.
contract MaskedHandler is Handler {
    uint8 private constant BUNDLE = 14; // reasons, docs/protocol.md §13
    uint8 private constant SILENT = 15;

    mapping(uint256 round => mapping(address account => bytes32 root)) private _roots; // of what was revealed

    constructor(IFederation federation_, IERC20 token_, uint256 sponsorKey, bytes memory initialModel)
        Handler(federation_, token_, sponsorKey, initialModel)
    {}

    // -------------------------------------------------------------- the roles

    function sealSet(uint256 who, uint256 choice) external {
        _seal(_aggregator(who), choice);
    }

    function fixSketch(uint256 caller) external {
        _call(_anyone(caller), abi.encodeCall(IFederation.fixSketch, (federation.roundCount())));
    }

    /// @dev Of any participant, by itself or by others.
    function unmask(uint256 who, uint256 sender, uint256 choice) external {
        _unmask(choice % 2 == 0 ? _participant(who) : _anyone(sender), _participant(who), choice >> 1);
    }

    function assist(uint256 who, uint256 silent) public {
        uint256 round = federation.roundCount();
        uint256 outside = _membersOf(round).length - federation.getSum(round).size;
        bytes memory payload =
            abi.encodeCall(IFederation.assist, (round, _participant(silent), new bytes32[](1 + outside)));
        _call(_participant(who), payload);
    }

    function object(uint256 who) external {
        _call(_participant(who), abi.encodeCall(IFederation.object, (federation.roundCount())));
    }

    function voidRound(uint256 caller) external {
        _void(_anyone(caller), federation.roundCount());
    }

    function challengeSum(uint256 who) public {
        uint256 round = federation.roundCount();
        IFederation.Verdict[] memory verdicts = _proposed[round];
        bytes memory updates = "";
        for (uint256 i = 0; i < verdicts.length; ++i) {
            if (verdicts[i].weight != 0) updates = bytes.concat(updates, _record(round, verdicts[i].participant));
        }
        bytes memory payload = abi.encodeCall(
            IFederation.challengeSum, (round, 0, verdicts, updates, _leaf(_before[round]), _leaf(_model[round]))
        );
        if (!_refute(_anyone(who), payload)) return;
        vm.assertNotEq(keccak256(_averageOf(round, verdicts)), keccak256(_model[round]), "a right sum was refuted");
    }

    /// @dev The step that an honest world would take next, and now and then one that is none.
    function goOn(uint256 choice) external override {
        uint256 round = federation.roundCount();
        IFederation.Status status = federation.status(round);
        if (status == IFederation.Status.Seal) {
            if (!_seal(federation.currentAggregator(), choice)) {
                _call(_anyone(choice), abi.encodeCall(IFederation.abandon, (round)));
            }
        } else if (status == IFederation.Status.Unmask || status == IFederation.Status.Assist) {
            _goOnUnmasking(round, status, choice);
        } else if (status == IFederation.Status.Void) {
            _call(_participant(choice), abi.encodeCall(IFederation.postStreams, (round, bytes32(choice))));
            _void(_anyone(choice), round);
        } else if (status == IFederation.Status.Challenge && choice % 16 == 6) {
            for (uint256 i = 0; i < 1 + (choice >> 4) % 6; ++i) {
                _call(_participant((choice >> 8) + i), abi.encodeCall(IFederation.object, (round)));
            }
        } else if (status == IFederation.Status.Challenge && choice % 8 == 2) {
            challengeSum(choice >> 3);
        } else {
            _goOn(choice);
        }
    }

    /// @dev Some are silent, and of these some are recovered.
    function _goOnUnmasking(uint256 round, IFederation.Status status, uint256 choice) private {
        if (federation.getSum(round).sketchSeed == 0) {
            vm.roll(block.number + 1);
            _call(_anyone(choice), abi.encodeCall(IFederation.fixSketch, (round)));
            return;
        }
        bool isAssist = status == IFederation.Status.Assist;
        bool isOpen = false;
        for (uint256 i = 0; i < PARTICIPANTS; ++i) {
            address account = accounts[i];
            bool isSilent = uint256(keccak256(abi.encode("silent", federation, round, account))) % 8 == 0;
            if (isAssist && choice % 2 == 1) assist(choice >> 1, i);
            else if (isAssist && _unmask(_anyone(choice >> 3), account, 1)) isOpen = true;
            else if (!isAssist && !isSilent && _unmask(account, account, 1)) isOpen = true;
        }
        if (isOpen || (isAssist && choice % 2 == 1)) return;
        IFederation.Sum memory sum = federation.getSum(round);
        _wait(status == IFederation.Status.Unmask ? sum.unmaskDeadline : sum.assistDeadline);
    }

    // ------------------------------------------------------------- the honest

    function _actHonestly() internal override {
        super._actHonestly();
        uint256 round = federation.roundCount();
        address lead = accounts[HONEST];
        if (federation.status(round) == IFederation.Status.Seal && federation.currentAggregator() == lead) {
            _seal(lead, 0);
        }
        address participant = accounts[0];
        bool isAsked = federation.status(round) == IFederation.Status.Unmask && _isInSet(round, participant)
            && federation.getSubmission(round, participant).state == IFederation.SubmissionState.Revealed;
        if (isAsked) {
            if (federation.getSum(round).sketchSeed == 0) {
                if (block.number == federation.getSum(round).sealedBlock) vm.roll(block.number + 1);
                _call(participant, abi.encodeCall(IFederation.fixSketch, (round)));
            }
            vm.assertTrue(_unmask(participant, participant, 1), "honest, and not heard");
        }
        _leadHonestly(round, lead);
    }

    function _nextDeadline() internal view override returns (uint256 next) {
        uint256 round = federation.roundCount();
        IFederation.Round memory r = federation.getRound(round);
        IFederation.Sum memory sum = federation.getSum(round);
        next = type(uint256).max;
        uint40[5] memory deadlines =
            [r.commitDeadline, r.revealDeadline, r.nextDeadline, sum.unmaskDeadline, sum.assistDeadline];
        for (uint256 i = 0; i < 5; ++i) {
            if (block.timestamp < deadlines[i] && deadlines[i] < next) next = deadlines[i];
        }
    }

    function _end(uint256 round) internal override returns (bool) {
        return _void(sponsor, round) || super._end(round);
    }

    // ----------------------------------------------------------- what is sent

    function _commit(address account) internal override returns (bool) {
        uint256 round = federation.roundCount();
        bytes32 commitment = keccak256(
            abi.encode(address(federation), round, account, _key(round, account), uint256(EXAMPLES), bytes32("salt"))
        );
        return _call(account, abi.encodeCall(IFederation.commitMasked, (round, commitment, _key(round, account))));
    }

    function _reveal(address account) internal override returns (bool) {
        uint256 round = federation.roundCount();
        if (federation.getSubmission(round, account).state != IFederation.SubmissionState.Committed) return false;
        bytes32 root = "too early"; // nobody can mask before all have committed
        if (federation.status(round) == IFederation.Status.Reveal) {
            bytes memory leaf = _maskedLeaf(round, account);
            root = _roots[round][account] = _digest(leaf);
            _leaves[root] = leaf;
        }
        IFederation.MaskedReveal memory revealed = IFederation.MaskedReveal({
            root: root,
            manifest: root,
            examples: EXAMPLES,
            publicKey: _key(round, account),
            salt: "salt",
            secrets: keccak256(abi.encodePacked(_commitments(round, account)))
        });
        return _call(account, abi.encodeCall(IFederation.revealMasked, (round, revealed)));
    }

    /// @dev All that was revealed, or what chance leaves of it; sometimes nothing.
    function _seal(address aggregator, uint256 choice) private returns (bool) {
        uint256 round = federation.roundCount();
        address[] memory members = _membersOf(round);
        IFederation.Verdict[] memory verdicts = new IFederation.Verdict[](members.length);
        for (uint256 i = 0; i < members.length; ++i) {
            IFederation.Submission memory submission = federation.getSubmission(round, members[i]);
            verdicts[i].participant = members[i];
            if (submission.state != IFederation.SubmissionState.Revealed) continue;
            verdicts[i].revealed = submission.digest;
            uint256 chance = uint256(keccak256(abi.encode("seal", choice, i)));
            bool isLeftOut = aggregator != accounts[HONEST] && (choice % 16 == 1 || chance % 8 == 0);
            if (isLeftOut) verdicts[i].reason = BUNDLE;
            else (verdicts[i].weight, verdicts[i].score) = (terms.seats.weightCap, 10_000);
        }
        uint256 held = federation.escrow();
        if (!_call(aggregator, abi.encodeCall(IFederation.sealSet, (round, verdicts)))) return false;
        vm.assertEq(federation.escrow(), held, "a seal pays nobody");
        vm.assertEq(federation.getSum(round).membersHash == 0, federation.getSum(round).size == 0, "sealed");
        return true;
    }

    /// @dev A seed is wrong now and then.
    function _unmask(address sender, address account, uint256 choice) private returns (bool) {
        uint256 round = federation.roundCount();
        address[] memory members = _membersOf(round);
        if (!_isInSet(round, account)) return false;
        IFederation.Secrets memory secrets = IFederation.Secrets({
            opening: _revealed(round, account),
            rank: uint8(_rankOf(members, account)),
            members: _packed(members),
            commitments: _commitments(round, account),
            ownSeed: _ownSeed(round, account),
            seeds: _outerSeeds(round, account)
        });
        if (choice % 8 == 0) secrets.ownSeed ^= bytes32(uint256(1));
        IFederation.SubmissionState was = federation.getSubmission(round, account).state;
        uint256 stake = federation.getParticipant(account).stake;
        bool isDone = _call(sender, abi.encodeCall(IFederation.unmask, (round, secrets, bytes32("sketch"))));
        if (!isDone) return false;
        vm.assertTrue(choice % 8 != 0, "a wrong seed was taken");
        vm.assertEq(uint8(was), uint8(IFederation.SubmissionState.Revealed), "once");
        uint256 due = terms.money.missedRevealPenalty < stake ? terms.money.missedRevealPenalty : stake;
        uint256 left = sender == account ? stake : stake - due;
        vm.assertEq(federation.getParticipant(account).stake, left, "penalty");
        return true;
    }

    /// @dev Half the price to each of the set that posted its secrets itself, and nothing to anybody else.
    function _void(address caller, uint256 round) private returns (bool) {
        address[] memory members = _membersOf(round);
        IFederation.Opening[] memory openings = new IFederation.Opening[](members.length);
        uint256 count = 0;
        uint256[] memory due = new uint256[](accounts.length);
        uint256 half = terms.money.updateReward / 2; // all weights are at the cap
        for (uint256 i = 0; i < members.length; ++i) {
            IFederation.SubmissionState state = federation.getSubmission(round, members[i]).state;
            if (state != IFederation.SubmissionState.Unmasked && state != IFederation.SubmissionState.Objected) {
                continue;
            }
            openings[count++] = _opening(round, members[i]);
            due[_rankOf(accounts, members[i])] = half;
        }
        IFederation.Opening[] memory given = new IFederation.Opening[](count);
        for (uint256 i = 0; i < count; ++i) {
            given[i] = openings[i];
        }
        bool isVoid = federation.status(round) == IFederation.Status.Void;
        uint256[] memory credits = _credits();
        uint256 held = federation.escrow();
        bool isDone = _call(caller, abi.encodeCall(IFederation.voidRound, (round, _packed(members), given)));
        vm.assertEq(isDone, isVoid, "void");
        if (!isDone) return false;
        for (uint256 i = 0; i < accounts.length; ++i) {
            vm.assertEq(federation.creditOf(accounts[i]), credits[i] + due[i], "half the price");
            wasPaid[round][accounts[i]] = due[i] != 0;
        }
        vm.assertEq(federation.escrow(), held - count * half, "escrow");
        return true;
    }

    function _judge(uint256 round, uint256 choice, bool isHonest)
        internal
        view
        override
        returns (IFederation.Verdict[] memory verdicts)
    {
        verdicts = new IFederation.Verdict[](federation.getRound(round).revealed);
        uint256 found = 0;
        for (uint256 i = 0; i < PARTICIPANTS; ++i) {
            IFederation.Submission memory submission = federation.getSubmission(round, accounts[i]);
            bool isRevealed = submission.state == IFederation.SubmissionState.Revealed
                || submission.state >= IFederation.SubmissionState.Unmasked;
            if (!isRevealed) continue;
            IFederation.Verdict memory v = IFederation.Verdict(accounts[i], submission.digest, 0, 0, BUNDLE);
            if (_isInSet(round, accounts[i])) {
                (v.weight, v.score, v.reason) = (terms.seats.weightCap, 10_000, 0);
                uint256 chance = uint256(keccak256(abi.encode(choice, i)));
                if (!isHonest && chance % 8 == 0) v.weight = uint32(1 + chance % terms.seats.weightCap);
                if (!isHonest && chance % 8 == 1) (v.score, v.reason) = (0, 12);
                if (!isHonest && chance % 64 == 2) v.weight = 0; // nobody takes that
            }
            if (submission.state == IFederation.SubmissionState.Recovered) (v.score, v.reason) = (0, SILENT);
            verdicts[found++] = v;
        }
    }

    // --------------------------------------------------------------- helpers

    /// @dev All that committed, in ascending order: accounts ascend.
    function _membersOf(uint256 round) private view returns (address[] memory members) {
        members = new address[](federation.getRound(round).committed);
        uint256 found = 0;
        for (uint256 i = 0; i < PARTICIPANTS; ++i) {
            if (federation.getSubmission(round, accounts[i]).state == IFederation.SubmissionState.None) continue;
            members[found++] = accounts[i];
        }
    }

    function _packed(address[] memory members) private pure returns (bytes memory list) {
        for (uint256 i = 0; i < members.length; ++i) {
            list = bytes.concat(list, bytes20(members[i]));
        }
    }

    function _rankOf(address[] memory members, address account) private pure returns (uint256 rank) {
        while (members[rank] != account) ++rank;
    }

    function _isInSet(uint256 round, address account) private view returns (bool) {
        IFederation.Submission memory submission = federation.getSubmission(round, account);
        return submission.state != IFederation.SubmissionState.None
            && (federation.getSum(round).byOrder >> submission.order) & 1 != 0;
    }

    function _key(uint256 round, address account) private pure returns (bytes32) {
        return keccak256(abi.encode("key", round, account));
    }

    function _ownSeed(uint256 round, address account) private pure returns (bytes32) {
        return keccak256(abi.encode("own", round, account));
    }

    function _pairSeed(uint256 round, address one, address other) private pure returns (bytes32) {
        return keccak256(abi.encode("pair", round, one < other ? one : other, one < other ? other : one));
    }

    function _commitments(uint256 round, address account) private view returns (bytes32[] memory list) {
        address[] memory members = _membersOf(round);
        list = new bytes32[](members.length);
        list[0] = keccak256(abi.encode(_ownSeed(round, account)));
        uint256 next = 1;
        for (uint256 i = 0; i < members.length; ++i) {
            if (members[i] == account) continue;
            list[next++] = keccak256(abi.encode(_pairSeed(round, account, members[i])));
        }
    }

    function _outerSeeds(uint256 round, address account) private view returns (bytes32[] memory seeds) {
        address[] memory members = _membersOf(round);
        seeds = new bytes32[](members.length - federation.getSum(round).size);
        uint256 next = 0;
        for (uint256 i = 0; i < members.length; ++i) {
            if (!_isInSet(round, members[i])) seeds[next++] = _pairSeed(round, account, members[i]);
        }
    }

    /// @dev By the library, whose streams are held against vectors elsewhere: value by value they would take too long.
    function _maskedLeaf(uint256 round, address account) private view returns (bytes memory leaf) {
        address[] memory members = _membersOf(round);
        uint256[] memory lanes = Masks.empty();
        Masks.remove(lanes, _ownSeed(round, account), 0, false);
        for (uint256 i = 0; i < members.length; ++i) {
            if (members[i] == account) continue;
            Masks.remove(lanes, _pairSeed(round, account, members[i]), 0, account > members[i]);
        }
        leaf = MaskedTrees.packed(lanes);
        MaskedTrees.add(leaf, MaskedTrees.weighted(_update(round, account), int256(uint256(terms.seats.weightCap))), 1);
    }

    /// @dev What stands in the reveal: its root serves as manifest, too.
    function _revealed(uint256 round, address account) private view returns (IFederation.Opening memory) {
        bytes32 root = _roots[round][account];
        return IFederation.Opening({root: root, manifest: root, examples: EXAMPLES});
    }

    function _binding(uint256 round, address account) private view returns (bytes32) {
        bytes32 secrets = keccak256(abi.encodePacked(_commitments(round, account)));
        return keccak256(abi.encode(_revealed(round, account).manifest, secrets));
    }

    function _opening(uint256 round, address account) internal view override returns (IFederation.Opening memory o) {
        o = _revealed(round, account);
        o.manifest = _binding(round, account);
        if (federation.getSubmission(round, account).state < IFederation.SubmissionState.Unmasked) return o;
        o.manifest = keccak256(abi.encodePacked(o.manifest, _ownSeed(round, account), _outerSeeds(round, account)));
    }

    function _record(uint256 round, address account) private view returns (bytes memory) {
        return abi.encodePacked(
            _leaves[_roots[round][account]],
            _binding(round, account),
            EXAMPLES,
            _ownSeed(round, account),
            _outerSeeds(round, account)
        );
    }

    /// @dev The sum has the weights that were masked, whatever a verdict says; the verdicts' ones divide it.
    function _averageOf(uint256 round, IFederation.Verdict[] memory verdicts)
        internal
        view
        override
        returns (bytes memory)
    {
        bytes memory sum = new bytes(1024);
        int256 total = 0;
        for (uint256 i = 0; i < verdicts.length; ++i) {
            if (verdicts[i].weight == 0) continue;
            int256 weight = int256(uint256(terms.seats.weightCap));
            MaskedTrees.add(sum, MaskedTrees.weighted(_update(round, verdicts[i].participant), weight), 1);
            total += int256(uint256(verdicts[i].weight));
        }
        bytes memory before =
            federation.getRound(round).stage == IFederation.Stage.Proposed ? _before[round] : _currentModel;
        return total == 0 ? before : MaskedTrees.moved(before, sum, total, _shift(round));
    }

    /// @dev A void round's requests wait for nobody.
    function _isStandingOnce(IFederation.LeafRequest memory request) internal view override returns (bool) {
        return super._isStandingOnce(request) && federation.status(request.round) != IFederation.Status.Void;
    }

    /// @dev A round in its challenge window may become void.
    function _rank(IFederation.Status status) internal pure override returns (uint256) {
        bool isVoid = status == IFederation.Status.Void;
        return isVoid ? 1 + 2 * uint256(IFederation.Status.Challenge) : super._rank(status);
    }

    function _isChallenge(bytes4 selector) internal pure override returns (bool) {
        return selector == IFederation.challengeSum.selector || super._isChallenge(selector);
    }
}
