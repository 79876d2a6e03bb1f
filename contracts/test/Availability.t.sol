// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";

import {IFederation} from "../src/IFederation.sol";
import {AvailabilityWorld} from "./kit/AvailabilityWorld.sol";
import {Trees} from "./kit/Trees.sol";

/// @dev challengeModelAvailability, challengeUpdateAvailability
///      ├── not in the challenge window: WrongStatus
///      ├── no responseSeconds: AvailabilityOff
///      ├── no such leaf: LeafOutOfRange
///      ├── fewer than 2 * responseSeconds before the challenge deadline: TooLateToDemand
///      ├── posted once, in whatever round: LeafIsPublic
///      ├── open and standing: AlreadyDemanded
///      ├── the deposit cannot be taken: the token's error
///      ├── other verdicts, no such verdict, another update, a rejected one: refused
///      └── else: one open request more, the deposit held, AvailabilityChallenged
///          └── open for a proposal that no longer stands: its deposit is returned first
///      postLeaf
///      ├── not demanded, posted, or the proposal no longer stands: NotDemanded
///      ├── at the deadline or later: TooLateToPost
///      ├── other lengths, not in the tree: LeafLength, ProofLength, RootMismatch
///      ├── a place behind the last leaf is not empty: WrongPadding
///      └── else: public for ever, one open request less, the deposit to the caller, LeafPosted
///      settleAvailability
///      ├── nothing open: NotDemanded
///      ├── the proposal stands
///      │   ├── before the deadline: LeafNotLate
///      │   └── from then on: deposit and half the bond to the challenger, the round to a standby
///      └── it no longer stands: the deposit to the challenger, and nothing else
///      status: Challenge beyond the challenge deadline while a request is open
contract AvailabilityTest is AvailabilityWorld {
    // --------------------------------------------------------------- demands

    function test_ADemandTakesTheDeposit() public {
        uint256 round = _proposedModel(COUNT);
        bytes32 root = _modelRoot(round);
        vm.warp(START + 7);
        vm.expectEmit(address(federation));
        emit IFederation.AvailabilityChallenged(round, challenger, root, 4, uint40(START + 7 + RESPONSE));
        _demandModel(round, 4);

        IFederation.AvailabilityRequest memory request = federation.availabilityRequest(root, 4);
        vm.assertEq(request.challenger, challenger);
        vm.assertEq(request.deadline, START + 7 + RESPONSE);
        vm.assertEq(request.round, round);
        vm.assertEq(request.proposal, 1);
        _assertRequest(root, 4, IFederation.RequestState.Open);
        vm.assertEq(token.balanceOf(challenger), PURSE - DEPOSIT);
        vm.assertEq(federation.deposits(), DEPOSIT);
        _assertOpen(round, 1);
        vm.assertEq(federation.getRound(round).proposals, 1);
        _assertStatus(round, IFederation.Status.Challenge);
        _assertForgotten(root, 3);
        _assertForgotten(rootOf[0], 4);
    }

    function test_EachLeafOfEachTreeIsADemandOfItsOwn() public {
        uint256 round = _proposedModel(COUNT);
        for (uint256 leaf = 0; leaf < LEAVES; ++leaf) {
            _demandModel(round, leaf);
            for (uint256 i = 0; i < COUNT; ++i) {
                vm.expectEmit(address(federation));
                emit IFederation.AvailabilityChallenged(
                    round, challenger, rootOf[i], leaf, uint40(block.timestamp) + RESPONSE
                );
                _demandUpdate(round, i, leaf);
            }
        }
        uint256 demands = LEAVES * (COUNT + 1);
        _assertOpen(round, demands);
        vm.assertEq(federation.deposits(), demands * DEPOSIT);
        for (uint256 leaf = 0; leaf < LEAVES; ++leaf) {
            _postModel(leaf);
            for (uint256 i = 0; i < COUNT; ++i) {
                _postUpdate(i, leaf);
            }
        }
        _assertOpen(round, 0);
        vm.assertEq(federation.deposits(), 0);
        vm.assertEq(federation.creditOf(responder), demands * DEPOSIT);
        vm.warp(START + CHALLENGE);
        federation.finalize(round, _verdicts(COUNT));
    }

    function test_AModelThatStayedCanBeDemandedToo() public {
        uint256 round = _revealedWith(1);
        IFederation.Verdict[] memory verdicts = new IFederation.Verdict[](1);
        verdicts[0] = _rejection(0, 8);
        vm.prank(aggregators[0]);
        federation.propose(round, INITIAL_ROOT, INITIAL_MANIFEST, verdicts);
        _demandModel(round, 0);
        vm.warp(block.timestamp + RESPONSE);
        _settle(INITIAL_ROOT, 0);
        _assertAggregator(aggregators[0], IFederation.AggregatorState.Slashed);
    }

    function test_RevertWhen_DemandedOutsideTheWindow() public {
        uint256 round = _revealedWith(COUNT);
        _expectWrongStatus(round, IFederation.Status.Challenge, IFederation.Status.Propose);
        _demandModel(round, 0);
        _expectWrongStatus(round, IFederation.Status.Challenge, IFederation.Status.Propose);
        _demandUpdate(round, 0, 0);
        _proposeModel(round, _verdicts(COUNT));
        vm.warp(START + CHALLENGE);
        _expectWrongStatus(round, IFederation.Status.Challenge, IFederation.Status.Settleable);
        _demandModel(round, 0);
        _expectWrongStatus(round, IFederation.Status.Challenge, IFederation.Status.Settleable);
        _demandUpdate(round, 0, 0);
        federation.finalize(round, _verdicts(COUNT));
        _expectWrongStatus(round, IFederation.Status.Challenge, IFederation.Status.Finalized);
        _demandModel(round, 0);
    }

    function test_RevertWhen_TheTermsHaveNoResponseTime() public {
        IFederation.Terms memory terms = _terms();
        terms.responseSeconds = 0;
        federation = _deploy(terms);
        _give(challenger, 0);
        uint256 round = _proposedModel(COUNT);
        vm.expectRevert(abi.encodeWithSelector(IFederation.AvailabilityOff.selector));
        _demandModel(round, 0);
        vm.expectRevert(abi.encodeWithSelector(IFederation.AvailabilityOff.selector));
        _demandUpdate(round, 0, 0);
    }

    function test_RevertWhen_TheDemandedLeafDoesNotExist() public {
        uint256 round = _proposedModel(COUNT);
        for (uint256 leaf = LEAVES; leaf <= 8; ++leaf) {
            vm.expectRevert(abi.encodeWithSelector(IFederation.LeafOutOfRange.selector, leaf, LEAVES));
            _demandModel(round, leaf);
            vm.expectRevert(abi.encodeWithSelector(IFederation.LeafOutOfRange.selector, leaf, LEAVES));
            _demandUpdate(round, 1, leaf);
        }
    }

    function test_RevertWhen_AnAnswerWouldComeTooLateToBeDisputed() public {
        uint256 round = _proposedModel(COUNT);
        uint256 latest = START + CHALLENGE - 2 * RESPONSE;
        vm.warp(latest + 1);
        bytes memory tooLate = abi.encodeWithSelector(IFederation.TooLateToDemand.selector, latest + 1, latest);
        vm.expectRevert(tooLate);
        _demandModel(round, 0);
        vm.expectRevert(tooLate);
        _demandUpdate(round, 0, 0);
        vm.warp(latest);
        _demandModel(round, 0);
        _demandUpdate(round, 0, 0);
        vm.assertEq(federation.availabilityRequest(_modelRoot(round), 0).deadline + RESPONSE, START + CHALLENGE);
    }

    function test_RevertWhen_DemandedTwice() public {
        uint256 round = _proposedModel(COUNT);
        _demandModel(round, 2);
        _demandUpdate(round, 1, 2);
        bytes32 root = _modelRoot(round);
        vm.expectRevert(abi.encodeWithSelector(IFederation.AlreadyDemanded.selector, root, 2));
        _demandModel(round, 2);
        vm.warp(START + RESPONSE); // overdue is open still
        vm.expectRevert(abi.encodeWithSelector(IFederation.AlreadyDemanded.selector, root, 2));
        _demandModelAs(stranger, round, 2);
        vm.expectRevert(abi.encodeWithSelector(IFederation.AlreadyDemanded.selector, rootOf[1], 2));
        _demandUpdate(round, 1, 2);
        _assertOpen(round, 2);
    }

    function test_RevertWhen_TheLeafIsPublic() public {
        uint256 round = _proposedModel(COUNT);
        _demandModel(round, 2);
        _postModel(2);
        bytes memory isPublic =
            abi.encodeWithSelector(IFederation.LeafIsPublic.selector, Trees.root(modelLeaves), uint256(2));
        vm.expectRevert(isPublic);
        _demandModel(round, 2);
        // Nor after a refutation, when the standby proposes the same root again.
        _demandModel(round, 3);
        vm.warp(START + RESPONSE);
        _settle(Trees.root(modelLeaves), 3);
        _proposeModel(round, _verdicts(COUNT));
        vm.expectRevert(isPublic);
        _demandModel(round, 2);
        _demandModel(round, 3);
    }

    function test_RevertWhen_TheDepositCannotBeTaken() public {
        uint256 round = _proposedModel(COUNT);
        vm.expectRevert(
            abi.encodeWithSelector(
                IERC20Errors.ERC20InsufficientAllowance.selector, address(federation), 0, uint256(DEPOSIT)
            )
        );
        _demandModelAs(stranger, round, 0);
        vm.assertEq(federation.deposits(), 0);
        _assertOpen(round, 0);
    }

    function test_RevertWhen_TheUpdateIsNotAnAcceptedOne() public {
        uint256 round = _revealedWith(COUNT);
        IFederation.Verdict[] memory verdicts = _verdicts(COUNT);
        verdicts[1] = _rejection(1, 8);
        _proposeModel(round, verdicts);
        vm.expectRevert(abi.encodeWithSelector(IFederation.UpdateRejected.selector, round, _participant(1)));
        _demandUpdate(round, 1, 0, verdicts);
        vm.expectRevert(abi.encodeWithSelector(IFederation.VerdictOutOfRange.selector, 3, 3));
        _demandUpdate(round, 3, 0, verdicts);

        bytes32 proposed = federation.getRound(round).verdictsHash;
        bytes32 given = keccak256(abi.encode(_verdicts(COUNT)));
        vm.expectRevert(abi.encodeWithSelector(IFederation.VerdictsMismatch.selector, given, proposed));
        _demandUpdate(round, 1, 0, _verdicts(COUNT));

        bytes31 revealed = federation.getSubmission(round, _participant(2)).digest;
        bytes31 other = bytes31(keccak256(abi.encode(_root(round, 0), _manifest(round, 2), _examples(2))));
        bytes32 root = _root(round, 0);
        vm.expectRevert(abi.encodeWithSelector(IFederation.RevealMismatch.selector, _participant(2), other, revealed));
        federation.challengeUpdateAvailability(round, 0, 2, verdicts, root, _manifest(round, 2), _examples(2));
        _demandUpdate(round, 2, 0, verdicts);
    }

    // --------------------------------------------------------------- answers

    function test_AnAnswerPaysWhoeverGivesIt() public {
        uint256 round = _proposedModel(COUNT);
        _demandModel(round, 4);
        _demandUpdate(round, 1, 0);
        IFederation.Leaf memory leaf = _leafOf(modelLeaves, 4);
        vm.warp(START + RESPONSE - 1);
        vm.expectEmit(address(federation));
        emit IFederation.LeafPosted(round, responder, Trees.root(modelLeaves), 4, leaf.values, leaf.proof);
        _postModel(4);
        vm.assertEq(federation.creditOf(responder), DEPOSIT);
        vm.assertEq(federation.deposits(), DEPOSIT);
        _assertOpen(round, 1);
        _assertRequest(Trees.root(modelLeaves), 4, IFederation.RequestState.Posted);
        _assertRequest(rootOf[1], 0, IFederation.RequestState.Open);
        _postUpdate(1, 0);
        _assertOpen(round, 0);
        vm.prank(responder);
        vm.assertEq(federation.withdraw(), 2 * DEPOSIT);
        vm.warp(START + CHALLENGE);
        federation.finalize(round, _verdicts(COUNT));
    }

    function test_RevertWhen_NobodyAskedForTheLeaf() public {
        uint256 round = _proposedModel(COUNT);
        bytes32 root = Trees.root(modelLeaves);
        IFederation.Leaf memory leaf = _leafOf(modelLeaves, 4);
        _expectNotDemanded(root, 4);
        federation.postLeaf(root, 4, leaf);
        _demandModel(round, 3);
        _expectNotDemanded(root, 4);
        federation.postLeaf(root, 4, leaf);
        _demandModel(round, 4);
        _postModel(4);
        _expectNotDemanded(root, 4);
        federation.postLeaf(root, 4, leaf);
    }

    function test_RevertWhen_TheAnswerIsLate() public {
        uint256 round = _proposedModel(COUNT);
        vm.warp(START + 20);
        _demandModel(round, 1);
        bytes32 root = Trees.root(modelLeaves);
        IFederation.Leaf memory leaf = _leafOf(modelLeaves, 1);
        uint256 deadline = START + 20 + RESPONSE;
        vm.warp(deadline);
        vm.expectRevert(abi.encodeWithSelector(IFederation.TooLateToPost.selector, deadline, deadline));
        federation.postLeaf(root, 1, leaf);
        vm.warp(deadline - 1);
        federation.postLeaf(root, 1, leaf);
    }

    function test_RevertWhen_TheAnswerIsNotTheLeaf() public {
        uint256 round = _proposedModel(COUNT);
        _demandModel(round, 1);
        bytes32 root = Trees.root(modelLeaves);
        IFederation.Leaf memory leaf = _leafOf(modelLeaves, 1);

        IFederation.Leaf memory other = _leafOf(modelLeaves, 2);
        _refuse(root, 1, other);
        other = _leafOf(updateLeaves[0], 1);
        _refuse(root, 1, other);
        leaf.values[0] ^= 0x01;
        _refuse(root, 1, leaf);
        leaf.values[0] ^= 0x01;
        leaf.proof[1] ^= bytes32(uint256(1));
        _refuse(root, 1, leaf);
        leaf.proof[1] ^= bytes32(uint256(1));

        bytes memory values = leaf.values;
        leaf.values = bytes.concat(values, hex"00");
        vm.expectRevert(abi.encodeWithSelector(IFederation.LeafLength.selector, 41, 40));
        federation.postLeaf(root, 1, leaf);
        leaf.values = values;
        bytes32[] memory proof = leaf.proof;
        leaf.proof = new bytes32[](4);
        vm.expectRevert(abi.encodeWithSelector(IFederation.ProofLength.selector, 4, 3));
        federation.postLeaf(root, 1, leaf);
        leaf.proof = proof;
        federation.postLeaf(root, 1, leaf);
    }

    /// @dev A tree that nobody can load, since nothing may stand behind its last leaf: that leaf has no answer.
    function test_RevertWhen_SomethingStandsBehindTheLastLeaf() public {
        bytes[] memory honest = modelLeaves;
        for (uint256 place = LEAVES; place < 8; ++place) {
            federation = _deploy(_terms());
            _give(challenger, PURSE);
            bytes[] memory leaves = new bytes[](place + 1);
            for (uint256 leaf = 0; leaf <= place; ++leaf) {
                leaves[leaf] = leaf < LEAVES ? honest[leaf] : new bytes(4 * LEAF_VALUES);
            }
            modelLeaves = leaves;
            uint256 round = _proposedModel(COUNT);
            bytes32 root = _modelRoot(round);
            _demandModel(round, LEAVES - 1);
            _demandModel(round, 0);
            IFederation.Leaf memory last = _leafOf(leaves, LEAVES - 1);
            vm.expectRevert(abi.encodeWithSelector(IFederation.WrongPadding.selector, root));
            federation.postLeaf(root, LEAVES - 1, last);
            vm.warp(block.timestamp + RESPONSE);
            _settle(root, LEAVES - 1);
            _assertAggregator(aggregators[0], IFederation.AggregatorState.Slashed);
            vm.warp(START);
        }
    }

    // ------------------------------------------------------------ settlement

    function test_ALeafThatNobodyPostsCostsTheBond() public {
        uint256 round = _proposedModel(COUNT);
        bytes32 root = _modelRoot(round);
        _demandModel(round, 4);
        uint256 escrow = federation.escrow();
        vm.warp(START + RESPONSE);
        uint40 deadline = uint40(block.timestamp) + PROPOSE;
        vm.expectEmit(address(federation));
        emit IFederation.DepositReturned(round, challenger, root, 4);
        vm.expectEmit(address(federation));
        emit IFederation.AggregatorSlashed(round, aggregators[0], BOND);
        vm.expectEmit(address(federation));
        emit IFederation.ProposalRefuted(round, challenger, aggregators[0], root, BOND / 2);
        vm.expectEmit(address(federation));
        emit IFederation.AggregatorReplaced(round, aggregators[0], aggregators[1], deadline);
        _settle(root, 4);

        vm.assertEq(federation.creditOf(challenger), DEPOSIT + BOND / 2);
        vm.assertEq(federation.escrow(), escrow + BOND / 2);
        vm.assertEq(federation.deposits(), 0);
        _assertForgotten(root, 4);
        _assertOpen(round, 0);
        _assertStatus(round, IFederation.Status.Propose);
        vm.assertEq(federation.getRound(round).challengeDeadline, 0);
        vm.assertEq(federation.getRound(round).proposals, 1);
    }

    function test_AnUpdateThatIsWithheldCostsTheBondToo() public {
        uint256 round = _proposedModel(COUNT);
        _demandUpdate(round, 2, 0);
        vm.warp(START + RESPONSE);
        bytes32 root = _modelRoot(round);
        vm.expectEmit(address(federation));
        emit IFederation.ProposalRefuted(round, challenger, aggregators[0], root, BOND / 2);
        vm.prank(challenger);
        federation.settleAvailability(rootOf[2], 0);
        vm.assertEq(federation.creditOf(challenger), DEPOSIT + BOND / 2);
        _proposeModel(round, _verdicts(COUNT));
        vm.assertEq(federation.getRound(round).proposals, 2);
        vm.warp(block.timestamp + CHALLENGE);
        federation.finalize(round, _verdicts(COUNT));
    }

    function test_WithoutAStandbyTheRoundIsAbandoned() public {
        uint256 round = _proposedModel(COUNT);
        _demandModel(round, 0);
        vm.warp(START + RESPONSE);
        _settle(_modelRoot(round), 0);
        _proposeModel(round, _verdicts(COUNT));
        _demandModel(round, 0);
        vm.warp(START + 2 * RESPONSE);
        bytes32 root = _modelRoot(round);
        vm.expectEmit(address(federation));
        emit IFederation.Abandoned(round); // aggregators[2] has not posted a bond
        _settle(root, 0);
        vm.assertEq(federation.creditOf(challenger), 2 * (DEPOSIT + BOND / 2));
        _assertStatus(round, IFederation.Status.Abandoned);
    }

    function test_RevertWhen_SettledTooEarly() public {
        uint256 round = _proposedModel(COUNT);
        vm.warp(START + 3);
        _demandModel(round, 0);
        bytes32 root = _modelRoot(round);
        uint256 deadline = START + 3 + RESPONSE;
        vm.warp(deadline - 1);
        vm.expectRevert(abi.encodeWithSelector(IFederation.LeafNotLate.selector, deadline - 1, deadline));
        federation.settleAvailability(root, 0);
        vm.warp(deadline);
        federation.settleAvailability(root, 0);
    }

    function test_RevertWhen_ThereIsNothingToSettle() public {
        uint256 round = _proposedModel(COUNT);
        bytes32 root = _modelRoot(round);
        _expectNotDemanded(root, 0);
        federation.settleAvailability(root, 0);
        _demandModel(round, 0);
        _postModel(0);
        vm.warp(START + RESPONSE);
        _expectNotDemanded(root, 0);
        federation.settleAvailability(root, 0);
        vm.warp(START);
        _demandModel(round, 1);
        vm.warp(START + RESPONSE);
        _settle(root, 1);
        _expectNotDemanded(root, 1);
        federation.settleAvailability(root, 1);
    }

    // ------------------------------------------------------------- void ones

    function test_ARefutedProposalVoidsItsDemands() public {
        _flip(4, 0);
        uint256 round = _proposedModel(COUNT);
        _demandModel(round, 0);
        _demandUpdate(round, 1, 3);
        _demandUpdate(round, 0, 3);
        bytes32 root = _modelRoot(round);
        address finder = _account("finder");
        challenger = finder;
        _challenge(round, COUNT, 4);
        challenger = _account("challenger");
        _assertOpen(round, 0);
        vm.assertEq(federation.deposits(), 3 * DEPOSIT);

        // It cannot be answered any more, and goes back at once: no deadline has to pass.
        IFederation.Leaf memory leaf = _leafOf(modelLeaves, 0);
        _expectNotDemanded(root, 0);
        federation.postLeaf(root, 0, leaf);
        vm.expectEmit(address(federation));
        emit IFederation.DepositReturned(round, challenger, root, 0);
        _settle(root, 0);
        vm.assertEq(federation.creditOf(challenger), DEPOSIT);
        vm.assertEq(federation.creditOf(finder), BOND / 2);
        _assertStatus(round, IFederation.Status.Propose);
        _assertAggregator(aggregators[1], IFederation.AggregatorState.Bonded);

        // Nor does it touch the standby's proposal, which it is not about.
        _flip(4, 0);
        _proposeModel(round, _verdicts(COUNT));
        vm.warp(START + RESPONSE);
        leaf = _leafOf(updateLeaves[1], 3);
        _expectNotDemanded(rootOf[1], 3);
        federation.postLeaf(rootOf[1], 3, leaf);
        _settle(rootOf[1], 3);
        vm.assertEq(federation.creditOf(challenger), 2 * DEPOSIT);
        vm.warp(START + CHALLENGE);
        _assertStatus(round, IFederation.Status.Settleable);
        federation.finalize(round, _verdicts(COUNT));
        _settle(rootOf[0], 3);
        vm.assertEq(federation.creditOf(challenger), 3 * DEPOSIT);
        vm.assertEq(federation.deposits(), 0);
    }

    function test_AVoidDemandMakesRoomForANewOne() public {
        uint256 round = _proposedModel(COUNT);
        _demandUpdate(round, 0, 1);
        _demandModel(round, 0);
        vm.warp(START + RESPONSE);
        _settle(_modelRoot(round), 0);
        _proposeModel(round, _verdicts(COUNT));
        address second = _account("second");
        _give(second, DEPOSIT);
        (bytes32 root, bytes32 manifest, uint32 examples) = (rootOf[0], _manifest(round, 0), _examples(0));
        vm.expectEmit(address(federation));
        emit IFederation.DepositReturned(round, challenger, root, 1);
        vm.expectEmit(address(federation));
        emit IFederation.AvailabilityChallenged(round, second, root, 1, uint40(START + 2 * RESPONSE));
        IFederation.Verdict[] memory verdicts = _verdicts(COUNT);
        vm.prank(second);
        federation.challengeUpdateAvailability(round, 1, 0, verdicts, root, manifest, examples);
        vm.assertEq(federation.creditOf(challenger), 2 * DEPOSIT + BOND / 2);
        vm.assertEq(federation.deposits(), DEPOSIT);
        _assertOpen(round, 1);
        vm.assertEq(federation.availabilityRequest(root, 1).proposal, 2);
        vm.assertEq(federation.availabilityRequest(root, 1).challenger, second);
        _postUpdate(0, 1);
        _assertOpen(round, 0);
        vm.assertEq(federation.creditOf(responder), DEPOSIT);
    }

    // ---------------------------------------------------------------- status

    function test_AnOverdueLeafHoldsTheRoundUntilItIsSettled() public {
        uint256 round = _proposedModel(COUNT);
        vm.warp(START + CHALLENGE - 2 * RESPONSE);
        _demandModel(round, 0);
        vm.warp(START + CHALLENGE);
        _assertStatus(round, IFederation.Status.Challenge);
        IFederation.Verdict[] memory verdicts = _verdicts(COUNT);
        _expectWrongStatus(round, IFederation.Status.Settleable, IFederation.Status.Challenge);
        federation.finalize(round, verdicts);
        _expectWrongStatus(round, IFederation.Status.Expired, IFederation.Status.Challenge);
        federation.abandon(round);
        vm.warp(START + 1_000_000);
        _settle(_modelRoot(round), 0);
        _assertStatus(round, IFederation.Status.Propose);
    }

    function test_AnAnsweredDemandDoesNotProlongTheRound() public {
        uint256 round = _proposedModel(COUNT);
        uint40 deadline = federation.getRound(round).challengeDeadline;
        vm.warp(START + CHALLENGE - 2 * RESPONSE);
        _demandModel(round, 0);
        vm.warp(START + CHALLENGE - RESPONSE - 1);
        _postModel(0);
        vm.assertEq(federation.getRound(round).challengeDeadline, deadline);
        vm.warp(deadline - 1);
        _assertStatus(round, IFederation.Status.Challenge);
        vm.warp(deadline);
        _assertStatus(round, IFederation.Status.Settleable);
        federation.finalize(round, _verdicts(COUNT));
    }

    /// @dev An answer of the last second leaves responseSeconds to show that what it says is wrong.
    function test_APostedLeafCanBeDisputed() public {
        _flip(3, 11);
        uint256 round = _proposedModel(COUNT);
        vm.warp(START + CHALLENGE - 2 * RESPONSE);
        _demandModel(round, 3);
        vm.warp(START + CHALLENGE - RESPONSE - 1);
        _postModelAs(aggregators[0], 3);
        vm.warp(START + CHALLENGE - 1);
        _challenge(round, COUNT, 3);
        _assertAggregator(aggregators[0], IFederation.AggregatorState.Slashed);
        vm.assertEq(federation.creditOf(challenger), BOND / 2);
        vm.assertEq(federation.creditOf(aggregators[0]), DEPOSIT);
    }

    // ------------------------------------------------------------------ fuzz

    /// @dev Whatever is demanded of an honest proposal, whenever: whoever has the bytes can post it in time.
    function testFuzz_AnHonestLeafCanBePosted(uint256 seed, uint8 count, uint8 leaf, uint256 at, uint256 wait) public {
        count = uint8(_bound(count, 1, SEATS));
        leaf = uint8(_bound(leaf, 0, LEAVES - 1));
        _draw(seed, count);
        uint256 round = _proposedModel(count);
        vm.warp(START + _bound(at, 0, CHALLENGE - 2 * RESPONSE));
        _demandModel(round, leaf);
        vm.warp(block.timestamp + _bound(wait, 0, RESPONSE - 1));
        _postModel(leaf);
        vm.assertEq(federation.creditOf(responder), DEPOSIT);
        vm.warp(START + CHALLENGE);
        federation.finalize(round, _verdicts(count));
        _assertStatus(round, IFederation.Status.Finalized);
    }

    /// @dev Any bit of the leaf or of its proof, or another place.
    function testFuzz_NoOtherLeafCanBePosted(uint256 seed, uint8 leaf, uint16 bit, uint8 place) public {
        leaf = uint8(_bound(leaf, 0, LEAVES - 1));
        _draw(seed, COUNT);
        uint256 round = _proposedModel(COUNT);
        _demandModel(round, leaf);
        bytes32 root = _modelRoot(round);
        IFederation.Leaf memory bent = _leafOf(modelLeaves, leaf);
        bit = bit % uint16(8 * (4 * LEAF_VALUES + 32 * 3));
        if (bit < 8 * 4 * LEAF_VALUES) bent.values[bit / 8] ^= bytes1(uint8(1) << uint8(bit % 8));
        else bent.proof[(bit - 32 * LEAF_VALUES) / 256] ^= bytes32(uint256(1) << (bit - 32 * LEAF_VALUES) % 256);
        _refuse(root, leaf, bent);

        place = uint8(_bound(place, 0, LEAVES - 1));
        if (place != leaf) _refuse(root, leaf, _leafOf(modelLeaves, place));
        _assertOpen(round, 1);
        vm.assertEq(federation.creditOf(address(this)), 0);
    }

    /// @dev Whenever it is settled, by whom and however many demands are open besides.
    function testFuzz_AnUnansweredDemandAlwaysCostsTheBond(uint8 leaf, uint8 others, uint256 at, uint256 wait) public {
        leaf = uint8(_bound(leaf, 0, LEAVES - 1));
        uint256 round = _proposedModel(COUNT);
        vm.warp(START + _bound(at, 0, CHALLENGE - 2 * RESPONSE));
        for (uint256 other = 0; other < LEAVES; ++other) {
            if (other == leaf || others >> other & 1 == 1) _demandModel(round, other);
        }
        for (uint256 other = 0; other < LEAVES; ++other) {
            if (other != leaf && others >> other & 1 == 1) _postModel(other);
        }
        vm.warp(block.timestamp + RESPONSE + _bound(wait, 0, 1_000_000));
        _assertStatus(round, IFederation.Status.Challenge);
        _settle(_modelRoot(round), leaf);
        _assertAggregator(aggregators[0], IFederation.AggregatorState.Slashed);
        vm.assertEq(federation.creditOf(challenger), DEPOSIT + BOND / 2);
        _assertStatus(round, IFederation.Status.Propose);
    }

    /// @dev Three moments: of the demand, of the answer, of the settlement. Each second has exactly one rule.
    function testFuzz_EverySecondHasItsRule(uint256 demandAt, uint256 postAt, uint256 settleAt) public {
        demandAt = START + _bound(demandAt, 0, CHALLENGE - 1);
        postAt = demandAt + _bound(postAt, 0, 2 * RESPONSE);
        settleAt = postAt + _bound(settleAt, 0, 2 * RESPONSE);
        uint256 round = _proposedModel(COUNT);
        bytes32 root = _modelRoot(round);
        IFederation.Leaf memory leaf = _leafOf(modelLeaves, 0);
        vm.warp(demandAt);
        bool isDemanded = demandAt + 2 * RESPONSE <= START + CHALLENGE;
        vm.prank(challenger);
        vm.assertEq(_try(abi.encodeCall(federation.challengeModelAvailability, (round, 0))), isDemanded, "demand");
        vm.warp(postAt);
        bool isPosted = isDemanded && postAt < demandAt + RESPONSE;
        vm.assertEq(_try(abi.encodeCall(federation.postLeaf, (root, 0, leaf))), isPosted, "post");
        vm.warp(settleAt);
        bool isSlashed = isDemanded && !isPosted;
        if (!isSlashed && settleAt >= START + CHALLENGE) _assertStatus(round, IFederation.Status.Settleable);
        vm.assertEq(_try(abi.encodeCall(federation.settleAvailability, (root, 0))), isSlashed, "settle");
        _assertAggregator(
            aggregators[0], isSlashed ? IFederation.AggregatorState.Slashed : IFederation.AggregatorState.Bonded
        );
        vm.assertEq(federation.deposits(), 0);
    }

    // --------------------------------------------------------------- helpers

    function _try(bytes memory call) private returns (bool succeeded) {
        (succeeded,) = address(federation).call(call);
    }

    function _refuse(bytes32 root, uint256 index, IFederation.Leaf memory leaf) private {
        bytes32 computed = Trees.fold(leaf.values, index, leaf.proof);
        vm.expectRevert(abi.encodeWithSelector(IFederation.RootMismatch.selector, computed, root));
        federation.postLeaf(root, index, leaf);
    }
}
