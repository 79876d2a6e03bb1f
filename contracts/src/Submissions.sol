// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Founding} from "./Founding.sol";
import {IFederation} from "./IFederation.sol";
import {Phases} from "./Phases.sol";
import {State} from "./State.sol";

/// @title What participants send: commitments and reveals
/// @dev Functions here are part of the federation's own code: everybody calls them in every round, and a linked library
///      costs each call 3,000 gas.
library Submissions {
    // The points of small order as they are published, the highest bit of the last byte left out: u = 0, 1, the two of
    // order 8, p - 1, p and p + 1, where p = 2^255 - 19. With them a shared secret is 0, whoever holds the other key.
    uint256 private constant HIGHEST_BIT = 0x80;
    uint256 private constant ONE = 1 << 248;
    uint256 private constant ORDER_8 = 0xe0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800;
    uint256 private constant ORDER_8_TOO = 0x5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157;
    uint256 private constant P_LESS_1 = 0xecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f;
    uint256 private constant P = 0xedffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f;
    uint256 private constant P_AND_1 = 0xeeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f;

    /// @notice See IFederation.commit.
    function commit(State storage state, uint256 round, bytes32 commitment) internal {
        Founding.requireClear();
        _enter(state, round, commitment);
    }

    /// @notice See IFederation.commitMasked.
    /// @dev The key is not stored. Peers use the one that is published here, and the commitment is only compared with
    ///      that of the reveal: who commits to another key than it publishes has peers that mask with the latter.
    function commitMasked(State storage state, uint256 round, bytes32 commitment, bytes32 publicKey) internal {
        Founding.requireMasked();
        if (_isWeak(uint256(publicKey) & ~HIGHEST_BIT)) revert IFederation.WeakKey(publicKey);
        _enter(state, round, commitment);
        emit IFederation.KeyPublished(round, msg.sender, publicKey);
    }

    /// @notice See IFederation.reveal.
    function reveal(State storage state, uint256 round, bytes32 root, bytes32 manifest, uint32 examples, bytes32 salt)
        internal
    {
        Founding.requireClear();
        _requireReveal(state, round, root, manifest, examples);
        _settle(
            state,
            round,
            keccak256(abi.encode(address(this), round, msg.sender, root, manifest, examples, salt)),
            IFederation.Opening({root: root, manifest: manifest, examples: examples})
        );
        emit IFederation.Revealed(round, msg.sender, root, manifest, examples, salt);
    }

    /// @notice See IFederation.revealMasked.
    function revealMasked(State storage state, uint256 round, IFederation.MaskedReveal calldata r) internal {
        Founding.requireMasked();
        _requireReveal(state, round, r.root, r.manifest, r.examples);
        if (r.secrets == 0) revert IFederation.ZeroDigest();
        _settle(
            state,
            round,
            keccak256(abi.encode(address(this), round, msg.sender, r.publicKey, r.examples, r.salt)),
            IFederation.Opening({
                root: r.root, manifest: keccak256(abi.encode(r.manifest, r.secrets)), examples: r.examples
            })
        );
        emit IFederation.Revealed(round, msg.sender, r.root, r.manifest, r.examples, r.salt);
        emit IFederation.SecretsBound(round, msg.sender, r.secrets);
    }

    function _enter(State storage state, uint256 round, bytes32 commitment) private {
        IFederation.Seats memory seats = Founding.seats();
        IFederation.Round storage r = state.rounds[round];
        uint8 order = r.committed;
        if (order >= seats.roundSeats) revert IFederation.RoundFull(round, seats.roundSeats);
        Phases.requireStatus(state, round, IFederation.Status.Commit);
        if (commitment == 0) revert IFederation.ZeroDigest();
        IFederation.Participant storage participant = state.participants[msg.sender];
        if (!participant.active || participant.joinedBlock >= r.openedBlock) {
            revert IFederation.NotActive(round, msg.sender);
        }
        if (!Phases.isEligible(state, round, msg.sender, seats.roundTarget)) {
            revert IFederation.NotEligible(round, msg.sender);
        }
        Phases.requireSubmission(state, round, msg.sender, IFederation.SubmissionState.None);
        state.submissions[round][msg.sender] = IFederation.Submission({
            digest: bytes30(commitment), order: order, state: IFederation.SubmissionState.Committed
        });
        r.committed = order + 1;
        participant.lastCommitted = uint32(round);
        emit IFederation.Committed(round, msg.sender, commitment);
    }

    function _requireReveal(State storage state, uint256 round, bytes32 root, bytes32 manifest, uint32 examples)
        private
        view
    {
        Phases.requireStatus(state, round, IFederation.Status.Reveal);
        Phases.requireSubmission(state, round, msg.sender, IFederation.SubmissionState.Committed);
        if (root == 0 || manifest == 0) revert IFederation.ZeroDigest();
        if (examples == 0) revert IFederation.NoExamples();
    }

    /// @dev Replaces the commitment, if `opened` is it, by the digest of what was revealed, and counts it.
    function _settle(State storage state, uint256 round, bytes32 opened, IFederation.Opening memory opening) private {
        IFederation.Submission storage submission = state.submissions[round][msg.sender];
        bytes30 committed = submission.digest;
        if (bytes30(opened) != committed) revert IFederation.CommitmentMismatch(committed, bytes30(opened));
        submission.digest = bytes30(keccak256(abi.encode(opening)));
        submission.state = IFederation.SubmissionState.Revealed;
        uint32 cap = Founding.seats().weightCap;
        _count(state.rounds[round], opening.examples < cap ? opening.examples : cap);
    }

    function _isWeak(uint256 key) private pure returns (bool) {
        return
            key == 0 || key == ONE || key == ORDER_8 || key == ORDER_8_TOO || key == P_LESS_1 || key == P
                || key == P_AND_1;
    }

    /// @dev The weights of all seats together are below 2^24 (library Limits).
    function _count(IFederation.Round storage r, uint32 weight) private {
        r.revealed += 1;
        r.revealedWeight += uint24(weight);
    }
}
