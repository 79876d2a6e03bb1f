// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {IFederation} from "../src/IFederation.sol";
import {
    Accomplice,
    FalseToken,
    FeeToken,
    GenerousToken,
    IdleToken,
    PausableToken,
    RebasingToken,
    ReentrantToken,
    ShrinkingToken,
    SilentToken
} from "./kit/HostileTokens.sol";
import {RequestWorld} from "./kit/RequestWorld.sol";
import {Trees} from "./kit/Trees.sol";

/// @dev Attack 13: tokens that take a fee, rebase, pause, lie, or call back.
contract HostileTokensTest is RequestWorld {
    bytes private constant REENTERED =
        abi.encodeWithSelector(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector);

    /// @notice A token that keeps a fee cannot be paid in: every way in asks for the whole amount.
    function test_Attack13_RevertWhen_TheTokenTakesAFee() public {
        _use(address(new FeeToken()));
        _refuseEveryPull(
            abi.encodeWithSelector(IFederation.WrongAmountReceived.selector, 99, 100),
            abi.encodeWithSelector(IFederation.WrongAmountReceived.selector, STAKE - 1, STAKE),
            abi.encodeWithSelector(IFederation.WrongAmountReceived.selector, BOND - 1, BOND)
        );
    }

    /// @notice Nor one that moves nothing, more than was asked, or takes from the receiver.
    function test_Attack13_RevertWhen_TheTokenDeliversAnotherAmount() public {
        _use(address(new IdleToken()));
        _refuseEveryPull(
            abi.encodeWithSelector(IFederation.WrongAmountReceived.selector, 0, 100),
            abi.encodeWithSelector(IFederation.WrongAmountReceived.selector, 0, STAKE),
            abi.encodeWithSelector(IFederation.WrongAmountReceived.selector, 0, BOND)
        );
        _use(address(new GenerousToken()));
        _refuseEveryPull(
            abi.encodeWithSelector(IFederation.WrongAmountReceived.selector, 101, 100),
            abi.encodeWithSelector(IFederation.WrongAmountReceived.selector, STAKE + 1, STAKE),
            abi.encodeWithSelector(IFederation.WrongAmountReceived.selector, BOND + 1, BOND)
        );
        _use(address(new ShrinkingToken()));
        require(token.transfer(address(federation), 5));
        bytes memory underflow = abi.encodeWithSignature("Panic(uint256)", 0x11);
        _refuseEveryPull(underflow, underflow, underflow);
    }

    /// @notice A transfer that returns false is none: nothing is booked, and credit stays.
    function test_Attack13_RevertWhen_TheTokenReturnsFalse() public {
        FalseToken liar = new FalseToken();
        _use(address(liar));
        uint256 round = _proposedModel(COUNT);
        liar.startLying();
        bytes memory failed = abi.encodeWithSelector(SafeERC20.SafeERC20FailedOperation.selector, address(liar));
        vm.expectRevert(failed);
        _requestModel(round, 0);
        vm.assertEq(federation.deposits(), 0);
        _finalize(round, _verdicts(round, COUNT));
        uint256 credit = federation.creditOf(_participant(0));
        vm.assertGt(credit, 0, "credit");
        vm.expectRevert(failed);
        _withdraw(_participant(0));
        vm.assertEq(federation.creditOf(_participant(0)), credit);
        vm.expectRevert(failed);
        federation.fund(100);
        vm.expectRevert(failed);
        _joinAs(stranger);
        vm.expectRevert(failed);
        vm.prank(aggregators[2]);
        federation.bond();
    }

    /// @notice A token that returns nothing, as some old ones do, works.
    function test_Attack13_ATokenThatReturnsNothingWorks() public {
        SilentToken silent = new SilentToken();
        IFederation.Terms memory terms = _terms();
        terms.money.token = IERC20(address(silent));
        federation = _deploy(terms);
        federation.fund(100);
        vm.assertEq(silent.balanceOf(address(federation)), 100);
        _close();
        federation.refund();
        _withdraw(sponsor);
        vm.assertEq(silent.balanceOf(sponsor), 100);
    }

    /// @notice While a token is paused rounds go on, and credit waits.
    function test_Attack13_APausedTokenDelaysOnlyWithdrawals() public {
        PausableToken pausable = new PausableToken();
        _use(address(pausable));
        uint256 round = _openWith(2);
        pausable.setPaused(true);
        _commitAll(round, 2);
        _revealAll(round, 2);
        _propose(round, _verdicts(round, 2));
        _finalize(round, _verdicts(round, 2));
        uint256 credit = federation.creditOf(_participant(0));
        vm.expectRevert(abi.encodeWithSelector(PausableToken.Paused.selector));
        _withdraw(_participant(0));
        vm.assertEq(federation.creditOf(_participant(0)), credit);
        pausable.setPaused(false);
        vm.assertEq(_withdraw(_participant(0)), credit);
    }

    /// @notice An account that the token's issuer blocked stops nobody else, and can name another account.
    function test_Attack13_ABlockedAccountDoesNotStopTheOthers() public {
        PausableToken pausable = new PausableToken();
        _use(address(pausable));
        uint256 round = _revealedWith(2);
        _propose(round, _verdicts(round, 2));
        _finalize(round, _verdicts(round, 2));
        pausable.setBlocked(_participant(0), true);
        vm.expectRevert(abi.encodeWithSelector(PausableToken.Blocked.selector, _participant(0)));
        _withdraw(_participant(0));
        vm.assertGt(_withdraw(_participant(1)), 0, "the other is paid");
        vm.assertEq(_withdraw(aggregators[0]), FEE);
        uint256 credit = federation.creditOf(_participant(0));
        vm.prank(_participant(0));
        federation.withdrawTo(stranger);
        vm.assertEq(token.balanceOf(stranger), credit);
    }

    /// @notice When balances shrink by themselves, who withdraws first is paid whole: nothing else is promised for such
    ///         tokens, but nobody gets more than its credit, and the books do not break.
    function test_Attack13_ARebasingToken() public {
        RebasingToken rebasing = new RebasingToken();
        _use(address(rebasing));
        uint256 round = _revealedWith(2);
        _propose(round, _verdicts(round, 2));
        _finalize(round, _verdicts(round, 2));
        rebasing.rebase(50);
        uint256 credit = federation.creditOf(_participant(0));
        vm.assertEq(_withdraw(_participant(0)), credit);
        vm.assertLe(token.balanceOf(_participant(0)), credit, "not more than its credit");
        rebasing.rebase(1);
        uint256 escrow = federation.escrow();
        vm.prank(sponsor);
        federation.close();
        federation.refund();
        vm.expectRevert(); // the token's own: there is not enough
        _withdraw(sponsor);
        vm.assertEq(federation.creditOf(sponsor), escrow);
    }

    /// @notice No function that moves tokens is entered from within another one.
    function test_Attack13_NoGuardedFunctionIsEnteredTwice() public {
        bytes[5] memory calls = [
            abi.encodeCall(IFederation.withdraw, ()),
            abi.encodeCall(IFederation.withdrawTo, (stranger)),
            abi.encodeCall(IFederation.join, (0, "")),
            abi.encodeCall(IFederation.bond, ()),
            abi.encodeCall(IFederation.fund, (1))
        ];
        for (uint256 outer = 0; outer < 5; ++outer) {
            for (uint256 inner = 0; inner < 5; ++inner) {
                ReentrantToken hostile = _accompliceInEveryRole();
                hostile.arm(calls[inner]);
                (bool isDone,) = hostile.accomplice().act(address(federation), calls[outer]);
                _assertRefusedInside(hostile, isDone);
            }
        }
    }

    /// @notice Nor while a deposit is under way, from it or into it.
    function test_Attack13_NoGuardedFunctionIsEnteredFromARequest() public {
        for (uint256 i = 0; i < 14; ++i) {
            (ReentrantToken hostile,) = _hostileProposal();
            bytes[7] memory inner = [
                abi.encodeCall(IFederation.withdraw, ()),
                abi.encodeCall(IFederation.withdrawTo, (stranger)),
                abi.encodeCall(IFederation.join, (0, "")),
                abi.encodeCall(IFederation.bond, ()),
                abi.encodeCall(IFederation.fund, (1)),
                abi.encodeCall(IFederation.requestModelLeaf, (1, 1)),
                _updateRequest(0)
            ];
            bytes memory outer = i % 2 == 0 ? abi.encodeCall(IFederation.requestModelLeaf, (1, 0)) : _updateRequest(1);
            hostile.arm(inner[i / 2]);
            (bool isDone,) = hostile.accomplice().act(address(federation), outer);
            _assertRefusedInside(hostile, isDone);
            vm.assertEq(federation.deposits(), DEPOSIT);
        }
    }

    /// @notice What is not guarded need not be: leaving inside a withdrawal is paid once.
    function test_Attack13_AWithdrawalThatLeavesOnTheWayIsPaidOnce() public {
        ReentrantToken hostile = _accompliceInEveryRole();
        Accomplice accomplice = hostile.accomplice();
        accomplice.act(address(federation), abi.encodeCall(IFederation.join, (0, "")));
        uint256 before = token.balanceOf(address(accomplice));
        hostile.arm(abi.encodeCall(IFederation.leave, ()));
        accomplice.act(address(federation), abi.encodeCall(IFederation.withdraw, ()));
        vm.assertTrue(hostile.succeeded(), "leave");
        vm.assertEq(token.balanceOf(address(accomplice)), before + BOND);
        vm.assertEq(federation.creditOf(address(accomplice)), 0);
        vm.assertEq(token.balanceOf(address(federation)), STAKE + BOND);
    }

    /// @notice An answer inside its request is backed: the deposit is credited before it has come, and comes.
    function test_Attack13_AnAnswerInsideItsRequestIsBacked() public {
        (ReentrantToken hostile, uint256 held) = _hostileProposal();
        IFederation.LeafAnswer[] memory answers = new IFederation.LeafAnswer[](1);
        answers[0] = _modelAnswer(0);
        hostile.arm(abi.encodeCall(IFederation.postLeaves, (answers)));
        hostile.accomplice().act(address(federation), abi.encodeCall(IFederation.requestModelLeaf, (1, 0)));
        vm.assertTrue(hostile.succeeded(), "posted");
        vm.assertEq(federation.creditOf(address(hostile.accomplice())), DEPOSIT);
        vm.assertEq(federation.deposits(), 0);
        _assertOpen(1, 0);
        vm.assertEq(token.balanceOf(address(federation)), held + DEPOSIT);
    }

    /// @notice An overdue request settled inside another voids that one, whose deposit can be taken back.
    function test_Attack13_ASettlementInsideARequestIsBacked() public {
        (ReentrantToken hostile, uint256 held) = _hostileProposal();
        bytes32 root = Trees.root(modelLeaves);
        _requestModel(1, 3);
        vm.warp(block.timestamp + RESPONSE);
        hostile.arm(abi.encodeCall(IFederation.settleRequest, (root, 3)));
        hostile.accomplice().act(address(federation), abi.encodeCall(IFederation.requestModelLeaf, (1, 0)));
        vm.assertTrue(hostile.succeeded(), "settled");
        _assertStatus(1, IFederation.Status.Propose);
        _assertOpen(1, 0);
        vm.assertEq(federation.deposits(), DEPOSIT);
        _settle(root, 0);
        vm.assertEq(federation.creditOf(address(hostile.accomplice())), DEPOSIT);
        vm.assertEq(federation.creditOf(challenger), DEPOSIT + HALF);
        vm.assertEq(token.balanceOf(address(federation)), held + 2 * DEPOSIT);
    }

    // --------------------------------------------------------------- helpers

    function _assertRefusedInside(ReentrantToken hostile, bool isDone) private view {
        vm.assertTrue(isDone, "the outer call goes through");
        vm.assertTrue(hostile.calledBack(), "called back");
        vm.assertFalse(hostile.succeeded(), "the inner call does not");
        vm.assertEq(hostile.answer(), REENTERED);
    }

    function _updateRequest(uint256 i) private view returns (bytes memory) {
        return abi.encodeCall(IFederation.requestUpdateLeaf, (1, 0, i, _verdicts(1, COUNT), _opening(1, i)));
    }

    /// @dev Between two rounds: the accomplice, a standby that has just unbonded, is rich and has credit.
    function _accompliceInEveryRole() private returns (ReentrantToken hostile) {
        vm.warp(START);
        hostile = new ReentrantToken();
        Accomplice accomplice = hostile.accomplice();
        address[] memory saved = aggregators;
        aggregators[1] = address(accomplice);
        _use(address(hostile));
        aggregators = saved;
        _bond(aggregators[0]);
        _give(address(accomplice), 100 * uint256(BOND));
        accomplice.act(address(federation), abi.encodeCall(IFederation.bond, ()));
        accomplice.act(address(federation), abi.encodeCall(IFederation.unbond, ()));
    }

    function _use(address hostile) private {
        IFederation.Terms memory terms = _terms();
        terms.money.token = IERC20(hostile);
        token = IERC20(hostile);
        federation = _deploy(terms);
        _give(challenger, PURSE);
    }

    /// @dev A proposal in a federation whose token can call back; and what the federation holds.
    function _hostileProposal() private returns (ReentrantToken hostile, uint256 held) {
        vm.warp(START);
        hostile = new ReentrantToken();
        _use(address(hostile));
        _give(address(hostile.accomplice()), PURSE);
        _proposedModel(COUNT);
        held = token.balanceOf(address(federation));
    }

    function _refuseEveryPull(bytes memory funding, bytes memory joining, bytes memory bonding) private {
        _give(address(this), 100);
        token.approve(address(federation), 100);
        vm.expectRevert(funding);
        federation.fund(100);
        _give(stranger, STAKE);
        vm.expectRevert(joining);
        _joinAs(stranger);
        _give(aggregators[0], BOND);
        vm.expectRevert(bonding);
        vm.prank(aggregators[0]);
        federation.bond();
        vm.assertEq(federation.escrow(), 0);
        vm.assertEq(federation.activeCount(), 0);
        _assertAggregator(aggregators[0], IFederation.AggregatorState.Listed);
    }
}
