// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IFederation} from "../src/IFederation.sol";
import {World} from "./kit/World.sol";

/// @dev join, leave, evict, invitations and announcements.
contract MembershipTest is World {
    // ------------------------------------------------------------------- join

    /// @notice Joining takes the stake and an active seat from this block on.
    function test_JoiningTakesTheStake() public {
        _give(_participant(0), STAKE);
        vm.expectEmit(address(federation));
        emit IFederation.Joined(_participant(0), STAKE);
        _joinAs(_participant(0));
        IFederation.Participant memory participant = federation.getParticipant(_participant(0));
        vm.assertEq(participant.stake, STAKE);
        vm.assertEq(participant.unlockAt, 0);
        vm.assertEq(participant.joinedBlock, block.number);
        vm.assertEq(participant.lastCommitted, 0);
        vm.assertTrue(participant.active, "active");
        vm.assertEq(federation.activeCount(), 1);
        vm.assertEq(token.balanceOf(address(federation)), STAKE);
    }

    /// @notice One seat an account.
    function test_RevertWhen_JoiningTwice() public {
        _join(1);
        vm.expectRevert(abi.encodeWithSelector(IFederation.AlreadyJoined.selector, _participant(0)));
        _joinAs(_participant(0));
    }

    /// @notice No more seats than the terms have; a seat that is left is free at once.
    function test_RevertWhen_AllSeatsAreTaken() public {
        _join(SEATS);
        _give(stranger, STAKE);
        vm.expectRevert(abi.encodeWithSelector(IFederation.FederationFull.selector, SEATS));
        _joinAs(stranger);
        _leave(_participant(3));
        _joinAs(stranger);
        vm.assertEq(federation.activeCount(), SEATS);
    }

    /// @notice An open federation ignores expiry and signature.
    function test_AnOpenFederationAsksForNoInvitation() public {
        _give(stranger, STAKE);
        vm.prank(stranger);
        federation.join(1, "nonsense");
        vm.assertEq(federation.activeCount(), 1);
    }

    // ------------------------------------------------------------------ leave

    /// @notice Leaving gives the seat up at once and the stake back after unbondingSeconds.
    function test_LeavingUnbonds() public {
        _join(2);
        uint40 unlockAt = uint40(block.timestamp) + UNBONDING;
        vm.expectEmit(address(federation));
        emit IFederation.Left(_participant(0), unlockAt);
        _leave(_participant(0));
        vm.assertEq(federation.activeCount(), 1);
        IFederation.Participant memory participant = federation.getParticipant(_participant(0));
        vm.assertEq(participant.unlockAt, unlockAt);
        vm.assertEq(participant.stake, STAKE);
        vm.assertFalse(participant.active, "active");
        vm.warp(unlockAt - 1);
        vm.expectRevert(abi.encodeWithSelector(IFederation.NothingToWithdraw.selector, _participant(0)));
        _withdraw(_participant(0));
        vm.warp(unlockAt);
        vm.expectEmit(address(federation));
        emit IFederation.StakeReleased(_participant(0), STAKE);
        vm.assertEq(_withdraw(_participant(0)), STAKE);
        IFederation.Participant memory none;
        vm.assertEq(abi.encode(federation.getParticipant(_participant(0))), abi.encode(none));
    }

    /// @notice Nobody leaves without a seat, or twice.
    function test_RevertWhen_LeavingWithoutASeatOrTwice() public {
        vm.expectRevert(abi.encodeWithSelector(IFederation.NotJoined.selector, stranger));
        _leave(stranger);
        _join(1);
        _leave(_participant(0));
        vm.expectRevert(abi.encodeWithSelector(IFederation.AlreadyLeaving.selector, _participant(0), START + UNBONDING));
        _leave(_participant(0));
    }

    /// @notice Who comes back while leaving pays nothing, and the time of unbonding is forgotten.
    function test_ComingBackWhileLeaving() public {
        _join(1);
        _leave(_participant(0));
        vm.warp(START + UNBONDING - 1);
        _mine();
        _joinAs(_participant(0));
        IFederation.Participant memory participant = federation.getParticipant(_participant(0));
        vm.assertEq(participant.unlockAt, 0);
        vm.assertEq(participant.joinedBlock, block.number);
        vm.assertTrue(participant.active, "active");
        vm.warp(START + 2 * UNBONDING);
        vm.expectRevert(abi.encodeWithSelector(IFederation.NothingToWithdraw.selector, _participant(0)));
        _withdraw(_participant(0));
        vm.assertEq(token.balanceOf(_participant(0)), 0);
    }

    /// @notice A seat that lost its stake's part leaves with the rest, and is counted once.
    function test_APenalizedSeatLeaves() public {
        uint256 round = _penalizedOf(2);
        vm.assertEq(federation.activeCount(), 1);
        _leave(_participant(1));
        vm.assertEq(federation.activeCount(), 1);
        vm.warp(block.timestamp + UNBONDING);
        vm.assertEq(_withdraw(_participant(1)), STAKE - PENALTY);
        vm.assertEq(round, 1);
    }

    // ------------------------------------------------------------------ evict

    /// @notice A seat that missed maxMissed rounds in a row is freed by anybody and unbonds as if it had left.
    function test_AnAbsentSeatIsEvicted() public {
        _missedRounds(2);
        uint40 unlockAt = uint40(block.timestamp) + UNBONDING;
        vm.expectEmit(address(federation));
        emit IFederation.Evicted(_participant(1), unlockAt);
        vm.prank(stranger);
        federation.evict(_participant(1), _list(1, 2));
        IFederation.Participant memory participant = federation.getParticipant(_participant(1));
        vm.assertFalse(participant.active, "active");
        vm.assertEq(participant.unlockAt, unlockAt);
        vm.assertEq(participant.stake, STAKE);
        vm.assertEq(federation.activeCount(), 1);
        vm.warp(unlockAt);
        vm.assertEq(_withdraw(_participant(1)), STAKE);
    }

    /// @notice An evicted seat may come back, and then starts afresh: old misses do not count again.
    function test_AnEvictedSeatComesBack() public {
        _missedRounds(2);
        federation.evict(_participant(1), _list(1, 2));
        _mine();
        _joinAs(_participant(1));
        vm.assertTrue(federation.getParticipant(_participant(1)).active, "active");
        _refuseNotMissed(1, _list(1, 2));
    }

    /// @notice The list has exactly maxMissed rounds, strictly ascending.
    function test_RevertWhen_TheListIsNotRight() public {
        _missedRounds(3);
        uint256[] memory rounds = new uint256[](1);
        rounds[0] = 1;
        vm.expectRevert(abi.encodeWithSelector(IFederation.MissedCount.selector, 1, 2));
        federation.evict(_participant(1), rounds);
        vm.expectRevert(abi.encodeWithSelector(IFederation.MissedCount.selector, 0, 2));
        federation.evict(_participant(1), new uint256[](0));
        vm.expectRevert(abi.encodeWithSelector(IFederation.MissedOrder.selector, 2, 1));
        federation.evict(_participant(1), _list(2, 1));
        vm.expectRevert(abi.encodeWithSelector(IFederation.MissedOrder.selector, 2, 2));
        federation.evict(_participant(1), _list(2, 2));
        vm.expectRevert(abi.encodeWithSelector(IFederation.MissedOrder.selector, 0, 0));
        federation.evict(_participant(1), _list(0, 1));
        federation.evict(_participant(1), _list(1, 3)); // those in between may be left out
    }

    /// @notice Only seats are evicted: not strangers, nor who is leaving already.
    function test_RevertWhen_ThereIsNoSeat() public {
        _missedRounds(2);
        vm.expectRevert(abi.encodeWithSelector(IFederation.NotJoined.selector, stranger));
        federation.evict(stranger, _list(1, 2));
        _leave(_participant(1));
        vm.expectRevert();
        federation.evict(_participant(1), _list(1, 2));
        vm.assertEq(federation.getParticipant(_participant(1)).unlockAt, block.timestamp + UNBONDING);
        vm.assertEq(federation.activeCount(), 1);
    }

    /// @notice Rounds up to the seat's last commitment do not count: the misses are in a row.
    function test_RevertWhen_TheSeatCommittedSince() public {
        _missedRounds(1);
        _mine();
        uint256 round = _open();
        _commitAll(round, 2);
        _revealAll(round, 2);
        _propose(round, _verdicts(round, 2));
        _finalize(round, _verdicts(round, 2));
        vm.assertEq(federation.getParticipant(_participant(1)).lastCommitted, 2);
        _missedRounds(1);
        vm.expectRevert(abi.encodeWithSelector(IFederation.MissedOrder.selector, 2, 1));
        federation.evict(_participant(1), _list(1, 3));
        vm.expectRevert(abi.encodeWithSelector(IFederation.MissedOrder.selector, 2, 2));
        federation.evict(_participant(1), _list(2, 3));
        _missedRounds(1);
        federation.evict(_participant(1), _list(3, 4));
    }

    /// @notice Rounds that opened before the seat joined, or in that very block, do not count.
    function test_RevertWhen_TheSeatJoinedLater() public {
        _missedRounds(1);
        _mine();
        _joinOne(_participant(2));
        _fund(ESCROW);
        uint256 second = _openUnseeded(); // in the block of the joining
        _mine();
        federation.fixSeed(second);
        _playFirst(second);
        _missedRounds(1);
        _refuseNotMissedOf(_participant(2), 1, _list(1, 3));
        _refuseNotMissedOf(_participant(2), 2, _list(2, 3));
        _missedRounds(1);
        federation.evict(_participant(2), _list(3, 4));
    }

    /// @notice A round counts once its commit phase is over, and not while the seat can still commit.
    function test_RevertWhen_TheSeatCanStillCommit() public {
        _missedRounds(1);
        _mine();
        uint256 round = _open();
        _commit(round, 0);
        vm.warp(federation.getRound(round).commitDeadline - 1);
        _refuseNotMissed(2, _list(1, 2));
        vm.warp(federation.getRound(round).commitDeadline);
        federation.evict(_participant(1), _list(1, 2));
    }

    /// @notice Rounds that do not exist or have no seed do not count.
    function test_RevertWhen_TheRoundHasNoSeed() public {
        _missedRounds(1);
        _refuseNotMissed(2, _list(1, 2));
        _mine();
        uint256 round = _openUnseeded();
        _refuseNotMissed(2, _list(1, 2));
        vm.roll(block.number + 257);
        vm.warp(block.timestamp + 10_000);
        _refuseNotMissed(2, _list(1, 2));
        federation.abandon(round);
        _refuseNotMissed(2, _list(1, 2));
    }

    /// @notice A full round is never a missed one.
    function test_RevertWhen_TheRoundWasFull() public {
        IFederation.Terms memory terms = _terms();
        terms.seats.roundSeats = 1;
        terms.seats.maxMissed = 1;
        federation = _deploy(terms);
        _fund(20_000);
        _bond(aggregators[0]);
        _join(2);
        _mine();
        _playFirst(_open());
        uint256[] memory rounds = new uint256[](1);
        rounds[0] = 1;
        _refuseNotMissed(1, rounds);
    }

    /// @notice Who was not asked did not miss.
    function test_RevertWhen_TheSeatWasNotAsked() public {
        IFederation.Terms memory terms = _terms();
        terms.seats.roundTarget = 3;
        terms.seats.maxMissed = 1;
        federation = _deploy(terms);
        uint256 round = _openWith(SEATS);
        vm.warp(block.timestamp + COMMIT);
        federation.abandon(round);
        uint256[] memory rounds = new uint256[](1);
        rounds[0] = round;
        uint256 asked = 0;
        for (uint256 i = 0; i < SEATS; ++i) {
            if (federation.isEligible(round, _participant(i))) {
                asked += 1;
                federation.evict(_participant(i), rounds);
            } else {
                _refuseNotMissedOf(_participant(i), round, rounds);
            }
        }
        vm.assertEq(federation.activeCount(), SEATS - asked);
        vm.assertGt(asked, 0, "somebody was asked");
    }

    /// @notice Who committed did not miss, revealed or not.
    function test_RevertWhen_TheSeatCommitted() public {
        IFederation.Terms memory terms = _terms();
        terms.seats.maxMissed = 1;
        federation = _deploy(terms);
        uint256 round = _openWith(3);
        _commitAll(round, 2);
        vm.warp(block.timestamp + COMMIT);
        _reveal(round, 0);
        uint256[] memory rounds = new uint256[](1);
        rounds[0] = round;
        for (uint256 i = 0; i < 2; ++i) {
            vm.expectRevert();
            federation.evict(_participant(i), rounds);
        }
        federation.evict(_participant(2), rounds);
    }

    /// @notice A seat that was penalized and never filled up again can be sent home: it is counted once.
    function test_CountsStayRightWhenAPenalizedSeatIsEvicted() public {
        _penalizedOf(2);
        _propose(1, _verdicts(1, 1));
        _finalize(1, _verdicts(1, 1));
        vm.assertEq(federation.activeCount(), 1);
        _missedRounds(2);
        vm.prank(stranger);
        (bool isEvicted,) = address(federation).call(abi.encodeCall(IFederation.evict, (_participant(1), _list(2, 3))));
        vm.assertEq(federation.activeCount(), 1, isEvicted ? "evicted" : "refused");
    }

    // ------------------------------------------------------------ invitations

    bytes32 private constant DOMAIN =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    bytes32 private constant INVITATION = keccak256("Invitation(address participant,uint40 expiry)");

    /// @notice By invitation only whom the sponsor invited joins, up to the expiry.
    function test_AnInvitedParticipantJoins() public {
        _byInvitation();
        uint40 expiry = uint40(START + 50);
        bytes memory signature = _invitation(SPONSOR_KEY, _participant(0), expiry, address(federation), block.chainid);
        _give(_participant(0), STAKE);
        vm.warp(expiry + 1);
        vm.expectRevert(abi.encodeWithSelector(IFederation.InvitationExpired.selector, expiry + 1, expiry));
        vm.prank(_participant(0));
        federation.join(expiry, signature);
        vm.warp(expiry); // its last second
        vm.prank(_participant(0));
        federation.join(expiry, signature);
        vm.assertTrue(federation.getParticipant(_participant(0)).active, "active");
    }

    /// @notice An invitation holds for its participant, expiry, federation and chain, and is the sponsor's.
    function test_RevertWhen_TheInvitationIsNotForThis() public {
        _byInvitation();
        IFederation other = _deploy(federation.terms());
        uint40 expiry = uint40(START + 50);
        address account = _participant(0);
        _give(account, STAKE);
        uint256 chain = block.chainid;
        bytes[7] memory signatures = [
            _invitation(SPONSOR_KEY, _participant(1), expiry, address(federation), chain),
            _invitation(SPONSOR_KEY, account, expiry + 1, address(federation), chain),
            _invitation(SPONSOR_KEY, account, expiry, address(other), chain),
            _invitation(SPONSOR_KEY, account, expiry, factory.implementation(), chain),
            _invitation(SPONSOR_KEY, account, expiry, address(federation), chain + 1),
            _invitation(SPONSOR_KEY + 1, account, expiry, address(federation), chain),
            bytes("")
        ];
        for (uint256 i = 0; i < 7; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IFederation.InvalidInvitation.selector, account, expiry));
            vm.prank(account);
            federation.join(expiry, signatures[i]);
        }
        vm.prank(account);
        federation.join(expiry, _invitation(SPONSOR_KEY, account, expiry, address(federation), chain));
    }

    /// @notice After a fork of the chain, invitations of the other branch are worth nothing.
    function test_RevertWhen_TheChainForked() public {
        _byInvitation();
        uint40 expiry = uint40(START + 50);
        bytes memory signature = _invitation(SPONSOR_KEY, _participant(0), expiry, address(federation), block.chainid);
        _give(_participant(0), STAKE);
        vm.chainId(block.chainid + 7);
        vm.expectRevert(abi.encodeWithSelector(IFederation.InvalidInvitation.selector, _participant(0), expiry));
        vm.prank(_participant(0));
        federation.join(expiry, signature);
    }

    /// @notice A sponsor that is a contract invites by EIP-1271.
    function test_AContractInvites() public {
        Wallet wallet = new Wallet();
        IFederation.Terms memory terms = _terms();
        terms.seats.byInvitation = true;
        vm.prank(address(wallet));
        federation = IFederation(factory.create(terms, aggregators));
        uint40 expiry = uint40(START + 50);
        _give(_participant(0), STAKE);
        vm.expectRevert(abi.encodeWithSelector(IFederation.InvalidInvitation.selector, _participant(0), expiry));
        vm.prank(_participant(0));
        federation.join(expiry, "x");
        wallet.approve(_digestOf(_participant(0), expiry, address(federation), block.chainid));
        vm.prank(_participant(0));
        federation.join(expiry, "x");
        vm.assertEq(federation.activeCount(), 1);
    }

    /// @notice Who comes back needs an invitation that still holds.
    function test_ComingBackNeedsAnInvitation() public {
        _byInvitation();
        uint40 expiry = uint40(START + 50);
        bytes memory signature = _invitation(SPONSOR_KEY, _participant(0), expiry, address(federation), block.chainid);
        _give(_participant(0), STAKE);
        vm.prank(_participant(0));
        federation.join(expiry, signature);
        _leave(_participant(0));
        vm.expectRevert();
        _joinAs(_participant(0));
        vm.prank(_participant(0));
        federation.join(expiry, signature);
    }

    // --------------------------------------------------------------- announce

    /// @notice An announcement is an event and nothing else, of at most 512 bytes.
    function test_AnAnnouncementIsAnEvent() public {
        vm.expectEmit(address(federation));
        emit IFederation.Announced(stranger, "/dns4/example.org/tcp/4001/p2p/12D3KooW");
        vm.prank(stranger);
        federation.announce("/dns4/example.org/tcp/4001/p2p/12D3KooW");
        federation.announce(string(new bytes(512)));
        vm.expectRevert(abi.encodeWithSelector(IFederation.WhereaboutsTooLong.selector, 513, 512));
        federation.announce(string(new bytes(513)));
    }

    // --------------------------------------------------------------- helpers

    /// @dev Plays rounds in which the first participant takes part and the others do not.
    function _missedRounds(uint256 rounds) private {
        if (federation.roundCount() == 0) {
            _ready(2);
            _fund(20_000);
        }
        for (uint256 i = 0; i < rounds; ++i) {
            _mine();
            _playFirst(_open());
        }
    }

    function _playFirst(uint256 round) private {
        _commit(round, 0);
        _revealAll(round, 1);
        _propose(round, _verdicts(round, 1));
        _finalize(round, _verdicts(round, 1));
    }

    /// @dev The second of `count` committed, did not reveal, and was penalized; the first revealed.
    function _penalizedOf(uint256 count) private returns (uint256 round) {
        _ready(count);
        _fund(20_000);
        round = _open();
        _commitAll(round, count);
        vm.warp(federation.getRound(round).commitDeadline);
        _reveal(round, 0);
        vm.warp(federation.getRound(round).revealDeadline);
        federation.penalize(round, _participant(1));
    }

    function _list(uint256 first, uint256 second) private pure returns (uint256[] memory rounds) {
        rounds = new uint256[](2);
        (rounds[0], rounds[1]) = (first, second);
    }

    function _refuseNotMissed(uint256 round, uint256[] memory rounds) private {
        _refuseNotMissedOf(_participant(1), round, rounds);
    }

    /// @dev `round` is the one of the list that does not count.
    function _refuseNotMissedOf(address account, uint256 round, uint256[] memory rounds) private {
        vm.expectRevert(abi.encodeWithSelector(IFederation.NotMissed.selector, round, account));
        federation.evict(account, rounds);
    }

    function _byInvitation() private {
        IFederation.Terms memory terms = _terms();
        terms.seats.byInvitation = true;
        federation = _deploy(terms);
    }

    function _digestOf(address account, uint40 expiry, address at, uint256 chain) private pure returns (bytes32) {
        bytes32 domain = keccak256(abi.encode(DOMAIN, keccak256("Commonweight"), keccak256("2"), chain, at));
        return keccak256(abi.encodePacked(hex"1901", domain, keccak256(abi.encode(INVITATION, account, expiry))));
    }

    function _invitation(uint256 key, address account, uint40 expiry, address at, uint256 chain)
        private
        pure
        returns (bytes memory)
    {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, _digestOf(account, expiry, at, chain));
        return abi.encodePacked(r, s, v);
    }
}

/// @dev A contract wallet that signs by keeping the digest.
contract Wallet {
    mapping(bytes32 digest => bool) public isApproved;

    function approve(bytes32 digest) external {
        isApproved[digest] = true;
    }

    function isValidSignature(bytes32 digest, bytes calldata) external view returns (bytes4) {
        return isApproved[digest] ? this.isValidSignature.selector : bytes4(0);
    }
}
