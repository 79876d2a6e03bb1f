// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";

import {IFederation} from "../src/IFederation.sol";
import {RequestWorld} from "./kit/RequestWorld.sol";
import {Trees} from "./kit/Trees.sol";

/// @dev requestModelLeaf, requestUpdateLeaf, postLeaves and settleRequest.
contract RequestsTest is RequestWorld {
    // --------------------------------------------------------------- requests

    /// @notice A request takes the deposit, opens a deadline of responseSeconds and is counted in its round.
    function test_ARequestTakesTheDeposit() public {
        uint256 round = _proposedModel(COUNT);
        bytes32 root = _modelRoot(round);
        uint40 deadline = uint40(block.timestamp + 7 + RESPONSE);
        vm.warp(block.timestamp + 7);
        vm.expectEmit(address(federation));
        emit IFederation.LeafRequested(round, challenger, root, 4, true, deadline);
        _requestModel(round, 4);
        IFederation.LeafRequest memory request = federation.leafRequest(root, 4);
        vm.assertEq(request.challenger, challenger);
        vm.assertEq(request.deadline, deadline);
        vm.assertEq(request.round, round);
        vm.assertEq(request.proposal, 1);
        vm.assertTrue(request.isModel, "of the model");
        _assertRequest(root, 4, IFederation.RequestState.Open);
        vm.assertEq(token.balanceOf(challenger), PURSE - DEPOSIT);
        vm.assertEq(federation.deposits(), DEPOSIT);
        _assertOpen(round, 1);
        _assertForgotten(root, 3);
        _assertForgotten(rootOf[0], 4);
    }

    /// @notice Each leaf of the model and of each accepted update is a request of its own, answered in one call.
    function test_EveryLeafIsARequestOfItsOwn() public {
        uint256 round = _proposedModel(COUNT);
        uint40 deadline = uint40(block.timestamp) + RESPONSE;
        for (uint256 leaf = 0; leaf < LEAVES; ++leaf) {
            _requestModel(round, leaf);
            for (uint256 i = 0; i < COUNT; ++i) {
                vm.expectEmit(address(federation));
                emit IFederation.LeafRequested(round, challenger, rootOf[i], leaf, false, deadline);
                _requestUpdate(round, i, leaf);
            }
        }
        uint256 count = LEAVES * (COUNT + 1);
        _assertOpen(round, count);
        vm.assertEq(federation.deposits(), count * DEPOSIT);
        IFederation.LeafAnswer[] memory answers = new IFederation.LeafAnswer[](count);
        for (uint256 leaf = 0; leaf < LEAVES; ++leaf) {
            answers[leaf] = _modelAnswer(leaf);
            for (uint256 i = 0; i < COUNT; ++i) {
                answers[LEAVES * (i + 1) + leaf] = _updateAnswer(i, leaf);
            }
        }
        vm.prank(responder);
        federation.postLeaves(answers);
        _assertOpen(round, 0);
        vm.assertEq(federation.deposits(), 0);
        vm.assertEq(federation.creditOf(responder), count * DEPOSIT);
        _finalize(round, _verdicts(round, COUNT));
    }

    /// @notice A model that stayed can be requested, too.
    function test_AModelThatStayedCanBeRequested() public {
        uint256 round = _revealedWith(COUNT);
        _proposeNothing(round, COUNT, 8);
        bytes32 root = _modelRoot(round);
        _requestModel(round, 0);
        vm.warp(block.timestamp + RESPONSE);
        _settle(root, 0);
        _assertAggregator(aggregators[0], IFederation.AggregatorState.Slashed);
    }

    /// @notice Leaves are requested in the challenge window and at no other time.
    function test_RevertWhen_RequestedOutsideTheWindow() public {
        uint256 round = _revealedWith(COUNT);
        _refuseRequests(round, IFederation.Status.Propose);
        _proposeModel(round, _verdicts(round, COUNT));
        vm.warp(block.timestamp + CHALLENGE);
        _refuseRequests(round, IFederation.Status.Settleable);
        federation.finalize(round, _verdicts(round, COUNT));
        _refuseRequests(round, IFederation.Status.Finalized);
    }

    /// @notice Under terms without responseSeconds nothing can be requested.
    function test_RevertWhen_TheTermsHaveNoResponseTime() public {
        IFederation.Terms memory terms = _terms();
        terms.windows.responseSeconds = 0;
        federation = _deploy(terms);
        uint256 round = _proposedModel(COUNT);
        IFederation.Verdict[] memory verdicts = _verdicts(round, COUNT);
        vm.expectRevert(abi.encodeWithSelector(IFederation.AvailabilityOff.selector));
        _requestModel(round, 0);
        vm.expectRevert(abi.encodeWithSelector(IFederation.AvailabilityOff.selector));
        _requestUpdate(round, 0, 0, verdicts);
    }

    /// @notice There are as many leaves as the terms say.
    function test_RevertWhen_ThereIsNoSuchLeaf() public {
        uint256 round = _proposedModel(COUNT);
        IFederation.Verdict[] memory verdicts = _verdicts(round, COUNT);
        for (uint256 leaf = LEAVES; leaf <= 8; ++leaf) {
            vm.expectRevert(abi.encodeWithSelector(IFederation.LeafOutOfRange.selector, leaf, LEAVES));
            _requestModel(round, leaf);
            vm.expectRevert(abi.encodeWithSelector(IFederation.LeafOutOfRange.selector, leaf, LEAVES));
            _requestUpdate(round, 1, leaf, verdicts);
        }
    }

    /// @notice The last request leaves responseSeconds for the answer and as many for a dispute about it.
    function test_RevertWhen_AnAnswerWouldComeTooLate() public {
        uint256 round = _proposedModel(COUNT);
        IFederation.Verdict[] memory verdicts = _verdicts(round, COUNT);
        uint256 deadline = federation.getRound(round).nextDeadline;
        uint256 latest = deadline - 2 * RESPONSE;
        vm.warp(latest + 1);
        bytes memory tooLate = abi.encodeWithSelector(IFederation.TooLateToRequest.selector, latest + 1, latest);
        vm.expectRevert(tooLate);
        _requestModel(round, 0);
        vm.expectRevert(tooLate);
        _requestUpdate(round, 0, 0, verdicts);
        vm.warp(latest);
        _requestModel(round, 0);
        _requestUpdate(round, 0, 0, verdicts);
        vm.assertEq(federation.leafRequest(_modelRoot(round), 0).deadline + RESPONSE, deadline);
    }

    /// @notice A leaf that is waited for, overdue or not, is not requested again.
    function test_RevertWhen_RequestedTwice() public {
        uint256 round = _proposedModel(COUNT);
        _requestModel(round, 2);
        _requestUpdate(round, 1, 2);
        bytes32 root = _modelRoot(round);
        vm.expectRevert(abi.encodeWithSelector(IFederation.AlreadyRequested.selector, root, 2));
        _requestModel(round, 2);
        vm.warp(block.timestamp + RESPONSE);
        IFederation.Verdict[] memory verdicts = _verdicts(round, COUNT);
        vm.expectRevert(abi.encodeWithSelector(IFederation.AlreadyRequested.selector, root, 2));
        _requestModelAs(stranger, round, 2);
        vm.expectRevert(abi.encodeWithSelector(IFederation.AlreadyRequested.selector, rootOf[1], 2));
        _requestUpdate(round, 1, 2, verdicts);
        _assertOpen(round, 2);
    }

    /// @notice What was posted is public for ever, in later proposals of the same root too.
    function test_RevertWhen_TheLeafIsPublic() public {
        uint256 round = _proposedModel(COUNT);
        bytes32 root = _modelRoot(round);
        _requestModel(round, 2);
        _requestUpdate(round, 0, 2);
        _post(_modelAnswer(2));
        _post(_updateAnswer(0, 2));
        vm.expectRevert(abi.encodeWithSelector(IFederation.LeafIsPublic.selector, root, 2));
        _requestModel(round, 2);
        _requestModel(round, 3);
        vm.warp(block.timestamp + RESPONSE);
        _settle(root, 3);
        _proposeModel(round, _verdicts(round, COUNT));
        vm.expectRevert(abi.encodeWithSelector(IFederation.LeafIsPublic.selector, root, 2));
        _requestModel(round, 2);
        IFederation.Verdict[] memory verdicts = _verdicts(round, COUNT);
        vm.expectRevert(abi.encodeWithSelector(IFederation.LeafIsPublic.selector, rootOf[0], 2));
        _requestUpdate(round, 0, 2, verdicts);
        _requestModel(round, 3);
    }

    /// @notice An update's leaf does not stand for a model's: whoever proposes an update's root as the model's still owes
    ///         the model's leaf.
    function test_AnUpdatesLeafIsNoModelsLeaf() public {
        uint256 round = _revealedWith(COUNT);
        bytes32 root = rootOf[1];
        IFederation.Verdict[] memory verdicts = _verdicts(round, COUNT);
        vm.prank(aggregators[0]);
        federation.propose(round, root, NEW_MANIFEST, verdicts);
        _requestUpdate(round, 1, 2);
        _post(_updateAnswer(1, 2));
        _requestModel(round, 2);
        vm.assertTrue(federation.leafRequest(root, 2).isModel, "of the model now");
        IFederation.LeafAnswer memory answer = _updateAnswer(1, 2);
        IFederation.LeafAnswer[] memory answers = new IFederation.LeafAnswer[](1);
        answers[0] = answer;
        vm.expectRevert(abi.encodeWithSelector(IFederation.LeafLength.selector, 256, 1024));
        federation.postLeaves(answers);
        vm.warp(block.timestamp + RESPONSE);
        _settle(root, 2);
        _assertAggregator(aggregators[0], IFederation.AggregatorState.Slashed);
    }

    /// @notice Without the deposit there is no request.
    function test_RevertWhen_TheDepositCannotBeTaken() public {
        uint256 round = _proposedModel(COUNT);
        vm.expectRevert(
            abi.encodeWithSelector(
                IERC20Errors.ERC20InsufficientAllowance.selector, address(federation), 0, uint256(DEPOSIT)
            )
        );
        _requestModelAs(stranger, round, 0);
        vm.assertEq(federation.deposits(), 0);
        _assertOpen(round, 0);
    }

    /// @notice Leaves of updates are requested of accepted ones, as they were revealed, with the verdicts proposed.
    function test_RevertWhen_TheUpdateIsNotAnAcceptedOne() public {
        uint256 round = _revealedWith(COUNT);
        IFederation.Verdict[] memory verdicts = _verdicts(round, COUNT);
        verdicts[1] = _rejection(round, 1, 8);
        _proposeModel(round, verdicts);
        vm.expectRevert(abi.encodeWithSelector(IFederation.UpdateRejected.selector, round, _participant(1)));
        _requestUpdate(round, 1, 0, verdicts);
        IFederation.Opening memory opening = _opening(round, 2);
        vm.expectRevert(abi.encodeWithSelector(IFederation.VerdictOutOfRange.selector, 3, 3));
        federation.requestUpdateLeaf(round, 0, 3, verdicts, opening);
        IFederation.Verdict[] memory others = _verdicts(round, COUNT);
        vm.expectRevert(
            abi.encodeWithSelector(
                IFederation.VerdictsMismatch.selector, keccak256(abi.encode(others)), keccak256(abi.encode(verdicts))
            )
        );
        _requestUpdate(round, 1, 0, others);
        opening.root = rootOf[0];
        bytes30 given = bytes30(keccak256(abi.encode(opening.root, opening.manifest, uint256(opening.examples))));
        vm.expectRevert(
            abi.encodeWithSelector(IFederation.RevealMismatch.selector, _participant(2), given, _digest(round, 2))
        );
        federation.requestUpdateLeaf(round, 0, 2, verdicts, opening);
        _requestUpdate(round, 2, 0, verdicts);
    }

    // ---------------------------------------------------------------- answers

    /// @notice Whoever answers in time is credited the deposit; the bytes stand in the event.
    function test_AnAnswerPaysWhoeverGivesIt() public {
        uint256 round = _proposedModel(COUNT);
        _requestModel(round, 4);
        _requestUpdate(round, 1, 0);
        IFederation.LeafAnswer memory answer = _modelAnswer(4);
        vm.warp(block.timestamp + RESPONSE - 1);
        vm.expectEmit(address(federation));
        emit IFederation.LeafPosted(round, responder, answer.root, 4, answer.leaf.values, answer.leaf.proof);
        _post(answer);
        vm.assertEq(federation.creditOf(responder), DEPOSIT);
        vm.assertEq(federation.deposits(), DEPOSIT);
        _assertOpen(round, 1);
        _assertRequest(answer.root, 4, IFederation.RequestState.Posted);
        _assertRequest(rootOf[1], 0, IFederation.RequestState.Open);
        _post(_updateAnswer(1, 0));
        _assertOpen(round, 0);
        vm.assertEq(_withdraw(responder), 2 * DEPOSIT);
        _finalize(round, _verdicts(round, COUNT));
    }

    /// @notice Answers that somebody else was quicker with are passed over, and the others are taken.
    function test_AnswersAlreadyPostedArePassedOver() public {
        uint256 round = _proposedModel(COUNT);
        for (uint256 leaf = 0; leaf < 3; ++leaf) {
            _requestModel(round, leaf);
        }
        _postAs(stranger, _modelAnswer(1));
        IFederation.LeafAnswer[] memory answers = new IFederation.LeafAnswer[](4);
        for (uint256 leaf = 0; leaf < 3; ++leaf) {
            answers[leaf] = _modelAnswer(leaf);
        }
        answers[3] = _modelAnswer(0); // twice in one call
        vm.prank(responder);
        federation.postLeaves(answers);
        vm.assertEq(federation.creditOf(responder), 2 * DEPOSIT);
        vm.assertEq(federation.creditOf(stranger), DEPOSIT);
        vm.assertEq(federation.deposits(), 0);
        _assertOpen(round, 0);
    }

    /// @notice One bad answer refuses the whole call, and its error names it.
    function test_RevertWhen_OneAnswerIsBad() public {
        uint256 round = _proposedModel(COUNT);
        _requestModel(round, 0);
        IFederation.LeafAnswer[] memory answers = new IFederation.LeafAnswer[](2);
        (answers[0], answers[1]) = (_modelAnswer(0), _modelAnswer(1));
        _expectNotRequested(answers[1].root, 1);
        federation.postLeaves(answers);
        _assertOpen(round, 1);
        _assertRequest(answers[0].root, 0, IFederation.RequestState.Open);
    }

    /// @notice No answers, no change.
    function test_NoAnswersDoNothing() public {
        federation.postLeaves(new IFederation.LeafAnswer[](0));
        vm.assertEq(federation.creditOf(address(this)), 0);
    }

    /// @notice What nobody asked for is not posted.
    function test_RevertWhen_NobodyAsked() public {
        uint256 round = _proposedModel(COUNT);
        IFederation.LeafAnswer memory answer = _modelAnswer(4);
        _expectNotRequested(answer.root, 4);
        _post(answer);
        _requestModel(round, 3);
        _expectNotRequested(answer.root, 4);
        _post(answer);
    }

    /// @notice At its deadline a request can no longer be answered.
    function test_RevertWhen_TheAnswerIsLate() public {
        uint256 round = _proposedModel(COUNT);
        vm.warp(block.timestamp + 20);
        _requestModel(round, 1);
        uint256 deadline = block.timestamp + RESPONSE;
        IFederation.LeafAnswer memory answer = _modelAnswer(1);
        vm.warp(deadline);
        vm.expectRevert(abi.encodeWithSelector(IFederation.TooLateToPost.selector, deadline, deadline));
        _post(answer);
        vm.warp(deadline - 1);
        _post(answer);
    }

    /// @notice An answer is the leaf itself, of the right length, with its proof.
    function test_RevertWhen_TheAnswerIsNotTheLeaf() public {
        uint256 round = _proposedModel(COUNT);
        _requestModel(round, 1);
        _requestUpdate(round, 0, 1);
        IFederation.LeafAnswer memory answer = _modelAnswer(1);
        answer.leaf = _leafOf(modelLeaves, 2);
        _refuseRoot(answer);
        answer = _modelAnswer(1);
        answer.leaf.values[0] ^= 0x01;
        _refuseRoot(answer);
        answer = _modelAnswer(1);
        answer.leaf.proof[1] ^= bytes32(uint256(1));
        _refuseRoot(answer);
        answer = _modelAnswer(1);
        answer.leaf.values = new bytes(1023);
        vm.expectRevert(abi.encodeWithSelector(IFederation.LeafLength.selector, 1023, 1024));
        _post(answer);
        answer = _modelAnswer(1);
        answer.leaf.proof = new bytes32[](4);
        vm.expectRevert(abi.encodeWithSelector(IFederation.ProofLength.selector, 4, 3));
        _post(answer);
        answer = _updateAnswer(0, 1);
        answer.leaf.values = new bytes(1024);
        vm.expectRevert(abi.encodeWithSelector(IFederation.LeafLength.selector, 1024, 256));
        _post(answer);
        _post(_modelAnswer(1));
        _post(_updateAnswer(0, 1));
    }

    /// @notice A tree with something behind its last leaf is one that nobody can load: that leaf has no answer.
    function test_RevertWhen_SomethingStandsBehindTheLastLeaf() public {
        bytes[] memory honest = modelLeaves;
        for (uint256 place = LEAVES; place < 8; ++place) {
            federation = _deploy(_terms());
            _give(challenger, PURSE);
            delete modelLeaves;
            for (uint256 leaf = 0; leaf <= place; ++leaf) {
                modelLeaves.push(leaf < LEAVES ? honest[leaf] : new bytes(4 * VALUES));
            }
            uint256 round = _proposedModel(COUNT);
            bytes32 root = _modelRoot(round);
            _requestModel(round, LEAVES - 1);
            IFederation.LeafAnswer memory answer = _modelAnswer(LEAVES - 1);
            vm.expectRevert(abi.encodeWithSelector(IFederation.WrongPadding.selector, root));
            _post(answer);
            vm.warp(block.timestamp + RESPONSE);
            _settle(root, LEAVES - 1);
            _assertAggregator(aggregators[0], IFederation.AggregatorState.Slashed);
        }
    }

    // ------------------------------------------------------------- settlement

    /// @notice A leaf that nobody posts in time refutes the proposal: deposit and half the bond to the challenger.
    function test_AnOverdueLeafRefutesTheProposal() public {
        uint256 round = _proposedModel(COUNT);
        bytes32 root = _modelRoot(round);
        _requestModel(round, 2);
        vm.warp(block.timestamp + RESPONSE - 1);
        vm.expectRevert(abi.encodeWithSelector(IFederation.LeafNotLate.selector, block.timestamp, block.timestamp + 1));
        federation.settleRequest(root, 2);
        vm.warp(block.timestamp + 1);
        vm.expectEmit(address(federation));
        emit IFederation.DepositReturned(round, challenger, root, 2);
        vm.expectEmit(address(federation));
        emit IFederation.ProposalRefuted(round, challenger, aggregators[0], root, HALF);
        _settle(root, 2);
        vm.assertEq(federation.creditOf(challenger), DEPOSIT + HALF);
        vm.assertEq(federation.burned(), BOND - HALF);
        vm.assertEq(federation.deposits(), 0);
        _assertForgotten(root, 2);
        _assertStatus(round, IFederation.Status.Propose);
        _assertOpen(round, 0);
        vm.assertEq(federation.currentAggregator(), aggregators[1]);
    }

    /// @notice An update that was accepted and that nobody can get refutes the proposal as well.
    function test_AWithheldUpdateRefutesTheProposal() public {
        uint256 round = _proposedModel(COUNT);
        _requestUpdate(round, 2, 0);
        vm.warp(block.timestamp + RESPONSE);
        _settle(rootOf[2], 0);
        _assertAggregator(aggregators[0], IFederation.AggregatorState.Slashed);
        vm.assertEq(federation.creditOf(challenger), DEPOSIT + HALF);
    }

    /// @notice What nobody requested, what was posted and what was settled is not settled.
    function test_RevertWhen_ThereIsNothingToSettle() public {
        uint256 round = _proposedModel(COUNT);
        bytes32 root = _modelRoot(round);
        _expectNotRequested(root, 0);
        federation.settleRequest(root, 0);
        _requestModel(round, 0);
        _requestModel(round, 1);
        _post(_modelAnswer(0));
        vm.warp(block.timestamp + RESPONSE);
        _expectNotRequested(root, 0);
        federation.settleRequest(root, 0);
        _settle(root, 1);
        _expectNotRequested(root, 1);
        federation.settleRequest(root, 1);
    }

    /// @notice Requests about a proposal that fell are void: they cannot be answered, settling returns the deposit and
    ///         nothing else, and so does requesting anew.
    function test_RequestsAreVoidWithTheirProposal() public {
        uint256 round = _proposedModel(COUNT);
        bytes32 root = _modelRoot(round);
        for (uint256 leaf = 0; leaf < 4; ++leaf) {
            _requestModel(round, leaf);
        }
        vm.warp(block.timestamp + RESPONSE);
        _settle(root, 0);
        IFederation.LeafAnswer memory answer = _modelAnswer(1);
        _expectNotRequested(root, 1);
        _post(answer);
        _settle(root, 1);
        vm.assertEq(federation.creditOf(challenger), HALF + 2 * DEPOSIT);
        _proposeModel(round, _verdicts(round, COUNT)); // the same root again
        _settle(root, 2);
        _assertAggregator(aggregators[1], IFederation.AggregatorState.Bonded);
        vm.assertEq(federation.creditOf(challenger), HALF + 3 * DEPOSIT);
        _give(stranger, DEPOSIT);
        vm.expectEmit(address(federation));
        emit IFederation.DepositReturned(round, challenger, root, 3);
        _requestModelAs(stranger, round, 3);
        vm.assertEq(federation.creditOf(challenger), HALF + 4 * DEPOSIT);
        vm.assertEq(federation.deposits(), DEPOSIT);
        _assertOpen(round, 1);
        vm.assertEq(federation.leafRequest(root, 3).challenger, stranger);
        vm.assertEq(federation.leafRequest(root, 3).proposal, 2);
    }

    /// @notice An unsettled request keeps the round in its challenge window, beyond its deadline; a dispute is taken then.
    function test_AnOverdueLeafKeepsTheRoundOpen() public {
        _bend(0, 0, 1);
        uint256 round = _proposedModel(COUNT);
        _requestModel(round, 2);
        vm.warp(block.timestamp + CHALLENGE + 1000);
        _assertStatus(round, IFederation.Status.Challenge);
        IFederation.Verdict[] memory verdicts = _verdicts(round, COUNT);
        _expectWrongStatus(round, IFederation.Status.Settleable, IFederation.Status.Challenge);
        federation.finalize(round, verdicts);
        _challengeAverage(round, COUNT, 0);
        _assertAggregator(aggregators[0], IFederation.AggregatorState.Slashed);
        _settle(Trees.root(modelLeaves), 2);
        vm.assertEq(federation.creditOf(challenger), HALF + DEPOSIT);
    }

    // --------------------------------------------------------------- helpers

    function _refuseRequests(uint256 round, IFederation.Status actual) private {
        IFederation.Verdict[] memory verdicts = _verdicts(round, COUNT);
        _expectWrongStatus(round, IFederation.Status.Challenge, actual);
        _requestModel(round, 0);
        _expectWrongStatus(round, IFederation.Status.Challenge, actual);
        _requestUpdate(round, 0, 0, verdicts);
    }

    function _refuseRoot(IFederation.LeafAnswer memory answer) private {
        bytes32 computed = Trees.fold(answer.leaf.values, answer.index, answer.leaf.proof);
        vm.expectRevert(abi.encodeWithSelector(IFederation.RootMismatch.selector, computed, answer.root));
        _post(answer);
    }
}
