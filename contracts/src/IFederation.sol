// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

/// @title The types, events and errors of a federation
/// @notice docs/protocol.md gives the digests byte by byte; docs/threat-model.md says what each rule is for.
interface IFederation {
    /// @notice What the sponsor fixed at deployment. Nothing here can change afterwards.
    /// @param token ERC-20 of rewards, stakes and bonds alike
    /// @param specDigest SHA-256 of the canonical spec, also its IPFS digest
    /// @param initialModelRoot Tree root of the model that round 1 starts from
    /// @param initialModelManifest SHA-256 of that model's manifest
    /// @param leafCount Leaves in an update and in the model
    /// @param treeDepth Depth of the tree over them, padded to a power of two
    /// @param leafValues Values in a leaf; a challenge of maxParticipants leaves must fit into one transaction
    /// @param maxParticipants Participants that can be active at once; at most 512
    /// @param weightCap Largest weight of one participant; maxParticipants * weightCap < 2^31
    /// @param rounds Rounds that can be opened, abandoned ones included
    /// @param samplingFraction Share of participants asked each round, in basis points
    /// @param roundReward Token units shared by the accepted participants of a round
    /// @param aggregatorFee Token units paid to the aggregator of a finalized round with an accepted update
    /// @param participantStake Token units a participant holds while it takes part
    /// @param missedRevealPenalty Part of the stake lost for a commitment never revealed
    /// @param aggregatorBond Token units an aggregator holds until the federation is over
    /// @param availabilityDeposit Token units that demanding a leaf costs: they go to whoever posts it
    /// @param commitSeconds Longest commit phase
    /// @param revealSeconds Longest reveal phase, counted from the commit deadline
    /// @param proposeSeconds Longest wait for a proposal, counted from the reveal deadline
    /// @param challengeSeconds Time between a proposal and its settlement; at least 3 * responseSeconds
    /// @param responseSeconds Time to post a leaf that is demanded; 0: none can be demanded
    /// @param unbondingSeconds Time between leaving and getting the stake back
    /// @param closesAt Unix time after which no round is opened
    struct Terms {
        IERC20 token;
        bytes32 specDigest;
        bytes32 initialModelRoot;
        bytes32 initialModelManifest;
        uint32 leafCount;
        uint8 treeDepth;
        uint32 leafValues;
        uint16 maxParticipants;
        uint32 weightCap;
        uint32 rounds;
        uint16 samplingFraction;
        uint128 roundReward;
        uint128 aggregatorFee;
        uint128 participantStake;
        uint128 missedRevealPenalty;
        uint128 aggregatorBond;
        uint128 availabilityDeposit;
        uint32 commitSeconds;
        uint32 revealSeconds;
        uint32 proposeSeconds;
        uint32 challengeSeconds;
        uint32 responseSeconds;
        uint32 unbondingSeconds;
        uint40 closesAt;
    }

    /// @notice Where a round stands, derived from stored facts and the block's time.
    enum Status {
        None, // not opened
        Commit, // waiting for commitments
        Reveal, // waiting for reveals
        Propose, // waiting for the aggregator
        Expired, // the aggregator's deadline has passed
        Challenge, // proposed, open to challenge, or a leaf that was demanded is overdue
        Settleable, // unchallenged, anybody may finalize
        Finalized,
        Abandoned
    }

    /// @notice How a round ended.
    enum Outcome {
        Open,
        Finalized,
        Abandoned
    }

    /// @notice The facts of a round. Deadlines are Unix times in seconds.
    struct Round {
        uint40 commitDeadline;
        uint40 revealDeadline;
        uint40 proposeDeadline;
        uint40 challengeDeadline; // 0 until a model is proposed
        uint16 expected; // participants active when the round opened
        uint16 committed;
        uint16 revealed;
        Outcome outcome;
        uint32 openRequests; // leaves of the standing proposal that are demanded and not posted
        uint8 proposals; // each but the last was refuted, and its aggregator slashed: at most 8
        bytes32 seed;
        bytes32 modelRoot;
        bytes32 modelManifest;
        bytes32 verdictsHash;
    }

