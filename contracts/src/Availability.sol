// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Founding} from "./Founding.sol";
import {IFederation} from "./IFederation.sol";
import {Lead} from "./Lead.sol";
import {Tokens} from "./Tokens.sol";
import {Phases} from "./Phases.sol";
import {Proofs} from "./Proofs.sol";
import {State} from "./State.sol";
import {Tree} from "./Tree.sol";

/// @title Leaf requests: what must be posted here because nobody can find it
/// @dev Linked; the federation calls it with its own storage.
library Availability {
    /// @notice See IFederation.requestModelLeaf.
    function requestModelLeaf(State storage state, uint256 round, uint256 leaf) external {
        Phases.requireStatus(state, round, IFederation.Status.Challenge);
        _request(state, round, state.rounds[round].modelRoot, leaf, true);
    }

    /// @notice See IFederation.requestUpdateLeaf.
    function requestUpdateLeaf(
        State storage state,
        uint256 round,
        uint256 leaf,
        uint256 index,
        IFederation.Verdict[] calldata verdicts,
        IFederation.Opening calldata opening
    ) external {
        Proofs.requireChallengeable(state, round, verdicts);
        IFederation.Verdict calldata verdict = Proofs.openVerdict(verdicts, index, opening);
        if (verdict.weight == 0) revert IFederation.UpdateRejected(round, verdict.participant);
        _request(state, round, opening.root, leaf, false);
    }

    /// @notice See IFederation.postLeaves.
    function postLeaves(State storage state, IFederation.LeafAnswer[] calldata answers) external {
        IFederation.Identity memory identity = Founding.identity();
        uint256 deposit = Founding.money().availabilityDeposit;
        uint256 posted = 0;
        for (uint256 i = 0; i < answers.length; ++i) {
            if (_post(state, identity, answers[i])) posted += 1;
        }
        state.deposits -= posted * deposit;
        state.creditOf[msg.sender] += posted * deposit;
    }

    /// @notice See IFederation.settleRequest.
    function settleRequest(State storage state, bytes32 root, uint256 leaf) external {
        IFederation.LeafRequest memory request = state.requests[_key(root, leaf)];
        if (request.state != IFederation.RequestState.Open) revert IFederation.NotRequested(root, leaf);
        bool isStanding = _isStanding(state, request);
        if (isStanding && block.timestamp < request.deadline) {
            revert IFederation.LeafNotLate(block.timestamp, request.deadline);
        }
        _returnDeposit(state, request, root, leaf);
        if (isStanding) Lead.refute(state, request.round, request.challenger);
    }

    /// @notice See IFederation.leafRequest.
    function leafRequest(State storage state, bytes32 root, uint256 leaf)
        external
        view
        returns (IFederation.LeafRequest memory)
    {
        return state.requests[_key(root, leaf)];
    }

    /// @dev Takes the deposit, opens the request and counts it. A void request of the same leaf is settled on the way.
    function _request(State storage state, uint256 round, bytes32 root, uint256 leaf, bool isModel) private {
        Proofs.requireIndex(Founding.identity(), leaf);
        IFederation.Round storage r = state.rounds[round];
        uint40 deadline = _deadline(r.nextDeadline);
        _makeWay(state, root, leaf, isModel);
        state.requests[_key(root, leaf)] = IFederation.LeafRequest({
            challenger: msg.sender,
            deadline: deadline,
            round: uint32(round),
            proposal: r.proposals,
            state: IFederation.RequestState.Open,
            isModel: isModel
        });
        r.openRequests += 1;
        IFederation.Money memory money = Founding.money();
        state.deposits += money.availabilityDeposit;
        emit IFederation.LeafRequested(round, msg.sender, root, leaf, isModel, deadline);
        Tokens.pull(money.token, money.availabilityDeposit);
    }

    /// @dev When a leaf requested now must be posted. Time for the answer, and for a dispute about it, must be left.
    function _deadline(uint40 challengeDeadline) private view returns (uint40) {
        IFederation.Windows memory windows = Founding.windows();
        if (windows.responseSeconds == 0) revert IFederation.AvailabilityOff();
        uint256 latest = challengeDeadline - 2 * uint256(windows.responseSeconds);
        if (block.timestamp > latest) revert IFederation.TooLateToRequest(block.timestamp, latest);
        return uint40(block.timestamp) + windows.responseSeconds;
    }

    /// @dev Reverts if the leaf is public or waited for. An update's leaf does not stand for a model's: who proposes an
    ///      update's root as the model's would have posted leaves that nobody can dispute.
    function _makeWay(State storage state, bytes32 root, uint256 leaf, bool isModel) private {
        IFederation.LeafRequest memory old = state.requests[_key(root, leaf)];
        if (old.state == IFederation.RequestState.Posted && old.isModel == isModel) {
            revert IFederation.LeafIsPublic(root, leaf);
        }
        if (_isStanding(state, old)) revert IFederation.AlreadyRequested(root, leaf);
        if (old.state == IFederation.RequestState.Open) _returnDeposit(state, old, root, leaf);
    }

    /// @dev Returns false, and does nothing, if the leaf was posted already.
    function _post(State storage state, IFederation.Identity memory identity, IFederation.LeafAnswer calldata answer)
        private
        returns (bool)
    {
        bytes32 key = _key(answer.root, answer.index);
        IFederation.LeafRequest memory request = state.requests[key];
        if (request.state == IFederation.RequestState.Posted) return false;
        if (!_isStanding(state, request)) revert IFederation.NotRequested(answer.root, answer.index);
        if (block.timestamp >= request.deadline) {
            revert IFederation.TooLateToPost(block.timestamp, request.deadline);
        }
        Proofs.requireLeaf(identity, answer.root, answer.index, answer.leaf, _leafBytes(request.isModel));
        if (!Tree.isPadded(identity.leafCount, answer.index, answer.leaf.proof)) {
            revert IFederation.WrongPadding(answer.root);
        }
        state.requests[key].state = IFederation.RequestState.Posted;
        state.rounds[request.round].openRequests -= 1;
        emit IFederation.LeafPosted(
            request.round, msg.sender, answer.root, answer.index, answer.leaf.values, answer.leaf.proof
        );
        return true;
    }

    /// @dev Forgets a request that was not answered.
    function _returnDeposit(State storage state, IFederation.LeafRequest memory request, bytes32 root, uint256 leaf)
        private
    {
        uint256 deposit = Founding.money().availabilityDeposit;
        delete state.requests[_key(root, leaf)];
        state.deposits -= deposit;
        state.creditOf[request.challenger] += deposit;
        emit IFederation.DepositReturned(request.round, request.challenger, root, leaf);
    }

    /// @dev Whether a request is open and the proposal it is about neither settled nor refuted, nor the round void: its
    ///      aggregator keeps the bond.
    function _isStanding(State storage state, IFederation.LeafRequest memory request) private view returns (bool) {
        IFederation.Round storage r = state.rounds[request.round];
        return request.state == IFederation.RequestState.Open && r.stage == IFederation.Stage.Proposed
            && r.proposals == request.proposal && !Phases.isObjected(state, request.round);
    }

    function _leafBytes(bool isModel) private view returns (uint256) {
        return isModel || Founding.isMasked() ? Proofs.MODEL_LEAF_BYTES : Proofs.UPDATE_LEAF_BYTES;
    }

    function _key(bytes32 root, uint256 leaf) private pure returns (bytes32) {
        return keccak256(abi.encode(root, leaf));
    }
}
