// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {Federation} from "../src/Federation.sol";
import {IFederation} from "../src/IFederation.sol";
import {
    Accomplice,
    FalseToken,
    FeeToken,
    GenerousToken,
    IdleToken,
    PausableToken,
    ReentrantToken,
    ShrinkingToken,
    SilentToken
} from "./kit/HostileTokens.sol";
import {World} from "./kit/World.sol";

/// @dev A token that
///      ├── delivers less, nothing or more: WrongAmountReceived
///      ├── takes instead: arithmetic panic
///      ├── returns false: SafeERC20FailedOperation
///      ├── returns nothing: taken as success
///      ├── stops transfers: credit stays on record, rounds go on
///      └── calls back: no guarded function is entered twice, and the sums hold through the others
contract HostileTokenTest is World {
    bytes private constant REENTERED =
        abi.encodeWithSelector(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector);

    function test_RevertWhen_TheTokenTakesAFee() public {
        _use(address(new FeeToken()));
        _refuseEveryPull(
            abi.encodeWithSelector(IFederation.WrongAmountReceived.selector, 99, 100),
            abi.encodeWithSelector(IFederation.WrongAmountReceived.selector, STAKE - 1, STAKE),
            abi.encodeWithSelector(IFederation.WrongAmountReceived.selector, BOND - 1, BOND)
        );
    }

    function test_RevertWhen_TheTokenDeliversNothing() public {
        _use(address(new IdleToken()));
        _refuseEveryPull(
            abi.encodeWithSelector(IFederation.WrongAmountReceived.selector, 0, 100),
            abi.encodeWithSelector(IFederation.WrongAmountReceived.selector, 0, STAKE),
            abi.encodeWithSelector(IFederation.WrongAmountReceived.selector, 0, BOND)
        );
    }

    function test_RevertWhen_TheTokenDeliversMore() public {
        _use(address(new GenerousToken()));
        _refuseEveryPull(
            abi.encodeWithSelector(IFederation.WrongAmountReceived.selector, 101, 100),
            abi.encodeWithSelector(IFederation.WrongAmountReceived.selector, STAKE + 1, STAKE),
            abi.encodeWithSelector(IFederation.WrongAmountReceived.selector, BOND + 1, BOND)
        );
    }

    function test_RevertWhen_TheTokenTakesInstead() public {
        _use(address(new ShrinkingToken()));
        require(token.transfer(address(federation), 5));
        bytes memory underflow = abi.encodeWithSignature("Panic(uint256)", 0x11);
        _refuseEveryPull(underflow, underflow, underflow);
    }

    function test_RevertWhen_TheTokenReturnsFalse() public {
        FalseToken liar = new FalseToken();
        _use(address(liar));
        _finalizedWith(1);
        liar.startLying();
        bytes memory failed = abi.encodeWithSelector(SafeERC20.SafeERC20FailedOperation.selector, address(liar));
        vm.expectRevert(failed);
        vm.prank(_participant(0));
        federation.withdraw();
        vm.assertEq(federation.creditOf(_participant(0)), REWARD);
        vm.expectRevert(failed);
        federation.fund(100);
        vm.expectRevert(failed);
        vm.prank(stranger);
        federation.join();
        vm.expectRevert(failed);
        vm.prank(aggregators[2]);
        federation.bond();
    }

    function test_ATokenThatReturnsNothingWorks() public {
        SilentToken silent = new SilentToken();
        IFederation.Terms memory terms = _terms();
        terms.token = IERC20(address(silent));
        federation = _deploy(terms);
        federation.fund(100);
        vm.assertEq(silent.balanceOf(address(federation)), 100);
        _close();
        federation.refund();
        vm.prank(sponsor);
        federation.withdraw();
        vm.assertEq(silent.balanceOf(sponsor), 100);
    }

    function test_APausedTokenDelaysOnlyWithdrawals() public {
        PausableToken pausable = new PausableToken();
        _use(address(pausable));
        uint256 round = _openWith(2);
        pausable.setPaused(true);
        _commitAll(round, 2);
        _revealAll(round, 2);
        _propose(round, _verdicts(2));
        vm.warp(block.timestamp + CHALLENGE);
        federation.finalize(round, _verdicts(2));
        uint256 credit = federation.creditOf(_participant(0));
        vm.expectRevert(abi.encodeWithSelector(PausableToken.Paused.selector));
        vm.prank(_participant(0));
        federation.withdraw();
        vm.assertEq(federation.creditOf(_participant(0)), credit);
        pausable.setPaused(false);
        vm.prank(_participant(0));
        vm.assertEq(federation.withdraw(), credit);
    }

    function test_ABlockedAccountDoesNotStopTheOthers() public {
        PausableToken pausable = new PausableToken();
        _use(address(pausable));
        _finalizedWith(2);
        pausable.setBlocked(_participant(0), true);
        vm.expectRevert(abi.encodeWithSelector(PausableToken.Blocked.selector, _participant(0)));
        vm.prank(_participant(0));
        federation.withdraw();
        vm.prank(_participant(1));
        vm.assertGt(federation.withdraw(), 0, "the other is paid");
        vm.prank(aggregators[0]);
        vm.assertEq(federation.withdraw(), FEE);
    }

    function test_NoGuardedFunctionIsEnteredTwice() public {
        bytes[4] memory calls = [
            abi.encodeCall(Federation.withdraw, ()),
            abi.encodeCall(Federation.join, ()),
            abi.encodeCall(Federation.bond, ()),
            abi.encodeCall(Federation.fund, (1))
        ];
        for (uint256 outer = 0; outer < 4; ++outer) {
            for (uint256 inner = 0; inner < 4; ++inner) {
                ReentrantToken hostile = _accompliceInEveryRole();
                hostile.arm(calls[inner]);
                (bool done,) = hostile.accomplice().act(address(federation), calls[outer]);
                vm.assertTrue(done, "the outer call goes through");
                vm.assertTrue(hostile.calledBack(), "called back");
                vm.assertTrue(!hostile.succeeded(), "the inner call does not");
                vm.assertEq(hostile.answer(), REENTERED);
            }
        }
    }

    function test_AWithdrawalThatLeavesOnTheWayIsPaidOnce() public {
        ReentrantToken hostile = _accompliceInEveryRole();
        Accomplice accomplice = hostile.accomplice();
        accomplice.act(address(federation), abi.encodeCall(Federation.join, ()));
        uint256 before = token.balanceOf(address(accomplice));
        hostile.arm(abi.encodeCall(Federation.leave, ()));
        accomplice.act(address(federation), abi.encodeCall(Federation.withdraw, ()));
        vm.assertTrue(hostile.succeeded(), "leave is not guarded, and need not be");
        vm.assertEq(token.balanceOf(address(accomplice)), before + BOND);
        vm.assertEq(federation.creditOf(address(accomplice)), 0);
        vm.assertEq(federation.getParticipant(address(accomplice)).stake, STAKE);
        vm.assertEq(token.balanceOf(address(federation)), STAKE);
    }

    function test_ARefundInsideAFundingIsBacked() public {
        ReentrantToken hostile = _accompliceInEveryRole();
        Accomplice accomplice = hostile.accomplice();
        hostile.arm(abi.encodeCall(Federation.refund, ()));
        accomplice.act(address(federation), abi.encodeCall(Federation.fund, (70)));
        vm.assertTrue(hostile.succeeded(), "refund is not guarded, and need not be");
        vm.assertEq(federation.creditOf(sponsor), 70);
        vm.assertEq(federation.escrow(), 0);
        vm.assertEq(token.balanceOf(address(federation)), 70 + BOND);
    }

    /// @dev A federation that is over, whose second aggregator, rich and with credit, is the accomplice.
    function _accompliceInEveryRole() private returns (ReentrantToken hostile) {
        vm.warp(START);
        hostile = new ReentrantToken();
        Accomplice accomplice = hostile.accomplice();
        address[] memory saved = aggregators;
        aggregators[0] = address(accomplice);
        _use(address(hostile));
        aggregators = saved;
        _give(address(accomplice), 100 * BOND);
        accomplice.act(address(federation), abi.encodeCall(Federation.bond, ()));
        _close();
        accomplice.act(address(federation), abi.encodeCall(Federation.unbond, ()));
    }

    function _use(address hostile) private {
        IFederation.Terms memory terms = _terms();
        terms.token = IERC20(hostile);
        token = IERC20(hostile);
        federation = _deploy(terms);
    }

    function _refuseEveryPull(bytes memory funding, bytes memory joining, bytes memory bonding) private {
        _give(address(this), 100);
        token.approve(address(federation), 100);
        vm.expectRevert(funding);
        federation.fund(100);
        _give(stranger, STAKE);
        vm.expectRevert(joining);
        vm.prank(stranger);
        federation.join();
        _give(aggregators[0], BOND);
        vm.expectRevert(bonding);
        vm.prank(aggregators[0]);
        federation.bond();
        vm.assertEq(federation.escrow(), 0);
        vm.assertEq(federation.activeCount(), 0);
        _assertAggregator(aggregators[0], IFederation.AggregatorState.Listed);
    }
}
