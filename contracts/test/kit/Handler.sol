// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {Federation} from "../../src/Federation.sol";
import {IFederation} from "../../src/IFederation.sol";
import {Test} from "./Test.sol";

/// @dev Plays every role in whatever order the fuzzer likes. Calls that the contract refuses are no failure;
///      what a call that went through did to the money and to the rounds is checked at once.
contract Handler is Test {
    uint256 private constant PARTICIPANTS = 5;
    uint256 private constant AGGREGATORS = 3;
    bytes4 private constant PANIC = 0x4e487b71;

    Federation public immutable federation;
    IERC20 public immutable token;
    address public immutable sponsor;
    address[] public accounts; // participants, then aggregators, then the sponsor

    uint256 public tokensIn;
    uint256 public tokensOut;
    mapping(bytes4 selector => uint256 times) public done;
    mapping(uint256 round => IFederation.Status) public lastStatus;
    mapping(uint256 round => mapping(address account => bool)) public wasPaid;
    mapping(uint256 round => IFederation.Verdict[]) private _proposed;

    bytes32[] public demanded; // roots of which leaf 0, the only one, was ever demanded
    mapping(bytes32 root => bytes32 word) private _words; // that leaf, where somebody knows it
    mapping(bytes32 root => bool) private _wasDemanded;
    address private _owed; // whose deposit the call under way may give back

    constructor(Federation federation_, IERC20 token_) {
        federation = federation_;
        token = token_;
        sponsor = federation_.sponsor();
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
        _call(sponsor, abi.encodeCall(Federation.fund, (_bound(amount, 0, 5000))));
    }

    function refund(uint256 caller) external {
        _call(_anyone(caller), abi.encodeCall(Federation.refund, ()));
    }

    function join(uint256 who) external {
        _call(_participant(who), abi.encodeCall(Federation.join, ()));
    }

    function leave(uint256 who) external {
        _call(_participant(who), abi.encodeCall(Federation.leave, ()));
    }

    function withdraw(uint256 who) external {
        _call(_anyone(who), abi.encodeCall(Federation.withdraw, ()));
    }

    function commit(uint256 who) external {
        _commit(_participant(who));
    }

    function reveal(uint256 who) external {
        _reveal(_participant(who));
    }

    function penalize(uint256 who, uint256 round) external {
        round = _bound(round, 0, federation.roundCount());
        _call(sponsor, abi.encodeCall(Federation.penalize, (round, _participant(who))));
    }

    function bond(uint256 who) external {
        _call(_aggregator(who), abi.encodeCall(Federation.bond, ()));
    }

    function unbond(uint256 who) external {
        _call(_aggregator(who), abi.encodeCall(Federation.unbond, ()));
    }

    function openRound(uint256 who) external {
        _call(_aggregator(who), abi.encodeCall(Federation.openRound, ()));
    }

    function propose(uint256 who, uint256 choice) external {
        _propose(_aggregator(who), choice);
    }

    function finalize(uint256 caller, bool cheat) external {
        uint256 round = federation.roundCount();
        IFederation.Verdict[] memory verdicts = _proposed[round];
        if (cheat && verdicts.length != 0) {
            verdicts[0].weight += 1;
            vm.assertTrue(
                !_call(_anyone(caller), abi.encodeCall(Federation.finalize, (round, verdicts))), "bent verdicts settled"
            );
        } else {
            _finalize(_anyone(caller), round, verdicts);
        }
    }

    function abandon(uint256 caller) external {
        _call(_anyone(caller), abi.encodeCall(Federation.abandon, (federation.roundCount())));
    }

    function replaceAggregator(uint256 caller) external {
        _call(_anyone(caller), abi.encodeCall(Federation.replaceAggregator, ()));
    }

    /// @dev Leaves here are one word, so that trees are one leaf: its digest is the root.
    function challengeAverage(uint256 who) external {
        uint256 round = federation.roundCount();
        IFederation.Verdict[] memory verdicts = _proposed[round];
        IFederation.OpenedUpdate[] memory updates = new IFederation.OpenedUpdate[](_countAccepted(verdicts));
        uint256 found = 0;
        for (uint256 i = 0; i < verdicts.length; ++i) {
            if (verdicts[i].reason != 0) continue;
            bytes32 root = _root(round, verdicts[i].participant);
            updates[found++] = IFederation.OpenedUpdate(root, root, 7, _leaf(_word(round, verdicts[i].participant)));
        }
        IFederation.Leaf memory model = _leaf(keccak256(abi.encode("model", round)));
        _refute(_anyone(who), abi.encodeCall(Federation.challengeAverage, (round, 0, verdicts, updates, model)));
    }

    function challengeVerdict(uint256 who, uint256 index) external {
        uint256 round = federation.roundCount();
        IFederation.Verdict[] memory verdicts = _proposed[round];
        if (verdicts.length == 0) return;
        index = index % verdicts.length;
        bytes32 root = _root(round, verdicts[index].participant);
        bool isWrong = verdicts[index].reason == 0 && (verdicts[index].weight != 7 || verdicts[index].score != 10_000);
        bytes memory payload = abi.encodeCall(Federation.challengeVerdict, (round, index, verdicts, root, root, 7));
        if (_refute(_anyone(who), payload)) vm.assertTrue(isWrong, "a right verdict was refuted");
    }

    function challengeModel(uint256 who) public {
        uint256 round = federation.roundCount();
        bytes32 root = federation.getRound(round).modelRoot;
        _demand(_anyone(who), root, abi.encodeCall(Federation.challengeModelAvailability, (round, 0)));
    }

    function challengeUpdate(uint256 who, uint256 index) public {
        uint256 round = federation.roundCount();
        IFederation.Verdict[] memory verdicts = _proposed[round];
        if (verdicts.length == 0) return;
        index = index % verdicts.length;
        bytes32 root = _root(round, verdicts[index].participant);
        bytes memory payload =
            abi.encodeCall(Federation.challengeUpdateAvailability, (round, 0, index, verdicts, root, root, 7));
        if (_demand(_anyone(who), root, payload)) vm.assertEq(verdicts[index].reason, 0, "of an accepted update");
    }

    /// @dev Bytes that nobody knows are made up, and refused.
    function postLeaf(uint256 who, uint256 choice) public {
        if (demanded.length == 0) return;
        bytes32 root = demanded[choice % demanded.length];
        address account = _anyone(who);
        uint256 credit = federation.creditOf(account);
        IFederation.AvailabilityRequest memory request = federation.availabilityRequest(root, 0);
        bool isPosted = _call(account, abi.encodeCall(Federation.postLeaf, (root, 0, _leaf(_words[root]))));
        if (!isPosted) return;
        vm.assertTrue(_words[root] != 0 && block.timestamp < request.deadline, "posted");
        vm.assertEq(federation.creditOf(account), credit + federation.terms().availabilityDeposit, "deposit");
        vm.assertEq(
            uint8(federation.availabilityRequest(root, 0).state), uint8(IFederation.RequestState.Posted), "public"
        );
    }

    function settleAvailability(uint256 who, uint256 choice) external {
        if (demanded.length != 0) _settle(_anyone(who), demanded[choice % demanded.length]);
    }

    function wait_(uint256 time) external {
        vm.warp(block.timestamp + _bound(time, 1, 700));
        _watchStatuses(0);
    }

    /// @dev The step that an honest world would take next, so that runs reach settlement.
    function goOn(uint256 choice) external {
        uint256 round = federation.roundCount();
        IFederation.Status status = federation.status(round);
        address lead = federation.currentAggregator();
        if (status == IFederation.Status.Commit) {
            _commit(_participant(choice));
        } else if (status == IFederation.Status.Reveal) {
            _reveal(_participant(choice));
        } else if (status == IFederation.Status.Propose) {
            _propose(lead, choice);
        } else if (status == IFederation.Status.Challenge) {
            _goOnChallenging(choice);
        } else if (status == IFederation.Status.Settleable) {
            _finalize(lead, round, _proposed[round]);
        } else if (federation.activeCount() < 3) {
            _call(_participant(choice), abi.encodeCall(Federation.join, ()));
        } else if (federation.aggregatorState(lead) == IFederation.AggregatorState.Listed) {
            _call(lead, abi.encodeCall(Federation.bond, ()));
        } else if (!_call(lead, abi.encodeCall(Federation.openRound, ()))) {
            _call(sponsor, abi.encodeCall(Federation.fund, (2000)));
        }
    }

    /// @dev Two demands of five are answered, some of the others keep the round from being settled.
    function _goOnChallenging(uint256 choice) private {
        uint256 deadline = federation.getRound(federation.roundCount()).challengeDeadline;
        if (block.timestamp >= deadline) return _settleAll();
        if (choice % 8 == 0) {
            challengeModel(choice >> 3);
        } else if (choice % 8 == 1) {
            challengeUpdate(choice >> 3, choice >> 8);
        } else if (choice % 8 <= 4 && demanded.length != 0) {
            postLeaf(choice >> 3, demanded.length - 1);
        } else {
            vm.warp(deadline);
            _watchStatuses(0);
        }
    }

    // ---------------------------------------------------------------- the end

    /// @dev After the last deadline: ends what is open, and lets everybody take what is theirs.
    function takeEverythingOut() external {
        vm.warp(uint256(federation.terms().closesAt) + 10_000);
        uint256 round = federation.roundCount();
        for (uint256 i = 0; i <= AGGREGATORS && !federation.isOver(); ++i) {
            _settleAll();
            if (federation.isOver()) break;
            if (_finalize(sponsor, round, _proposed[round])) break;
            if (_call(sponsor, abi.encodeCall(Federation.abandon, (round)))) break;
            _call(sponsor, abi.encodeCall(Federation.replaceAggregator, ()));
            vm.warp(federation.getRound(round).proposeDeadline);
        }
        vm.assertTrue(federation.isOver(), "over");
        _settleAll();
        vm.assertEq(federation.deposits(), 0, "deposits left");
        for (uint256 i = 0; i < PARTICIPANTS; ++i) {
            for (uint256 r = 1; r <= round; ++r) {
                _call(sponsor, abi.encodeCall(Federation.penalize, (r, accounts[i])));
            }
            _call(accounts[i], abi.encodeCall(Federation.leave, ()));
        }
        vm.warp(block.timestamp + federation.terms().unbondingSeconds);
        for (uint256 i = 0; i < AGGREGATORS; ++i) {
            _call(accounts[PARTICIPANTS + i], abi.encodeCall(Federation.unbond, ()));
        }
        _call(sponsor, abi.encodeCall(Federation.refund, ()));
        for (uint256 i = 0; i < accounts.length; ++i) {
            _call(accounts[i], abi.encodeCall(Federation.withdraw, ()));
            vm.assertEq(federation.creditOf(accounts[i]), 0, "credit left");
            vm.assertEq(federation.getParticipant(accounts[i]).stake, 0, "stake left");
        }
        vm.assertEq(federation.escrow(), 0, "escrow left");
        vm.assertEq(token.balanceOf(address(federation)), 0, "tokens left");
        vm.assertEq(tokensOut, tokensIn, "out and in");
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

    function bonded() public view returns (uint256 sum) {
        for (uint256 i = 0; i < accounts.length; ++i) {
            if (federation.aggregatorState(accounts[i]) == IFederation.AggregatorState.Bonded) {
                sum += federation.terms().aggregatorBond;
            }
        }
    }

    function deposited() public view returns (uint256 sum) {
        for (uint256 i = 0; i < demanded.length; ++i) {
            if (_isOpen(demanded[i])) sum += federation.terms().availabilityDeposit;
        }
    }

    /// @dev Demands about the standing proposal of a round that wait for an answer.
    function openRequests(uint256 round) public view returns (uint256 count) {
        IFederation.Round memory facts = federation.getRound(round);
        for (uint256 i = 0; i < demanded.length; ++i) {
            IFederation.AvailabilityRequest memory request = federation.availabilityRequest(demanded[i], 0);
            bool isOfRound = request.round == round && request.proposal == facts.proposals;
            if (_isOpen(demanded[i]) && isOfRound && facts.challengeDeadline != 0) count += 1;
        }
    }

    function activeParticipants() public view returns (uint256 count) {
        for (uint256 i = 0; i < accounts.length; ++i) {
            if (federation.getParticipant(accounts[i]).active) count += 1;
        }
    }

    // ---------------------------------------------------------------- helpers

    function _participant(uint256 seed) private view returns (address) {
        return accounts[seed % PARTICIPANTS];
    }

    function _aggregator(uint256 seed) private view returns (address) {
        return accounts[PARTICIPANTS + seed % AGGREGATORS];
    }

    function _anyone(uint256 seed) private view returns (address) {
        return accounts[seed % accounts.length];
    }

    /// @dev The only leaf of a participant's update.
    function _word(uint256 round, address account) private pure returns (bytes32) {
        return keccak256(abi.encode(round, account));
    }

    /// @dev A root by participant and round; it serves as manifest and salt too.
    function _root(uint256 round, address account) private pure returns (bytes32) {
        return sha256(abi.encodePacked(bytes1(0), _word(round, account)));
    }

    function _leaf(bytes32 word) private pure returns (IFederation.Leaf memory leaf) {
        leaf.values = abi.encodePacked(word);
    }

    function _countAccepted(IFederation.Verdict[] memory verdicts) private pure returns (uint256 accepted) {
        for (uint256 i = 0; i < verdicts.length; ++i) {
            if (verdicts[i].reason == 0) accepted += 1;
        }
    }

    function _isOpen(bytes32 root) private view returns (bool) {
        return federation.availabilityRequest(root, 0).state == IFederation.RequestState.Open;
    }

    function _demand(address account, bytes32 root, bytes memory payload) private returns (bool) {
        IFederation.AvailabilityRequest memory old = federation.availabilityRequest(root, 0);
        uint256 held = federation.deposits();
        _owed = old.challenger;
        if (!_call(account, payload)) return false;
        vm.assertTrue(old.state != IFederation.RequestState.Posted, "public for ever");
        bool isRepeated = old.state == IFederation.RequestState.Open;
        vm.assertEq(federation.deposits(), held + (isRepeated ? 0 : federation.terms().availabilityDeposit), "held");
        vm.assertLe(
            federation.availabilityRequest(root, 0).deadline + federation.terms().responseSeconds,
            federation.getRound(federation.roundCount()).challengeDeadline,
            "time for a dispute"
        );
        if (!_wasDemanded[root]) demanded.push(root);
        _wasDemanded[root] = true;
        return true;
    }

    /// @dev Overdue and standing costs the bond, void gives the deposit back, and anything else is refused.
    function _settle(address account, bytes32 root) private {
        IFederation.AvailabilityRequest memory request = federation.availabilityRequest(root, 0);
        IFederation.Round memory facts = federation.getRound(request.round);
        bool isStanding = _isOpen(root) && facts.outcome == IFederation.Outcome.Open && facts.challengeDeadline != 0
            && facts.proposals == request.proposal;
        uint256 credit = federation.creditOf(request.challenger);
        address lead = federation.currentAggregator();
        _owed = request.challenger;
        bool isSettled = _call(account, abi.encodeCall(Federation.settleAvailability, (root, 0)));
        bool isDue = _isDue(request, isStanding);
        vm.assertEq(isSettled, isDue, "settled");
        if (!isSettled) return;
        IFederation.Terms memory terms = federation.terms();
        uint256 due = terms.availabilityDeposit + (isStanding ? terms.aggregatorBond / 2 : 0);
        vm.assertEq(federation.creditOf(request.challenger), credit + due, "deposit and reward");
        bool isSlashed = federation.aggregatorState(lead) == IFederation.AggregatorState.Slashed;
        if (isStanding) vm.assertTrue(isSlashed, "slashed");
        if (isStanding) delete _proposed[request.round];
    }

    function _isDue(IFederation.AvailabilityRequest memory request, bool isStanding) private view returns (bool) {
        if (request.state != IFederation.RequestState.Open) return false;
        return !isStanding || block.timestamp >= request.deadline;
    }

    function _settleAll() private {
        for (uint256 i = 0; i < demanded.length; ++i) {
            _settle(sponsor, demanded[i]);
        }
    }

    /// @dev Half the bond goes to whoever showed the fault, and nothing else grows.
    function _refute(address challenger, bytes memory payload) private returns (bool) {
        uint256 round = federation.roundCount();
        uint256 bond_ = federation.terms().aggregatorBond;
        uint256 credit = federation.creditOf(challenger);
        uint256 escrow = federation.escrow();
        if (!_call(challenger, payload)) return false;
        vm.assertEq(federation.creditOf(challenger), credit + bond_ / 2, "reward");
        vm.assertEq(federation.escrow(), escrow + bond_ - bond_ / 2, "escrow");
        delete _proposed[round];
        return true;
    }

    function _commit(address account) private {
        uint256 round = federation.roundCount();
        bytes32 root = _root(round, account);
        bytes32 commitment = keccak256(abi.encode(address(federation), round, account, root, root, uint256(7), root));
        _call(account, abi.encodeCall(Federation.commit, (round, commitment)));
    }

    function _reveal(address account) private {
        uint256 round = federation.roundCount();
        bytes32 root = _root(round, account);
        _words[root] = _word(round, account);
        _call(account, abi.encodeCall(Federation.reveal, (round, root, root, 7, root)));
    }

    function _propose(address aggregator, uint256 choice) private {
        uint256 round = federation.roundCount();
        IFederation.Verdict[] memory verdicts = _judge(round, choice);
        (bytes32 root, bytes32 manifest) = federation.currentModel();
        for (uint256 i = 0; i < verdicts.length; ++i) {
            if (verdicts[i].reason != 0) continue;
            bytes32 word = keccak256(abi.encode("model", round));
            root = sha256(abi.encodePacked(bytes1(0), word));
            _words[root] = word;
        }
        if (!_call(aggregator, abi.encodeCall(Federation.propose, (round, root, manifest, verdicts)))) return;
        for (uint256 i = 0; i < verdicts.length; ++i) {
            _proposed[round].push(verdicts[i]);
        }
    }

    /// @dev A verdict on every reveal: some rejected, some as they must be, weights and scores of the others by chance.
    function _judge(uint256 round, uint256 choice) private view returns (IFederation.Verdict[] memory verdicts) {
        verdicts = new IFederation.Verdict[](federation.getRound(round).revealed);
        uint256 found = 0;
        for (uint256 i = 0; i < PARTICIPANTS; ++i) {
            if (federation.getSubmission(round, accounts[i]).state != IFederation.SubmissionState.Revealed) continue;
            uint256 chance = uint256(keccak256(abi.encode(choice, i)));
            verdicts[found++] = chance % 4 == 0
                ? IFederation.Verdict(accounts[i], 0, 0, 8)
                : chance % 4 == 1
                    ? IFederation.Verdict(accounts[i], 7, 10_000, 0)
                    : IFederation.Verdict(accounts[i], uint32(1 + chance % 997), uint16(chance % 10_001), 0);
        }
    }

    /// @dev Settles, and checks each account's gain against the shares worked out here.
    function _finalize(address caller, uint256 round, IFederation.Verdict[] memory verdicts) private returns (bool) {
        IFederation.Status before = federation.status(round);
        address lead = federation.currentAggregator();
        uint256[] memory credits = _credits();
        if (!_call(caller, abi.encodeCall(Federation.finalize, (round, verdicts)))) return false;
        vm.assertEq(uint8(before), uint8(IFederation.Status.Settleable), "settled too early");
        uint256 total = 0;
        for (uint256 i = 0; i < verdicts.length; ++i) {
            total += uint256(verdicts[i].weight) * verdicts[i].score;
        }
        IFederation.Terms memory terms = federation.terms();
        for (uint256 i = 0; i < accounts.length; ++i) {
            uint256 due = accounts[i] == lead && total != 0 ? terms.aggregatorFee : 0;
            for (uint256 j = 0; j < verdicts.length && total != 0; ++j) {
                if (verdicts[j].participant != accounts[i]) continue;
                due += uint256(terms.roundReward) * verdicts[j].weight * verdicts[j].score / total;
            }
            uint256 gained = federation.creditOf(accounts[i]) - credits[i];
            vm.assertEq(gained, due, "share");
            if (gained == 0) continue;
            vm.assertTrue(!wasPaid[round][accounts[i]], "paid twice");
            wasPaid[round][accounts[i]] = true;
        }
        return true;
    }

    function _credits() private view returns (uint256[] memory credits) {
        credits = new uint256[](accounts.length);
        for (uint256 i = 0; i < accounts.length; ++i) {
            credits[i] = federation.creditOf(accounts[i]);
        }
    }

    /// @dev One call; counts tokens and checks what no call may do, and what only some may.
    function _call(address sender, bytes memory payload) private returns (bool succeeded) {
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
    }

    /// @dev Credit grows by settlement, challenge, answer, unbonding and refund only, by a deposit given back too, and shrinks by its owner's withdrawal only.
    function _watchCredits(uint256[] memory credits, address sender, bytes4 selector) private view {
        for (uint256 i = 0; i < accounts.length; ++i) {
            uint256 credit = federation.creditOf(accounts[i]);
            if (credit > credits[i]) {
                bool mayGrow = selector == Federation.finalize.selector
                    || (_isChallenge(selector) && accounts[i] == sender)
                    || (_isAvailability(selector) && accounts[i] == _owed)
                    || (selector == Federation.postLeaf.selector && accounts[i] == sender)
                    || (selector == Federation.unbond.selector && accounts[i] == sender)
                    || (selector == Federation.refund.selector && accounts[i] == sponsor);
                vm.assertTrue(mayGrow, "credit from nowhere");
            } else if (credit < credits[i]) {
                bool mayShrink = selector == Federation.withdraw.selector && accounts[i] == sender && credit == 0;
                vm.assertTrue(mayShrink, "credit lost");
            }
        }
    }

    /// @dev A status never moves backwards; only a standby gets the proposal phase again, of a round that expired or
    ///      whose proposal was refuted.
    function _watchStatuses(bytes4 selector) private {
        for (uint256 round = 1; round <= federation.roundCount(); ++round) {
            IFederation.Status before = lastStatus[round];
            IFederation.Status now_ = federation.status(round);
            bool isReplaced = selector == Federation.replaceAggregator.selector && before == IFederation.Status.Expired;
            bool mayRefute = _isChallenge(selector) || selector == Federation.settleAvailability.selector;
            bool isRefuted = mayRefute && before == IFederation.Status.Challenge;
            bool isRetry = now_ == IFederation.Status.Propose && (isReplaced || isRefuted);
            bool hasEnded = before == IFederation.Status.Finalized || before == IFederation.Status.Abandoned;
            vm.assertTrue(isRetry || (hasEnded ? now_ == before : now_ >= before), "status moved backwards");
            lastStatus[round] = now_;
        }
    }

    function _isChallenge(bytes4 selector) private pure returns (bool) {
        return selector == Federation.challengeAverage.selector || selector == Federation.challengeVerdict.selector;
    }

    function _isAvailability(bytes4 selector) private pure returns (bool) {
        return selector == Federation.challengeModelAvailability.selector
            || selector == Federation.challengeUpdateAvailability.selector
            || selector == Federation.settleAvailability.selector;
    }
}