    enum SubmissionState {
        None,
        Committed,
        Revealed,
        Penalized
    }

    /// @notice A participant's submission to a round, in one storage slot.
    /// @param digest First 31 bytes of the commitment, then of keccak256(root, manifest, examples)
    struct Submission {
        bytes31 digest;
        SubmissionState state;
    }

    /// @param stake Token units held
    /// @param unlockAt Unix time at which a leaving participant may take its stake; 0 when not leaving
    /// @param joinedAfterRound Rounds that existed when it joined; it may commit to later ones
    /// @param active Whether it may commit
    struct Participant {
        uint128 stake;
        uint40 unlockAt;
        uint32 joinedAfterRound;
        bool active;
    }

    enum RequestState {
        None,
        Open,
        Posted
    }

    /// @notice A demand to post a leaf, in one storage slot. A root names its bytes: once posted, they are public.
    /// @param challenger Who pays the deposit, and is rewarded when nobody posts the leaf
    /// @param deadline Unix time at which it is too late to post it
    /// @param round Round of the proposal that it is about
    /// @param proposal Number of that proposal in the round, from 1; void when it is not the standing one
    struct AvailabilityRequest {
        address challenger;
        uint40 deadline;
        uint32 round;
        uint8 proposal;
        RequestState state;
    }

    enum AggregatorState {
        Unlisted,
        Listed,
        Bonded,
        Slashed
    }

    /// @notice The aggregator's decision on one revealed update.
    /// @param participant Who revealed it
    /// @param weight min(examples, weightCap), or 0 when rejected
    /// @param score Quality in basis points, or 0 when rejected
    /// @param reason 0 when accepted, else the number of the check it failed (docs/protocol.md)
    struct Verdict {
        address participant;
        uint32 weight;
        uint16 score;
        uint8 reason;
    }

    /// @notice A leaf and the way from it to a root (docs/protocol.md §4).
    /// @param values Its bytes, 4 a value
    /// @param proof Siblings on the way up, the lowest first
    struct Leaf {
        bytes values;
        bytes32[] proof;
    }

    /// @notice What an accepted participant revealed, with one leaf of it.
    struct OpenedUpdate {
        bytes32 root;
        bytes32 manifest;
        uint32 examples;
        Leaf leaf;
    }

