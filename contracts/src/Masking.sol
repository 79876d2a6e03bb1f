// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Founding} from "./Founding.sol";
import {IFederation} from "./IFederation.sol";
import {Lead} from "./Lead.sol";
import {Phases} from "./Phases.sol";
import {Sets} from "./Sets.sol";
import {Stakes} from "./Stakes.sol";
import {State} from "./State.sol";

/// @title How the sum of masked updates is opened: the set, the secrets, and what becomes of a round without them
/// @dev Linked; the federation calls it with its own storage.
library Masking {
    uint256 private constant FULL = 10_000; // basis points
    uint256 private constant HASH_BLOCKS = 256; // as far back as a block's hash can be had

    /// @notice See IFederation.sealSet.
    /// @dev Once: after it the round is not in this phase any more, whoever leads. Two sums over different sets would
    ///      open the updates in which they differ.
    function sealSet(State storage state, uint256 round, IFederation.Verdict[] calldata verdicts) external {
        Founding.requireMasked();
        Phases.requireStatus(state, round, IFederation.Status.Seal);
        Lead.requireCurrent(state);
        IFederation.Sum memory sum = _readSet(state, round, verdicts);
        if (sum.size == 0) {
            emit IFederation.SetSealed(round, msg.sender, 0, 0, 0, verdicts);
            Lead.abandon(state, round);
            return;
        }
        uint256 required = _leastSize(state.rounds[round].revealed);
        if (sum.size < required) revert IFederation.SetTooSmall(sum.size, required);
        IFederation.Windows memory windows = Founding.windows();
        sum.sealedBlock = uint40(block.number);
        sum.unmaskDeadline = uint40(block.timestamp) + windows.unmaskSeconds;
        sum.assistDeadline = sum.unmaskDeadline + windows.assistSeconds;
        uint40 proposeDeadline = sum.assistDeadline + windows.proposeSeconds;
        state.sums[round] = sum;
        state.rounds[round].nextDeadline = proposeDeadline;
        emit IFederation.SetSealed(round, msg.sender, sum.unmaskDeadline, sum.assistDeadline, proposeDeadline, verdicts);
    }

    /// @notice See IFederation.fixSketch.
    /// @dev The seal's block has no hash before the next one, so that nobody knows the vectors when the set is chosen.
    function fixSketch(State storage state, uint256 round) external {
        Founding.requireMasked();
        IFederation.Sum memory sum = state.sums[round];
        // slither-disable-next-line unused-return
        _requireOpening(state, round, sum);
        if (sum.sketchSeed != 0) revert IFederation.SketchIsFixed(round);
        uint256 sealedBlock = sum.sealedBlock;
        if (block.number <= sealedBlock) revert IFederation.SketchTooEarly(block.number, sealedBlock);
        bool hasHash = block.number <= sealedBlock + HASH_BLOCKS;
        bytes32 hash = blockhash(hasHash ? sealedBlock : block.number - 1);
        bytes32 sketchSeed = keccak256(abi.encode(hash, block.prevrandao));
        state.sums[round].sketchSeed = sketchSeed;
        emit IFederation.SketchFixed(round, sketchSeed);
    }

    /// @notice See IFederation.unmask.
    function unmask(State storage state, uint256 round, IFederation.Secrets calldata secrets, bytes32 sketch) external {
        Founding.requireMasked();
        IFederation.Sum memory sum = state.sums[round];
        bool isAssist = _requireOpening(state, round, sum);
        if (sum.sketchSeed == 0) revert IFederation.SketchNotFixed(round);
        address participant = _requireRank(sum, round, secrets);
        bool isOwn = msg.sender == participant;
        if (!isOwn && !isAssist) {
            revert IFederation.WrongStatus(round, IFederation.Status.Assist, IFederation.Status.Unmask);
        }
        Phases.requireSubmission(state, round, participant, IFederation.SubmissionState.Revealed);
        IFederation.Submission storage submission = state.submissions[round][participant];
        submission.digest = _open(secrets, sum.byRank, participant, submission.digest);
        state.sums[round].unmasked = sum.unmasked + 1;
        emit IFederation.Unmasked(
            round, participant, msg.sender, secrets.ownSeed, secrets.seeds, isOwn ? sketch : bytes32(0)
        );
        if (isOwn) submission.state = IFederation.SubmissionState.Unmasked;
        else Stakes.penalize(state, round, participant, IFederation.SubmissionState.Recovered);
    }

    /// @notice See IFederation.assist.
    function assist(State storage state, uint256 round, address silent, bytes32[] calldata shares) external {
        Founding.requireMasked();
        Phases.requireStatus(state, round, IFederation.Status.Assist);
        IFederation.Sum storage sum = state.sums[round];
        uint256 byOrder = sum.byOrder;
        Sets.requireIn(byOrder, round, msg.sender, state.submissions[round][msg.sender]);
        Sets.requireIn(byOrder, round, silent, state.submissions[round][silent]);
        Phases.requireSubmission(state, round, silent, IFederation.SubmissionState.Revealed);
        uint256 required = 1 + state.rounds[round].committed - sum.size;
        if (shares.length != required) revert IFederation.SecretCount(shares.length, required);
        emit IFederation.Assisted(round, silent, msg.sender, shares);
    }

    /// @notice See IFederation.object.
    function object(State storage state, uint256 round) external {
        Founding.requireMasked();
        Phases.requireStatus(state, round, IFederation.Status.Challenge);
        // Only members of the set come that far.
        Phases.requireSubmission(state, round, msg.sender, IFederation.SubmissionState.Unmasked);
        state.submissions[round][msg.sender].state = IFederation.SubmissionState.Objected;
        state.sums[round].objections += 1;
        emit IFederation.Objected(round, msg.sender);
    }

    /// @notice See IFederation.postStreams.
    /// @dev No money depends on it, so that nothing is checked but that the caller is asked.
    function postStreams(State storage state, uint256 round, bytes32 streams) external {
        Founding.requireMasked();
        if (!_hasUnmasked(state.submissions[round][msg.sender].state)) {
            Phases.requireSubmission(state, round, msg.sender, IFederation.SubmissionState.Unmasked);
        }
        if (!Phases.isObjected(state, round)) {
            revert IFederation.WrongStatus(round, IFederation.Status.Void, Phases.status(state, round));
        }
        emit IFederation.StreamsPosted(round, msg.sender, streams);
    }

    /// @notice See IFederation.voidRound.
    function voidRound(
        State storage state,
        uint256 round,
        bytes calldata members,
        IFederation.Opening[] calldata openings
    ) external {
        Founding.requireMasked();
        Phases.requireStatus(state, round, IFederation.Status.Void);
        Lead.withdrawProposal(state.rounds[round]);
        state.escrow -= _creditUnmasked(state, round, members, openings);
        emit IFederation.Voided(round);
        Lead.abandon(state, round);
    }

    /// @dev The set that the verdicts on all that committed name, deadlines aside.
    function _readSet(State storage state, uint256 round, IFederation.Verdict[] calldata verdicts)
        private
        view
        returns (IFederation.Sum memory sum)
    {
        uint256 committed = state.rounds[round].committed;
        if (verdicts.length != committed) revert IFederation.VerdictCount(verdicts.length, committed);
        uint256 cap = Founding.seats().weightCap;
        bytes memory members = "";
        address previous = address(0);
        for (uint256 i = 0; i < committed; ++i) {
            address participant = verdicts[i].participant;
            if (participant <= previous) revert IFederation.VerdictOrder(previous, participant);
            IFederation.Submission memory submission = state.submissions[round][participant];
            if (_isInSet(round, verdicts[i], submission, cap)) {
                sum.size += 1;
                sum.byOrder |= uint32(1 << submission.order);
                sum.byRank |= uint32(1 << i);
            }
            members = bytes.concat(members, bytes20(participant));
            previous = participant;
        }
        sum.membersHash = keccak256(members);
    }

    /// @dev Whether the verdict puts the update into the set. Reverts unless it fits what was submitted.
    function _isInSet(
        uint256 round,
        IFederation.Verdict calldata v,
        IFederation.Submission memory submission,
        uint256 cap
    ) private pure returns (bool isIn) {
        if (submission.state == IFederation.SubmissionState.None) {
            revert IFederation.WrongSubmissionState(
                round, v.participant, IFederation.SubmissionState.Committed, submission.state
            );
        }
        bool isRevealed = submission.state == IFederation.SubmissionState.Revealed;
        bytes30 revealed = isRevealed ? submission.digest : bytes30(0);
        if (v.revealed != revealed) revert IFederation.RevealMismatch(v.participant, v.revealed, revealed);
        isIn = v.weight != 0;
        bool isValid = isIn
            ? isRevealed && v.weight <= cap && v.score == FULL && v.reason == 0
            : v.score == 0 && isRevealed == (v.reason != 0);
        if (!isValid) revert IFederation.InvalidVerdict(v.participant, v.weight, v.score, v.reason);
    }

    function _leastSize(uint256 revealed) private view returns (uint256) {
        uint256 least = Founding.rules().minSet;
        uint256 share = (2 * revealed + 2) / 3;
        return share > least ? share : least;
    }

    /// @dev Reverts unless the round is in phase Unmask or Assist; returns whether in the latter.
    ///      By the sum alone, since every participant pays for it: between the seal and the last secret nothing else tells
    ///      where a round stands, and it ends no earlier than at the assist deadline.
    function _requireOpening(State storage state, uint256 round, IFederation.Sum memory sum)
        private
        view
        returns (bool isAssist)
    {
        if (sum.unmasked == sum.size || block.timestamp >= sum.assistDeadline) {
            revert IFederation.WrongStatus(round, IFederation.Status.Unmask, Phases.status(state, round));
        }
        return block.timestamp >= sum.unmaskDeadline;
    }

    /// @dev The member of the set whose secrets these are.
    function _requireRank(IFederation.Sum memory sum, uint256 round, IFederation.Secrets calldata secrets)
        private
        pure
        returns (address participant)
    {
        uint256 count = Sets.requireMembers(sum.membersHash, secrets.members);
        if (secrets.rank < count) participant = Sets.memberAt(secrets.members, secrets.rank);
        if (!Sets.has(sum.byRank, secrets.rank)) revert IFederation.NotInSet(round, participant);
    }

    /// @dev The digest of the opening that stands once the secrets are known. Reverts unless they are what the
    ///      participant was bound to when it revealed.
    function _open(IFederation.Secrets calldata secrets, uint256 byRank, address participant, bytes30 revealed)
        private
        pure
        returns (bytes30)
    {
        IFederation.Opening memory opening = secrets.opening;
        bytes32 bound = keccak256(abi.encodePacked(secrets.commitments));
        opening.manifest = keccak256(abi.encode(opening.manifest, bound));
        bytes30 given = bytes30(keccak256(abi.encode(opening)));
        if (given != revealed) revert IFederation.RevealMismatch(participant, given, revealed);
        _requireSecrets(secrets, byRank);
        opening.manifest = keccak256(abi.encodePacked(opening.manifest, secrets.ownSeed, secrets.seeds));
        return bytes30(keccak256(abi.encode(opening)));
    }

    /// @dev The own seed, and those shared with who is outside the set: the seeds of two members cancel in the sum.
    function _requireSecrets(IFederation.Secrets calldata secrets, uint256 byRank) private pure {
        uint256 count = Sets.countOf(secrets.members);
        uint256 rank = secrets.rank;
        bytes32[] calldata commitments = secrets.commitments;
        bytes32[] calldata seeds = secrets.seeds;
        // Who bound itself to fewer or more cannot open anything: its bundle should have kept it out of the set.
        if (commitments.length != count) revert IFederation.SecretCount(commitments.length, count);
        _requireSecret(0, secrets.ownSeed, commitments[0]);
        uint256 next = 0;
        for (uint256 other = 0; other < count; ++other) {
            if (Sets.has(byRank, other)) continue;
            if (next < seeds.length) {
                // Behind that of the own seed the peers' follow, without the participant.
                uint256 index = other < rank ? other + 1 : other;
                _requireSecret(index, seeds[next], commitments[index]);
            }
            ++next;
        }
        if (seeds.length != next) revert IFederation.SecretCount(seeds.length + 1, next + 1);
    }

    function _requireSecret(uint256 index, bytes32 secret, bytes32 committed) private pure {
        bytes32 given = keccak256(abi.encode(secret));
        if (given != committed) revert IFederation.SecretMismatch(index, given, committed);
    }

    /// @dev Credits half the price to each of the set that posted its secrets itself: its part of the sum is public, or
    ///      nearly so. Returns the sum of what it credited.
    function _creditUnmasked(
        State storage state,
        uint256 round,
        bytes calldata members,
        IFederation.Opening[] calldata openings
    ) private returns (uint128 paid) {
        IFederation.Sum storage sum = state.sums[round];
        uint256 count = Sets.requireMembers(sum.membersHash, members);
        uint256 byRank = sum.byRank;
        uint256 next = 0;
        for (uint256 rank = 0; rank < count; ++rank) {
            if (!Sets.has(byRank, rank)) continue;
            address account = Sets.memberAt(members, rank);
            IFederation.Submission memory submission = state.submissions[round][account];
            if (!_hasUnmasked(submission.state)) continue;
            if (next < openings.length) paid += _creditHalf(state, round, account, openings[next], submission.digest);
            ++next;
        }
        if (openings.length != next) revert IFederation.OpenedCount(openings.length, next);
    }

    /// @dev Whether a member of the set posted its secrets itself.
    function _hasUnmasked(IFederation.SubmissionState state) private pure returns (bool) {
        return state == IFederation.SubmissionState.Unmasked || state == IFederation.SubmissionState.Objected;
    }

    function _creditHalf(
        State storage state,
        uint256 round,
        address account,
        IFederation.Opening calldata opening,
        bytes30 revealed
    ) private returns (uint128 amount) {
        bytes30 given = bytes30(keccak256(abi.encode(opening)));
        if (given != revealed) revert IFederation.RevealMismatch(account, given, revealed);
        uint256 cap = Founding.seats().weightCap;
        uint256 weight = opening.examples < cap ? opening.examples : cap;
        amount = uint128(uint256(Founding.money().updateReward) * weight / (2 * cap));
        if (amount == 0) return 0;
        state.creditOf[account] += amount;
        emit IFederation.Paid(round, account, amount);
    }
}
