// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {IFederation} from "../../src/IFederation.sol";
import {Test} from "./Test.sol";
import {Trees} from "./Trees.sol";

/// @dev Plays every role in whatever order the fuzzer likes. Calls that the contract refuses are no failure;
///      what a call that went through did to the money and to the rounds is checked at once.
///      The first participant and the second aggregator are honest: before time goes on they do what is theirs to do.
///      Updates and models are one leaf: its digest is the root.
contract Handler is Test {
    uint256 public constant PARTICIPANTS = 5;
    uint256 public constant AGGREGATORS = 3;
    uint256 internal constant HONEST = PARTICIPANTS + 1; // the aggregator that is; the first to lead is not
    uint32 internal constant EXAMPLES = 7; // above the weight cap
    bytes4 private constant PANIC = 0x4e487b71;

    IFederation public immutable federation;
    IERC20 public immutable token;
    address public immutable sponsor;
    uint256 private immutable SPONSOR_KEY;
    IFederation.Terms internal terms;
    address[] public accounts; // participants, then aggregators, then the sponsor

    uint256 public tokensIn;
    uint256 public tokensOut;
    mapping(bytes4 selector => uint256 times) public done;
    mapping(uint256 round => IFederation.Status) public lastStatus;
    mapping(uint256 round => mapping(address account => bool)) public wasPaid;
    mapping(uint256 round => IFederation.Verdict[]) internal _proposed;
    mapping(uint256 round => bytes model) internal _model; // the proposal's only leaf
    mapping(uint256 round => bytes model) internal _before;
    mapping(bytes32 root => bytes leaf) internal _leaves; // where somebody knows it
    bytes internal _currentModel;

    bytes32[] public requested; // roots of which leaf 0, the only one, was ever requested
    mapping(bytes32 root => bool) private _wasRequested;
    address private _owed; // whose deposit the call under way may give back

    constructor(IFederation federation_, IERC20 token_, uint256 sponsorKey, bytes memory initialModel) {
        federation = federation_;
        token = token_;
        SPONSOR_KEY = sponsorKey;
        sponsor = federation_.sponsor();
        terms = federation_.terms();
        _currentModel = initialModel;
        _leaves[_digest(initialModel)] = initialModel;
        for (uint256 i = 0; i < PARTICIPANTS; ++i) {
            accounts.push(address(uint160(0xA11CE00 + i)));
        }
        address[] memory listed = federation_.aggregators();
        for (uint256 i = 0; i < AGGREGATORS; ++i) {
            accounts.push(listed[i]);
        }
        accounts.push(sponsor);
        for (uint256 i = 0; i < accounts.length; ++i) {
            vm.prank(accounts[i]);
            token_.approve(address(federation_), type(uint256).max);
        }
    }

    // -------------------------------------------------------------- the roles

    function fund(uint256 amount) external {
        _call(sponsor, abi.encodeCall(IFederation.fund, (_bound(amount, 0, 9000))));
    }

    function refund(uint256 caller) external {
        _call(_anyone(caller), abi.encodeCall(IFederation.refund, ()));
    }

    function close(uint256 caller) external {
        // Rarely, or little else would happen.
        if (caller % 32 > 1) return;
        _call(caller % 32 == 0 ? sponsor : _anyone(caller >> 5), abi.encodeCall(IFederation.close, ()));
    }

    /// @dev One invitation in four is another's, expired or forged: nobody gets in with it.
    function join(uint256 who, uint256 choice) external {
        _join(_participant(who), choice);
    }

    function leave(uint256 who) external {
        _call(_participant(who), abi.encodeCall(IFederation.leave, ()));
    }

    /// @dev Any two rounds, or the two last ones to which a seat sent nothing; from `who` on, the first that can be freed.
    function evict(uint256 who, uint256 first, uint256 second) external {
        uint256[] memory rounds = new uint256[](2);
        for (uint256 i = 0; i < PARTICIPANTS; ++i) {
            address account = accounts[(who % PARTICIPANTS + i) % PARTICIPANTS];
            rounds[0] = _bound(first, 0, federation.roundCount());
            rounds[1] = _bound(second, rounds[0], federation.roundCount());
            if (first % 4 != 0) _findMissed(account, rounds);
            if (!_call(sponsor, abi.encodeCall(IFederation.evict, (account, rounds)))) continue;
            vm.assertTrue(account != accounts[0], "honest, evicted");
            return;
        }
    }

    function _findMissed(address account, uint256[] memory rounds) internal view {
        uint256 missing = 2;
        for (uint256 round = federation.roundCount(); round != 0 && missing != 0; --round) {
            if (federation.getRound(round).commitDeadline == 0 || !federation.isEligible(round, account)) continue;
            if (federation.getSubmission(round, account).state != IFederation.SubmissionState.None) continue;
            missing -= 1;
            rounds[missing] = round;
        }
    }

    function withdraw(uint256 who) external {
        _call(_anyone(who), abi.encodeCall(IFederation.withdraw, ()));
    }

    function withdrawTo(uint256 who, uint256 to) external {
        _call(_anyone(who), abi.encodeCall(IFederation.withdrawTo, (_anyone(to))));
    }

    function announce(uint256 who) external {
        _call(_anyone(who), abi.encodeCall(IFederation.announce, ("/dns4/example.org/tcp/4001")));
    }

    function commit(uint256 who) external {
        _commit(_participant(who));
    }

    function reveal(uint256 who) external {
        _reveal(_participant(who));
    }

    function penalize(uint256 who, uint256 round) external {
        round = _bound(round, 0, federation.roundCount());
        _call(sponsor, abi.encodeCall(IFederation.penalize, (round, _participant(who))));
    }

    function bond(uint256 who) external {
        _call(_aggregator(who), abi.encodeCall(IFederation.bond, ()));
    }

    function unbond(uint256 who) external {
        _call(_aggregator(who), abi.encodeCall(IFederation.unbond, ()));
    }

    function openRound(uint256 who) external {
        _call(_aggregator(who), abi.encodeCall(IFederation.openRound, ()));
    }

    function fixSeed(uint256 caller) external {
        _call(_anyone(caller), abi.encodeCall(IFederation.fixSeed, (federation.roundCount())));
    }

    function propose(uint256 who, uint256 choice) external {
        _propose(_aggregator(who), choice);
    }

    function finalize(uint256 caller, uint256 choice) external {
        uint256 round = federation.roundCount();
        IFederation.Verdict[] memory verdicts = _proposed[round];
        if (choice % 2 == 0 && verdicts.length != 0) {
            verdicts[0].weight += 1;
            bool isSettled = _call(_anyone(caller), abi.encodeCall(IFederation.finalize, (round, verdicts)));
            vm.assertFalse(isSettled, "bent verdicts settled");
        } else {
            _finalize(_anyone(caller), round, verdicts);
        }
    }

    function abandon(uint256 caller) external {
        _call(_anyone(caller), abi.encodeCall(IFederation.abandon, (federation.roundCount())));
    }

    function replaceAggregator(uint256 caller) external {
        _call(_anyone(caller), abi.encodeCall(IFederation.replaceAggregator, ()));
    }

    function challengeAverage(uint256 who) public {
        uint256 round = federation.roundCount();
        IFederation.Verdict[] memory verdicts = _proposed[round];
        IFederation.OpenedLeaf[] memory updates = new IFederation.OpenedLeaf[](_countAccepted(verdicts));
        uint256 found = 0;
        for (uint256 i = 0; i < verdicts.length; ++i) {
            if (verdicts[i].weight == 0) continue;
            updates[found++] = IFederation.OpenedLeaf({
                opening: _opening(round, verdicts[i].participant), leaf: _leaf(_update(round, verdicts[i].participant))
            });
        }
        bytes memory payload = abi.encodeCall(
            IFederation.challengeAverage, (round, 0, verdicts, updates, _leaf(_before[round]), _leaf(_model[round]))
        );
        if (!_refute(_anyone(who), payload)) return;
        vm.assertNotEq(keccak256(_averageOf(round, verdicts)), keccak256(_model[round]), "a right average was refuted");
    }

    function challengeMove(uint256 who) public {
        uint256 round = federation.roundCount();
        bytes memory payload =
            abi.encodeCall(IFederation.challengeMove, (round, 0, _leaf(_before[round]), _leaf(_model[round])));
        if (!_refute(_anyone(who), payload)) return;
        bool isFar = false;
        int256 most = 127 * int256(2 ** _shift(round));
        for (uint256 k = 0; k < 256; ++k) {
            int256 by = Trees.value(_model[round], k) - Trees.value(_before[round], k);
            isFar = isFar || by > most || by < -most;
        }
        vm.assertTrue(isFar, "a bounded move was refuted");
    }

    function challengeVerdict(uint256 who, uint256 index) public {
        uint256 round = federation.roundCount();
        IFederation.Verdict[] memory verdicts = _proposed[round];
        if (verdicts.length == 0) return;
        IFederation.Verdict memory verdict = verdicts[index % verdicts.length];
        bool isWrong = (verdict.weight != 0 && verdict.weight != terms.seats.weightCap) || verdict.reason == 9;
        bytes memory payload = abi.encodeCall(
            IFederation.challengeVerdict,
            (round, index % verdicts.length, verdicts, _opening(round, verdict.participant))
        );
        if (_refute(_anyone(who), payload)) vm.assertTrue(isWrong, "a right verdict was refuted");
    }

    function challengeDuplicate(uint256 who, uint256 index, uint256 earlier) external {
        uint256 round = federation.roundCount();
        IFederation.Verdict[] memory verdicts = _proposed[round];
        if (verdicts.length == 0) return;
        (index, earlier) = (index % verdicts.length, earlier % verdicts.length);
        bytes memory payload = abi.encodeCall(
            IFederation.challengeDuplicate,
            (
                round,
                index,
                earlier,
                verdicts,
                _opening(round, verdicts[index].participant),
                _opening(round, verdicts[earlier].participant)
            )
        );
        // Every update here is an original.
        vm.assertFalse(_refute(_anyone(who), payload), "an original was called a duplicate");
    }

    function challengeOriginal(uint256 who, uint256 index) public {
        uint256 round = federation.roundCount();
        IFederation.Verdict[] memory verdicts = _proposed[round];
        if (verdicts.length == 0) return;
        index = index % verdicts.length;
        // Any verdict, or one that says duplicate.
        for (uint256 i = 0; who % 4 != 0 && i < verdicts.length; ++i) {
            if (verdicts[i].reason == 10) index = i;
        }
        IFederation.Opening[] memory all = new IFederation.Opening[](verdicts.length);
        for (uint256 i = 0; i < verdicts.length; ++i) {
            all[i] = _opening(round, verdicts[i].participant);
        }
        bytes memory payload = abi.encodeCall(IFederation.challengeOriginal, (round, index, verdicts, all));
        if (_refute(_anyone(who), payload)) vm.assertEq(verdicts[index].reason, 10, "refuted without reason");
    }

    function requestModel(uint256 who) public {
        uint256 round = federation.roundCount();
        bytes32 root = federation.getRound(round).modelRoot;
        _request(_anyone(who), root, abi.encodeCall(IFederation.requestModelLeaf, (round, 0)));
    }

    function requestUpdate(uint256 who, uint256 index) public {
        uint256 round = federation.roundCount();
        IFederation.Verdict[] memory verdicts = _proposed[round];
        if (verdicts.length == 0) return;
        index = index % verdicts.length;
        IFederation.Opening memory opening = _opening(round, verdicts[index].participant);
        bytes memory payload = abi.encodeCall(IFederation.requestUpdateLeaf, (round, 0, index, verdicts, opening));
        bool isRequested = _request(_anyone(who), opening.root, payload);
        if (isRequested) vm.assertTrue(verdicts[index].weight != 0, "a rejected update was requested");
    }

    function postLeaves(uint256 who, uint256 choice) public {
        if (requested.length == 0) return;
        bytes32 root = requested[choice % requested.length];
        _post(_anyone(who), root);
    }

    function settleRequest(uint256 who, uint256 choice) external {
        if (requested.length != 0) _settle(_anyone(who), requested[choice % requested.length]);
    }

    // ------------------------------------------------------------------- time

    function wait_(uint256 time, uint256 blocks) external {
        vm.roll(block.number + (blocks % 16 == 0 ? 300 : _bound(blocks, 1, 60)));
        _wait(block.timestamp + _bound(time, 1, 700));
    }

    function mine(uint256 blocks) external {
        vm.roll(block.number + _bound(blocks, 1, 3));
        _watchStatuses(0);
    }

    /// @dev Stops in the last second of each phase on the way, so that the honest do what is theirs.
    function _wait(uint256 until) internal {
        for (uint256 i = 0; i < 12; ++i) {
            _actHonestly();
            uint256 deadline = _nextDeadline();
            if (deadline > until) break;
            vm.warp(deadline);
            _watchStatuses(0);
        }
        _actHonestly();
        if (block.timestamp < until) vm.warp(until);
        _watchStatuses(0);
    }

    /// @dev When the phase that the newest round is in ends by itself.
    function _nextDeadline() internal view virtual returns (uint256) {
        IFederation.Round memory r = federation.getRound(federation.roundCount());
        if (block.timestamp < r.commitDeadline) return r.commitDeadline;
        if (block.timestamp < r.revealDeadline) return r.revealDeadline;
        return block.timestamp < r.nextDeadline ? r.nextDeadline : type(uint256).max;
    }

    function _actHonestly() internal virtual {
        uint256 round = federation.roundCount();
        address participant = accounts[0];
        address lead = accounts[HONEST];
        IFederation.Status status = federation.status(round);
        if (status == IFederation.Status.Commit) {
            if (federation.getSubmission(round, participant).state == IFederation.SubmissionState.None) {
                _commit(participant);
            }
            status = federation.status(round);
        }
        if (status == IFederation.Status.Reveal) {
            if (federation.getSubmission(round, participant).state == IFederation.SubmissionState.Committed) {
                _reveal(participant);
            }
        }
        _leadHonestly(round, lead);
    }

    function _leadHonestly(uint256 round, address lead) internal {
        IFederation.Status status = federation.status(round);
        if (federation.currentAggregator() != lead) return;
        if (status == IFederation.Status.Propose && federation.getRound(round).revealed != 0) _propose(lead, 0);
        for (uint256 i = 0; i < requested.length; ++i) {
            if (_isStanding(federation.leafRequest(requested[i], 0))) _post(lead, requested[i]);
        }
    }

    /// @dev The step that an honest world would take next, so that runs reach settlement.
    function goOn(uint256 choice) external virtual {
        _goOn(choice);
    }

    function _goOn(uint256 choice) internal {
        uint256 round = federation.roundCount();
        IFederation.Status status = federation.status(round);
        address lead = federation.currentAggregator();
        if (status == IFederation.Status.Seed || status == IFederation.Status.Unseeded) {
            _goOnSeeding(round, choice);
        } else if (status == IFederation.Status.Commit) {
            if (!_commit(_participant(choice)) && choice % 4 == 0) _wait(federation.getRound(round).commitDeadline);
        } else if (status == IFederation.Status.Reveal) {
            if (!_reveal(_participant(choice)) && choice % 4 == 0) _wait(federation.getRound(round).revealDeadline);
        } else if (status == IFederation.Status.Propose) {
            if (!_propose(lead, choice)) _call(lead, abi.encodeCall(IFederation.abandon, (round)));
        } else if (status == IFederation.Status.Challenge) {
            _goOnChallenging(choice);
        } else if (status == IFederation.Status.Settleable) {
            _finalize(lead, round, _proposed[round]);
        } else if (status == IFederation.Status.Expired) {
            bool isReplaced = _call(lead, abi.encodeCall(IFederation.replaceAggregator, ()));
            if (!isReplaced) _call(lead, abi.encodeCall(IFederation.abandon, (round)));
        } else {
            _goOnOpening(lead, choice);
        }
    }

    function _goOnSeeding(uint256 round, uint256 choice) internal {
        vm.roll(block.number + 1);
        if (!_call(_anyone(choice), abi.encodeCall(IFederation.fixSeed, (round)))) {
            _call(_anyone(choice), abi.encodeCall(IFederation.abandon, (round)));
        }
    }

    function _goOnOpening(address lead, uint256 choice) internal {
        vm.roll(block.number + 1);
        if (federation.activeCount() < 4) {
            _join(_participant(choice), 1);
        } else if (federation.bondedCount() < 2) {
            _call(_aggregator(choice), abi.encodeCall(IFederation.bond, ()));
        } else if (!_call(lead, abi.encodeCall(IFederation.openRound, ()))) {
            _call(sponsor, abi.encodeCall(IFederation.fund, (4000)));
        }
    }

    /// @dev Some requests are answered, some of the others keep the round from being settled.
    function _goOnChallenging(uint256 choice) internal virtual {
        uint256 deadline = federation.getRound(federation.roundCount()).nextDeadline;
        if (block.timestamp >= deadline) return _settleAll();
        if (choice % 8 == 0) requestModel(choice >> 3);
        else if (choice % 8 == 1) requestUpdate(choice >> 3, choice >> 8);
        else if (choice % 8 == 2) challengeAverage(choice >> 3);
        else if (choice % 8 == 3) challengeMove(choice >> 3);
        else if (choice % 8 == 5) challengeVerdict(choice >> 3, choice >> 8);
        else if (choice % 8 == 7) challengeOriginal(choice >> 3, choice >> 8);
        else if (choice % 8 == 4 && requested.length != 0) postLeaves(choice >> 3, requested.length - 1);
        else _wait(deadline);
    }

    // ---------------------------------------------------------------- the end

    /// @dev After the last deadline: ends what is open, and lets everybody take what is theirs.
    function takeEverythingOut() external {
        _wait(uint256(terms.windows.closesAt) + 10_000);
        vm.roll(block.number + 300);
        uint256 round = federation.roundCount();
        for (uint256 i = 0; i <= 2 * AGGREGATORS && !federation.isOver(); ++i) {
            _settleAll();
            if (federation.isOver()) break;
            if (_end(round)) break;
            _call(sponsor, abi.encodeCall(IFederation.replaceAggregator, ()));
            _wait(block.timestamp + 1000);
        }
        vm.assertTrue(federation.isOver(), "over");
        _settleAll();
        vm.assertEq(federation.deposits(), 0, "deposits left");
        for (uint256 i = 0; i < PARTICIPANTS; ++i) {
            for (uint256 r = 1; r <= round; ++r) {
                _call(sponsor, abi.encodeCall(IFederation.penalize, (r, accounts[i])));
            }
            _call(accounts[i], abi.encodeCall(IFederation.leave, ()));
        }
        vm.warp(block.timestamp + terms.windows.unbondingSeconds);
        for (uint256 i = 0; i < AGGREGATORS; ++i) {
            _call(accounts[PARTICIPANTS + i], abi.encodeCall(IFederation.unbond, ()));
        }
        _call(sponsor, abi.encodeCall(IFederation.refund, ()));
        for (uint256 i = 0; i < accounts.length; ++i) {
            _call(accounts[i], abi.encodeCall(IFederation.withdraw, ()));
            vm.assertEq(federation.creditOf(accounts[i]), 0, "credit left");
            vm.assertEq(federation.getParticipant(accounts[i]).stake, 0, "stake left");
        }
        vm.assertEq(federation.escrow(), 0, "escrow left");
        vm.assertEq(token.balanceOf(address(federation)), federation.burned(), "what is left is burned");
        vm.assertEq(tokensOut + federation.burned(), tokensIn, "out and in");
    }

    /// @dev Whether the round could be ended.
    function _end(uint256 round) internal virtual returns (bool) {
        return
            _finalize(sponsor, round, _proposed[round]) || _call(sponsor, abi.encodeCall(IFederation.abandon, (round)));
    }

    // --------------------------------------------------------------- the sums

    function credited() public view returns (uint256 sum) {
        for (uint256 i = 0; i < accounts.length; ++i) {
            sum += federation.creditOf(accounts[i]);
        }
    }

    function staked() public view returns (uint256 sum) {
        for (uint256 i = 0; i < accounts.length; ++i) {
            sum += federation.getParticipant(accounts[i]).stake;
        }
    }

    function bondedAggregators() public view returns (uint256 count) {
        for (uint256 i = 0; i < AGGREGATORS; ++i) {
            if (federation.aggregatorState(accounts[PARTICIPANTS + i]) == IFederation.AggregatorState.Bonded) {
                count += 1;
            }
        }
    }

    function deposited() public view returns (uint256 sum) {
        for (uint256 i = 0; i < requested.length; ++i) {
            if (_isOpen(requested[i])) sum += terms.money.availabilityDeposit;
        }
    }

    /// @dev Requests about the standing proposal of a round that wait for an answer.
    function openRequests(uint256 round) public view returns (uint256 count) {
        for (uint256 i = 0; i < requested.length; ++i) {
            IFederation.LeafRequest memory request = federation.leafRequest(requested[i], 0);
            if (request.round == round && _isStandingOnce(request)) count += 1;
        }
    }

    function activeParticipants() public view returns (uint256 count) {
        for (uint256 i = 0; i < accounts.length; ++i) {
            if (federation.getParticipant(accounts[i]).active) count += 1;
        }
    }

    // ---------------------------------------------------------------- helpers

    function _participant(uint256 seed) internal view returns (address) {
        return accounts[seed % PARTICIPANTS];
    }

    function _aggregator(uint256 seed) internal view returns (address) {
        return accounts[PARTICIPANTS + seed % AGGREGATORS];
    }

    function _anyone(uint256 seed) internal view returns (address) {
        return accounts[seed % accounts.length];
    }

    function _digest(bytes memory leaf) internal pure returns (bytes32) {
        return sha256(bytes.concat(hex"00", leaf));
    }

    /// @dev The only leaf of a participant's update.
    function _update(uint256 round, address account) internal pure returns (bytes memory leaf) {
        for (uint256 i = 0; i < 8; ++i) {
            leaf = bytes.concat(leaf, keccak256(abi.encode("update", round, account, i)));
        }
    }

    /// @dev Its root serves as manifest and salt too.
    function _root(uint256 round, address account) internal pure returns (bytes32) {
        return _digest(_update(round, account));
    }

    function _opening(uint256 round, address account) internal view virtual returns (IFederation.Opening memory) {
        bytes32 root = _root(round, account);
        return IFederation.Opening({root: root, manifest: root, examples: EXAMPLES});
    }

    function _leaf(bytes memory values) internal pure returns (IFederation.Leaf memory leaf) {
        leaf.values = values;
    }

    function _shift(uint256 round) internal view returns (uint256) {
        uint256 bits = terms.identity.gridBits + (round - 1) / terms.identity.gridEvery;
        return bits < 24 ? 24 - bits : 0;
    }

    function _averageOf(uint256 round, IFederation.Verdict[] memory verdicts)
        internal
        view
        virtual
        returns (bytes memory)
    {
        uint256 accepted = _countAccepted(verdicts);
        bytes[] memory updates = new bytes[](accepted);
        uint256[] memory weights = new uint256[](accepted);
        uint256 found = 0;
        for (uint256 i = 0; i < verdicts.length; ++i) {
            if (verdicts[i].weight == 0) continue;
            updates[found] = _update(round, verdicts[i].participant);
            weights[found++] = verdicts[i].weight;
        }
        return accepted == 0 ? _currentModel : Trees.moved(_currentModel, updates, weights, _shift(round));
    }

    function _countAccepted(IFederation.Verdict[] memory verdicts) internal pure returns (uint256 accepted) {
        for (uint256 i = 0; i < verdicts.length; ++i) {
            if (verdicts[i].weight != 0) accepted += 1;
        }
    }

    function _isOpen(bytes32 root) internal view returns (bool) {
        return federation.leafRequest(root, 0).state == IFederation.RequestState.Open;
    }

    function _isStanding(IFederation.LeafRequest memory request) internal view returns (bool) {
        return block.timestamp < request.deadline && _isStandingOnce(request);
    }

    /// @dev Overdue ones stand too, until they are settled.
    function _isStandingOnce(IFederation.LeafRequest memory request) internal view virtual returns (bool) {
        IFederation.Round memory r = federation.getRound(request.round);
        return request.state == IFederation.RequestState.Open && r.stage == IFederation.Stage.Proposed
            && r.proposals == request.proposal;
    }

    function _join(address account, uint256 choice) internal {
        uint40 expiry = uint40(block.timestamp + choice % 3);
        if (choice % 16 == 4) expiry = uint40(block.timestamp - 1);
        address invited = choice % 16 == 8 ? _anyone(choice >> 4) : account;
        uint256 key = choice % 16 == 12 ? SPONSOR_KEY + 1 : SPONSOR_KEY;
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("Commonweight"),
                keccak256("2"),
                block.chainid,
                address(federation)
            )
        );
        bytes32 invitation =
            keccak256(abi.encode(keccak256("Invitation(address participant,uint40 expiry)"), invited, expiry));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, keccak256(abi.encodePacked(hex"1901", domain, invitation)));
        bool hasJoined = _call(account, abi.encodeCall(IFederation.join, (expiry, abi.encodePacked(r, s, v))));
        bool isInvited = choice % 16 != 4 && choice % 16 != 12 && invited == account;
        vm.assertTrue(isInvited || !hasJoined, "joined without an invitation");
    }

    function _request(address account, bytes32 root, bytes memory payload) internal returns (bool) {
        IFederation.LeafRequest memory old = federation.leafRequest(root, 0);
        uint256 held = federation.deposits();
        _owed = old.challenger;
        if (!_call(account, payload)) return false;
        vm.assertTrue(old.state != IFederation.RequestState.Posted, "public for ever");
        bool isRepeated = old.state == IFederation.RequestState.Open;
        vm.assertEq(federation.deposits(), held + (isRepeated ? 0 : terms.money.availabilityDeposit), "held");
        vm.assertLe(
            federation.leafRequest(root, 0).deadline + terms.windows.responseSeconds,
            federation.getRound(federation.roundCount()).nextDeadline,
            "time for a dispute"
        );
        if (!_wasRequested[root]) requested.push(root);
        _wasRequested[root] = true;
        return true;
    }

    function _post(address account, bytes32 root) internal {
        uint256 credit = federation.creditOf(account);
        IFederation.LeafRequest memory request = federation.leafRequest(root, 0);
        IFederation.LeafAnswer[] memory answers = new IFederation.LeafAnswer[](1);
        answers[0] = IFederation.LeafAnswer({root: root, index: 0, leaf: _leaf(_leaves[root])});
        if (!_call(account, abi.encodeCall(IFederation.postLeaves, (answers)))) return;
        if (request.state == IFederation.RequestState.Posted) {
            vm.assertEq(federation.creditOf(account), credit, "passed over");
            return;
        }
        vm.assertTrue(_leaves[root].length != 0 && block.timestamp < request.deadline, "posted");
        vm.assertEq(federation.creditOf(account), credit + terms.money.availabilityDeposit, "deposit");
        vm.assertEq(uint8(federation.leafRequest(root, 0).state), uint8(IFederation.RequestState.Posted), "public");
    }

    /// @dev Overdue and standing costs the bond, void gives the deposit back, and anything else is refused.
    function _settle(address account, bytes32 root) internal {
        IFederation.LeafRequest memory request = federation.leafRequest(root, 0);
        bool isStanding = _isStandingOnce(request);
        bool isDue =
            request.state == IFederation.RequestState.Open && (!isStanding || block.timestamp >= request.deadline);
        uint256 credit = federation.creditOf(request.challenger);
        address lead = federation.currentAggregator();
        _owed = request.challenger;
        bool isSettled = _call(account, abi.encodeCall(IFederation.settleRequest, (root, 0)));
        vm.assertEq(isSettled, isDue, "settled");
        if (!isSettled) return;
        uint256 due = terms.money.availabilityDeposit + (isStanding ? terms.money.aggregatorBond / 2 : 0);
        vm.assertEq(federation.creditOf(request.challenger), credit + due, "deposit and reward");
        if (!isStanding) return;
        bool isSlashed = federation.aggregatorState(lead) == IFederation.AggregatorState.Slashed;
        vm.assertTrue(isSlashed, "slashed");
        delete _proposed[request.round];
    }

    function _settleAll() internal {
        for (uint256 i = 0; i < requested.length; ++i) {
            _settle(sponsor, requested[i]);
        }
    }

    /// @dev Half the bond goes to whoever showed the fault, the rest is burned, and the escrow does not move.
    function _refute(address challenger, bytes memory payload) internal returns (bool) {
        uint256 round = federation.roundCount();
        uint256 bond_ = terms.money.aggregatorBond;
        uint256 credit = federation.creditOf(challenger);
        (uint256 escrow, uint256 burned) = (federation.escrow(), federation.burned());
        if (!_call(challenger, payload)) return false;
        vm.assertEq(federation.creditOf(challenger), credit + bond_ / 2, "reward");
        vm.assertEq(federation.burned(), burned + bond_ - bond_ / 2, "burned");
        vm.assertEq(federation.escrow(), escrow, "escrow");
        vm.assertEq(federation.getRound(round).modelRoot, 0);
        delete _proposed[round];
        return true;
    }

    function _commit(address account) internal virtual returns (bool) {
        uint256 round = federation.roundCount();
        bytes32 root = _root(round, account);
        bytes32 commitment =
            keccak256(abi.encode(address(federation), round, account, root, root, uint256(EXAMPLES), root));
        return _call(account, abi.encodeCall(IFederation.commit, (round, commitment)));
    }

    function _reveal(address account) internal virtual returns (bool) {
        uint256 round = federation.roundCount();
        bytes32 root = _root(round, account);
        _leaves[root] = _update(round, account);
        return _call(account, abi.encodeCall(IFederation.reveal, (round, root, root, EXAMPLES, root)));
    }

    /// @dev One aggregator is honest; the others average as they like, and withhold some models.
    function _propose(address aggregator, uint256 choice) internal returns (bool) {
        uint256 round = federation.roundCount();
        bool isHonest = aggregator == accounts[HONEST];
        IFederation.Verdict[] memory verdicts = _judge(round, choice, isHonest);
        (bytes32 root, bytes32 manifest) = federation.currentModel();
        bytes memory model = _currentModel;
        if (_countAccepted(verdicts) != 0) {
            model = _averageOf(round, verdicts);
            if (!isHonest && choice % 3 != 0) model = _bend(model, choice);
            root = _digest(model);
        }
        if (!_call(aggregator, abi.encodeCall(IFederation.propose, (round, root, manifest, verdicts)))) return false;
        (_model[round], _before[round]) = (model, _currentModel);
        if (isHonest || choice % 5 != 0) _leaves[root] = model;
        delete _proposed[round];
        for (uint256 i = 0; i < verdicts.length; ++i) {
            _proposed[round].push(verdicts[i]);
        }
        return true;
    }

    function _bend(bytes memory model, uint256 choice) internal pure returns (bytes memory) {
        int256 value = Trees.value(model, choice % 256);
        int256 by = choice % 2 == 0 ? int256(1) : int256(10_000_000);
        Trees.put(model, choice % 256, value > 0 ? value - by : value + by);
        return model;
    }

    /// @dev A verdict on every reveal: as it must be, or some rejected and some weights by chance.
    function _judge(uint256 round, uint256 choice, bool isHonest)
        internal
        view
        virtual
        returns (IFederation.Verdict[] memory verdicts)
    {
        verdicts = new IFederation.Verdict[](federation.getRound(round).revealed);
        uint256 found = 0;
        for (uint256 i = 0; i < PARTICIPANTS; ++i) {
            IFederation.Submission memory submission = federation.getSubmission(round, accounts[i]);
            if (submission.state != IFederation.SubmissionState.Revealed) continue;
            uint256 chance = uint256(keccak256(abi.encode(choice, i)));
            IFederation.Verdict memory verdict =
                IFederation.Verdict(accounts[i], submission.digest, terms.seats.weightCap, 10_000, 0);
            if (!isHonest && chance % 4 == 0) {
                (verdict.weight, verdict.score, verdict.reason) = (0, 0, uint8(8 + (chance >> 8) % 3));
            } else if (!isHonest && chance % 4 == 1) {
                verdict.weight = uint32(1 + chance % terms.seats.weightCap);
            }
            verdicts[found++] = verdict;
        }
    }

    /// @dev Settles, and checks each account's gain against the posted price worked out here.
    function _finalize(address caller, uint256 round, IFederation.Verdict[] memory verdicts) internal returns (bool) {
        IFederation.Status status = federation.status(round);
        address lead = federation.currentAggregator();
        uint256[] memory credits = _credits();
        if (!_call(caller, abi.encodeCall(IFederation.finalize, (round, verdicts)))) return false;
        vm.assertEq(uint8(status), uint8(IFederation.Status.Settleable), "settled too early");
        uint256 accepted = 0;
        for (uint256 j = 0; j < verdicts.length; ++j) {
            accepted += verdicts[j].weight;
        }
        uint256 revealed = verdicts.length * terms.seats.weightCap;
        uint256 fee = accepted == 0 ? 0 : uint256(terms.money.aggregatorFee) * accepted / revealed;
        for (uint256 i = 0; i < accounts.length; ++i) {
            uint256 due = accounts[i] == lead ? fee : 0;
            for (uint256 j = 0; j < verdicts.length; ++j) {
                if (verdicts[j].participant != accounts[i]) continue;
                due += uint256(terms.money.updateReward) * verdicts[j].weight * verdicts[j].score
                / (uint256(terms.seats.weightCap) * 10_000);
            }
            uint256 gained = federation.creditOf(accounts[i]) - credits[i];
            vm.assertEq(gained, due, "posted price");
            if (gained == 0) continue;
            vm.assertFalse(wasPaid[round][accounts[i]], "paid twice");
            wasPaid[round][accounts[i]] = true;
        }
        _currentModel = _model[round];
        return true;
    }

    function _credits() internal view returns (uint256[] memory credits) {
        credits = new uint256[](accounts.length);
        for (uint256 i = 0; i < accounts.length; ++i) {
            credits[i] = federation.creditOf(accounts[i]);
        }
    }

    /// @dev One call; counts tokens and checks what no call may do, and what only some may.
    function _call(address sender, bytes memory payload) internal returns (bool succeeded) {
        uint256 held = token.balanceOf(address(federation));
        uint256[] memory credits = _credits();
        bytes memory answer;
        vm.prank(sender);
        (succeeded, answer) = address(federation).call(payload);
        bytes4 selector = bytes4(payload);
        if (!succeeded) {
            vm.assertTrue(bytes4(answer) != PANIC, "panic");
            return false;
        }
        done[selector] += 1;
        uint256 holds = token.balanceOf(address(federation));
        if (holds > held) tokensIn += holds - held;
        else tokensOut += held - holds;
        _watchCredits(credits, sender, selector);
        _watchStatuses(selector);
        _watchTheHonest();
    }

    /// @dev Nobody honest loses anything.
    function _watchTheHonest() internal view {
        vm.assertTrue(
            federation.aggregatorState(accounts[HONEST]) != IFederation.AggregatorState.Slashed, "honest, slashed"
        );
        uint256 stake = federation.getParticipant(accounts[0]).stake;
        vm.assertTrue(stake == 0 || stake == terms.money.participantStake, "honest, penalized");
    }

    /// @dev Credit grows for whom a call pays, and shrinks by its owner's withdrawal only.
    function _watchCredits(uint256[] memory credits, address sender, bytes4 selector) internal view {
        for (uint256 i = 0; i < accounts.length; ++i) {
            uint256 credit = federation.creditOf(accounts[i]);
            if (credit > credits[i]) {
                bool mayGrow = selector == IFederation.finalize.selector || selector == IFederation.voidRound.selector
                    || (_isChallenge(selector) && accounts[i] == sender)
                    || (_isRequest(selector) && accounts[i] == _owed)
                    || (selector == IFederation.postLeaves.selector && accounts[i] == sender)
                    || (selector == IFederation.unbond.selector && accounts[i] == sender)
                    || (selector == IFederation.refund.selector && accounts[i] == sponsor);
                vm.assertTrue(mayGrow, "credit from nowhere");
            } else if (credit < credits[i]) {
                bool isWithdrawal =
                    selector == IFederation.withdraw.selector || selector == IFederation.withdrawTo.selector;
                vm.assertTrue(isWithdrawal && accounts[i] == sender && credit == 0, "credit lost");
            }
        }
    }

    /// @dev A status never moves backwards; only a standby gets the proposal phase again, of a round that expired or
    ///      whose proposal was refuted, or that of the seal.
    function _watchStatuses(bytes4 selector) internal {
        for (uint256 round = 1; round <= federation.roundCount(); ++round) {
            IFederation.Status before = lastStatus[round];
            IFederation.Status now_ = federation.status(round);
            bool isReplaced = selector == IFederation.replaceAggregator.selector && before == IFederation.Status.Expired;
            bool mayRefute = _isChallenge(selector) || selector == IFederation.settleRequest.selector;
            bool isRefuted = mayRefute && before == IFederation.Status.Challenge;
            bool isRetry = (now_ == IFederation.Status.Propose && (isReplaced || isRefuted))
                || (now_ == IFederation.Status.Seal && isReplaced);
            bool hasEnded = before == IFederation.Status.Finalized || before == IFederation.Status.Abandoned;
            bool isForwards = hasEnded ? now_ == before : _rank(now_) >= _rank(before);
            vm.assertTrue(isRetry || isForwards, "status moved backwards");
            lastStatus[round] = now_;
        }
    }

    /// @dev Unseeded follows Seed, though its number is the last.
    function _rank(IFederation.Status status) internal pure virtual returns (uint256) {
        return status == IFederation.Status.Unseeded ? 3 : 2 * uint256(status);
    }

    function _isChallenge(bytes4 selector) internal pure virtual returns (bool) {
        return selector == IFederation.challengeAverage.selector || selector == IFederation.challengeMove.selector
            || selector == IFederation.challengeVerdict.selector || selector == IFederation.challengeDuplicate.selector
            || selector == IFederation.challengeOriginal.selector;
    }

    function _isRequest(bytes4 selector) internal pure returns (bool) {
        return selector == IFederation.requestModelLeaf.selector || selector == IFederation.requestUpdateLeaf.selector
            || selector == IFederation.settleRequest.selector;
    }
}