    /// @notice The federation exists; `aggregators` are listed in order of precedence.
    event Created(
        address indexed sponsor,
        bytes32 indexed specDigest,
        bytes32 modelRoot,
        bytes32 modelManifest,
        address[] aggregators
    );
    /// @notice `amount` was added to the escrow.
    event Funded(address indexed funder, uint256 amount);
    /// @notice What was never spent was credited to the sponsor.
    event Refunded(address indexed sponsor, uint256 amount);
    /// @notice An aggregator posted its bond.
    event Bonded(address indexed aggregator, uint256 amount);
    /// @notice An aggregator's bond was credited back to it.
    event Unbonded(address indexed aggregator, uint256 amount);
    /// @notice An aggregator lost its bond to the escrow: it left a round unproposed, or was refuted.
    event AggregatorSlashed(uint256 indexed round, address indexed aggregator, uint256 amount);
    /// @notice A proposal was shown to be wrong and is void; `reward` went from the escrow to the challenger's credit.
    event ProposalRefuted(
        uint256 indexed round, address indexed challenger, address indexed aggregator, bytes32 root, uint256 reward
    );
    /// @notice A leaf of the model or of an accepted update must be posted before `deadline`; the deposit was taken.
    event AvailabilityChallenged(
        uint256 indexed round, address indexed challenger, bytes32 root, uint256 leaf, uint40 deadline
    );
    /// @notice A leaf that was demanded is public; the deposit was credited to whoever posted it. The bytes are told
    ///         here too: those of a call through another contract could not be found without running it again.
    event LeafPosted(
        uint256 indexed round, address indexed responder, bytes32 root, uint256 leaf, bytes values, bytes32[] proof
    );
    /// @notice A deposit was credited back: the leaf was not posted in time, or the proposal no longer stands.
    event DepositReturned(uint256 indexed round, address indexed challenger, bytes32 root, uint256 leaf);
    /// @notice A standby took over; `round` is 0 when no round was open.
    event AggregatorReplaced(
        uint256 indexed round, address indexed previous, address indexed current, uint40 proposeDeadline
    );
    /// @notice A participant joined, came back, or filled its stake up by `amount`.
    event Joined(address indexed participant, uint256 amount);
    /// @notice A participant is leaving; its stake is free at `unlockAt`.
    event Left(address indexed participant, uint40 unlockAt);
    /// @notice A participant that left had its stake credited.
    event StakeReleased(address indexed participant, uint256 amount);
    /// @notice A commitment was never revealed; `amount` of the stake went to the escrow.
    event Penalized(uint256 indexed round, address indexed participant, uint256 amount);
    /// @notice Credit was paid out.
    event Withdrawn(address indexed account, uint256 amount);
    /// @notice A round began.
    event RoundOpened(
        uint256 indexed round,
        address indexed aggregator,
        bytes32 seed,
        uint40 commitDeadline,
        uint40 revealDeadline,
        uint40 proposeDeadline,
        uint16 expected
    );
    /// @notice A participant committed to an update.
    event Committed(uint256 indexed round, address indexed participant, bytes32 commitment);
    /// @notice A participant revealed the update it had committed to.
    event Revealed(
        uint256 indexed round,
        address indexed participant,
        bytes32 root,
        bytes32 manifest,
        uint32 examples,
        bytes32 salt
    );
    /// @notice The aggregator proposed the round's model, with its decision on every revealed update.
    event Proposed(
        uint256 indexed round,
        address indexed aggregator,
        bytes32 root,
        bytes32 manifest,
        uint40 challengeDeadline,
        Verdict[] verdicts
    );
    /// @notice A participant was credited its share of the round's reward.
    event Paid(uint256 indexed round, address indexed participant, uint256 amount);
    /// @notice The round's model is settled; `paid` includes the aggregator's fee.
    event Finalized(
        uint256 indexed round, bytes32 root, bytes32 manifest, address indexed aggregator, uint256 fee, uint256 paid
    );
    /// @notice The round ended without a model.
    event Abandoned(uint256 indexed round);

    /// @notice A term given at deployment is out of range.
    error InvalidTerm(bytes32 term, uint256 value);
    /// @notice An aggregator is the zero address or listed twice.
    error InvalidAggregator(address aggregator);
    /// @notice The round is not in the phase this call belongs to.
    error WrongStatus(uint256 round, Status required, Status actual);
    /// @notice Only the current aggregator may do this.
    error NotAggregator(address caller, address aggregator);
    /// @notice The aggregator is not in the state this call asks for.
    error WrongAggregatorState(address aggregator, AggregatorState required, AggregatorState actual);
    /// @notice Another round has not ended.
    error RoundStillOpen(uint256 round, Status actual);
    /// @notice No further round may be opened.
    error FederationOver(uint256 roundCount, uint256 closesAt);
    /// @notice Rounds may still be opened.
    error FederationNotOver(uint256 roundCount, uint256 closesAt);
    /// @notice The escrow does not hold one round's reward and fee.
    error EscrowTooLow(uint256 escrow, uint256 required);
    /// @notice Nobody could commit.
    error NoParticipants();
    /// @notice All seats are taken.
    error FederationFull(uint256 maxParticipants);
    /// @notice The caller takes part already.
    error AlreadyJoined(address participant);
    /// @notice The caller has no stake to leave with.
    error NotJoined(address participant);
    /// @notice The caller is leaving already.
    error AlreadyLeaving(address participant, uint256 unlockAt);
    /// @notice The participant may not commit to this round.
    error NotActive(uint256 round, address participant);
    /// @notice The round's seed did not draw this participant.
    error NotEligible(uint256 round, address participant);
    /// @notice The submission is not in the state this call asks for.
    error WrongSubmissionState(uint256 round, address participant, SubmissionState required, SubmissionState actual);
    /// @notice The revealed values are not those committed to (first 31 bytes compared).
    error CommitmentMismatch(bytes31 committed, bytes31 revealed);
    /// @notice A digest that must name something is zero.
    error ZeroDigest();
    /// @notice An update counts at least one example.
    error NoExamples();
    /// @notice An amount that must be positive is zero.
    error ZeroAmount();
    /// @notice Every revealed update needs one verdict.
    error VerdictCount(uint256 given, uint256 revealed);
    /// @notice Verdicts are in ascending order of participant, each once.
    error VerdictOrder(address previous, address participant);
    /// @notice An accepted update has weight 1..weightCap and score up to 10000; a rejected one has neither.
    error InvalidVerdict(address participant, uint32 weight, uint16 score, uint8 reason);
    /// @notice With no update accepted the model must stay as it is.
    error ModelMustStay(bytes32 root, bytes32 currentRoot);
    /// @notice The verdicts are not those proposed.
    error VerdictsMismatch(bytes32 given, bytes32 proposed);
    /// @notice The model's leaf is the weighted mean of the accepted updates' leaves.
    error LeafIsRight(uint256 round, uint256 leaf);
    /// @notice The verdict is a rejection, which the contract cannot judge, or has the weight and score it must have.
    error VerdictIsRight(uint256 round, address participant);
    /// @notice No update was accepted; that the model stayed was checked when it was proposed.
    error NothingAveraged(uint256 round);
    /// @notice Each accepted update must be opened, in the order of the verdicts.
    error OpenedCount(uint256 given, uint256 accepted);
    /// @notice There is no such leaf.
    error LeafOutOfRange(uint256 leaf, uint256 leafCount);
    /// @notice There is no such verdict.
    error VerdictOutOfRange(uint256 index, uint256 count);
    /// @notice A leaf has another number of bytes.
    error LeafLength(uint256 given, uint256 required);
    /// @notice A proof has one sibling a level.
    error ProofLength(uint256 given, uint256 required);
    /// @notice Leaf and proof lead to another root.
    error RootMismatch(bytes32 computed, bytes32 required);
    /// @notice This is not what the participant revealed (first 31 bytes compared).
    error RevealMismatch(address participant, bytes31 given, bytes31 revealed);
    /// @notice The terms have no `responseSeconds`: no leaf can be demanded.
    error AvailabilityOff();
    /// @notice The update was rejected, so nothing of it is in the model.
    error UpdateRejected(uint256 round, address participant);
    /// @notice The answer, and a dispute about it, would no longer fit into the challenge window.
    error TooLateToDemand(uint256 timestamp, uint256 latest);
    /// @notice The leaf is demanded already.
    error AlreadyDemanded(bytes32 root, uint256 leaf);
    /// @notice The leaf was posted once, so everybody has it.
    error LeafIsPublic(bytes32 root, uint256 leaf);
    /// @notice Nobody waits for this leaf.
    error NotDemanded(bytes32 root, uint256 leaf);
    /// @notice The time to post the leaf is over.
    error TooLateToPost(uint256 timestamp, uint256 deadline);
    /// @notice Behind its last leaf the tree holds something: nobody could load such an update or model.
    error WrongPadding(bytes32 root);
    /// @notice The leaf can still be posted.
    error LeafNotLate(uint256 timestamp, uint256 deadline);
    /// @notice A bonded standby can still propose this round.
    error StandbyAvailable(address standby);
    /// @notice No bonded standby is left.
    error NoStandby();
    /// @notice The current aggregator's time has not run out.
    error AggregatorNotLate(uint256 timestamp, uint256 deadline);
    /// @notice There is nothing to withdraw.
    error NothingToWithdraw(address account);
    /// @notice The token delivered another amount than asked.
    error WrongAmountReceived(uint256 received, uint256 required);
}
