// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

/// @title A federation: its functions, types, events and errors
/// @notice docs/protocol.md gives the digests byte by byte; docs/threat-model.md says what each rule is for.
interface IFederation {
    // ------------------------------------------------------------------ terms

    /// @notice Whether the updates themselves or only their sum can be read.
    enum Privacy {
        Clear,
        Masked
    }

    /// @notice What the score of an accepted update says.
    enum Scoring {
        Equal, // 10000 for everybody
        HeldOut // measured help, up to 10000; auditors recompute it, the contract does not
    }

    /// @notice What is trained, and how its bytes are read.
    /// @param specDigest SHA-256 of the canonical spec, also its IPFS digest
    /// @param initialModelRoot Tree root of the model that round 1 starts from
    /// @param initialModelManifest SHA-256 of that model's manifest
    /// @param zeroRoot Tree root of the update whose values are all zero
    /// @param leafCount Leaves in an update and in the model, of 256 values each
    /// @param treeDepth Depth of the tree over them, padded to a power of two
    /// @param gridBits A difference counts steps of 2^-gridBits in round 1; at most 24
    /// @param gridEvery The step is halved after every so many rounds; 0: never
    struct Identity {
        bytes32 specDigest;
        bytes32 initialModelRoot;
        bytes32 initialModelManifest;
        bytes32 zeroRoot;
        uint32 leafCount;
        uint8 treeDepth;
        uint8 gridBits;
        uint32 gridEvery;
    }

    /// @notice Who may take part, and how many at once.
    /// @param maxParticipants Seats that can be active at once; at most 512
    /// @param minParticipants Active seats without which no round is opened
    /// @param roundTarget Seats asked in a round, on average; all when no more are active
    /// @param roundSeats Commitments that a round takes; at most 64, or 32 of masked updates
    /// @param maxMissed Rounds in a row that a seat was asked for and missed, after which anybody may free it
    /// @param byInvitation Whether join() asks for the sponsor's signature
    /// @param weightCap Largest weight of an update; roundSeats * weightCap < 2^24
    /// @param rounds Rounds that can be opened, abandoned ones included
    struct Seats {
        uint16 maxParticipants;
        uint16 minParticipants;
        uint16 roundTarget;
        uint16 roundSeats;
        uint8 maxMissed;
        bool byInvitation;
        uint32 weightCap;
        uint32 rounds;
    }

    /// @notice Prices, stakes and penalties, in token units; each is at most 2^112 - 1.
    /// @param token ERC-20 of all of them
    /// @param updateReward Price of an accepted update of full weight and score
    /// @param aggregatorFee Paid for a finalized round that uses all that was revealed, by weight
    /// @param participantStake Held while a seat takes part
    /// @param missedRevealPenalty Part of the stake that is burned for a commitment never revealed
    /// @param aggregatorBond Held while an aggregator may lead
    /// @param availabilityDeposit What requesting a leaf costs: it goes to whoever posts it
    struct Money {
        IERC20 token;
        uint128 updateReward;
        uint128 aggregatorFee;
        uint128 participantStake;
        uint128 missedRevealPenalty;
        uint128 aggregatorBond;
        uint128 availabilityDeposit;
    }

    /// @notice How long each step may take, in seconds; each is at most 30 days.
    /// @param commitSeconds Longest commit phase, counted from the fixing of the seed
    /// @param revealSeconds Longest reveal phase, counted from the commit deadline
    /// @param sealSeconds Longest wait for the seal, counted from the reveal deadline; 0 where updates are clear
    /// @param unmaskSeconds Longest wait for the secrets, counted from the seal; 0 where updates are clear
    /// @param assistSeconds Time to recover the secrets of who is silent, after that; 0 where updates are clear
    /// @param proposeSeconds Longest wait for a proposal, counted from the last deadline before it
    /// @param challengeSeconds Time between a proposal and its settlement; at least 3 * responseSeconds
    /// @param responseSeconds Time to post a leaf that is requested; 0: none can be requested
    /// @param unbondingSeconds Time between leaving and getting the stake back
    /// @param closesAt Unix time after which no round is opened; at most 5 years away
    struct Windows {
        uint32 commitSeconds;
        uint32 revealSeconds;
        uint32 sealSeconds;
        uint32 unmaskSeconds;
        uint32 assistSeconds;
        uint32 proposeSeconds;
        uint32 challengeSeconds;
        uint32 responseSeconds;
        uint32 unbondingSeconds;
        uint40 closesAt;
    }

    /// @notice What is open to be read, and what is paid for.
    /// @param privacy Clear or Masked
    /// @param scoring Equal or HeldOut; Equal where updates are masked
    /// @param minSet Updates without which no sum is opened, at least 3; 0 where updates are clear
    struct Rules {
        Privacy privacy;
        Scoring scoring;
        uint8 minSet;
    }

    /// @notice What the sponsor fixed at founding. Nothing here can change afterwards.
    /// @param identity What is trained, and how its bytes are read
    /// @param seats Who may take part, and how many at once
    /// @param money Prices, stakes and penalties
    /// @param windows How long each step may take
    /// @param rules What is open to be read, and what is paid for
    struct Terms {
        Identity identity;
        Seats seats;
        Money money;
        Windows windows;
        Rules rules;
    }

    // ------------------------------------------------------------------ facts

    /// @notice Where a round stands, derived from stored facts, the block's time and its number.
    enum Status {
        None, // not opened
        Seed, // opened; anybody may fix the seed from the next block on
        Commit, // waiting for commitments
        Reveal, // waiting for reveals; masked: not if fewer than `minSet` committed
        Seal, // masked: waiting for the aggregator to say which updates are summed
        Unmask, // masked: waiting for the secrets that the sum needs
        Assist, // masked: anybody may post those of who was silent, recovered from shares
        Void, // masked: the sum cannot be opened or is objected to; only voidRound() is left
        Propose, // waiting for the aggregator
        Expired, // the aggregator's deadline has passed
        Challenge, // proposed, open to challenge, or a leaf that was requested is overdue
        Settleable, // unchallenged, anybody may finalize
        Finalized,
        Abandoned,
        Unseeded // the seed can no longer be fixed: only abandon() is left
    }

    /// @notice What is stored of a round's way.
    enum Stage {
        Open,
        Proposed,
        Finalized,
        Abandoned
    }

    /// @notice The facts of a round; the first twelve share a storage slot.
    /// @param commitDeadline Unix time; 0 until the seed is fixed
    /// @param revealDeadline Unix time; 0 until the seed is fixed
    /// @param nextDeadline Unix time: of the seal until there is one where updates are masked, else of the proposal
    ///        (stage Open); of challenges to the proposal (stage Proposed)
    /// @param openedBlock Number of the block that opened it
    /// @param active Seats that were active then and had joined in an earlier block
    /// @param committed Commitments
    /// @param revealed Reveals
    /// @param revealedWeight Sum of min(examples, weightCap) over the reveals
    /// @param stage What is stored of its way
    /// @param proposals Each but the last was refuted, and its aggregator slashed: at most 8
    /// @param openRequests Leaves of the standing proposal that are requested and not posted
    /// @param seed What draws the seats that are asked; 0 until it is fixed
    /// @param modelRoot Tree root of the model proposed
    /// @param modelManifest SHA-256 of its manifest
    /// @param verdictsHash keccak256(abi.encode(verdicts)) of the proposal
    struct Round {
        uint40 commitDeadline;
        uint40 revealDeadline;
        uint40 nextDeadline;
        uint40 openedBlock;
        uint16 active;
        uint8 committed;
        uint8 revealed;
        uint24 revealedWeight;
        Stage stage;
        uint8 proposals;
        uint24 openRequests;
        bytes32 seed;
        bytes32 modelRoot;
        bytes32 modelManifest;
        bytes32 verdictsHash;
    }

    /// @notice What is stored of a round's sum, where updates are masked; the first eight share a storage slot.
    /// @param sealedBlock Number of the block that sealed the set; 0 before
    /// @param unmaskDeadline Unix time until which each of the set is asked for its own secrets
    /// @param assistDeadline Unix time at which the round is void unless all secrets are known
    /// @param size Updates in the set
    /// @param unmasked Those whose secrets are known
    /// @param objections Members of the set that object to the sum
    /// @param byOrder The set: bit k stands for the round's commitment number k
    /// @param byRank The set: bit k stands for the k-th lowest address that committed
    /// @param membersHash keccak256 of the addresses that committed, in ascending order, 20 bytes each
    /// @param sketchSeed What draws the sketches' vectors; 0 until it is fixed
    struct Sum {
        uint40 sealedBlock;
        uint40 unmaskDeadline;
        uint40 assistDeadline;
        uint8 size;
        uint8 unmasked;
        uint8 objections;
        uint32 byOrder;
        uint32 byRank;
        bytes32 membersHash;
        bytes32 sketchSeed;
    }

    /// @notice How far a submission has come.
    enum SubmissionState {
        None,
        Committed,
        Revealed,
        Penalized,
        Unmasked, // masked: it posted its secrets itself
        Recovered, // masked: others did, from shares; it was penalized
        Objected // masked: Unmasked, and it objects to the sum
    }

    /// @notice A participant's submission to a round, in one storage slot.
    /// @param digest First 30 bytes of the commitment, then of keccak256(opening) with the opening that stands
    /// @param order Number of the commitment in the round, from 0
    /// @param state How far it has come
    struct Submission {
        bytes30 digest;
        uint8 order;
        SubmissionState state;
    }

    /// @notice A seat, in one storage slot.
    /// @param stake Token units held
    /// @param unlockAt Unix time at which a leaving participant may take its stake; 0 when not leaving
    /// @param joinedBlock Number of the block it joined in; it takes part in rounds opened in later ones
    /// @param lastCommitted The last round it committed to; 0: none
    /// @param active Whether it may commit
    struct Participant {
        uint128 stake;
        uint40 unlockAt;
        uint40 joinedBlock;
        uint32 lastCommitted;
        bool active;
    }

    /// @notice How far a leaf request has come.
    enum RequestState {
        None,
        Open,
        Posted
    }

    /// @notice A request to post a leaf, in one storage slot. A root names its bytes: once posted, they are public.
    /// @param challenger Who pays the deposit, and is rewarded when nobody posts the leaf
    /// @param deadline Unix time at which it is too late to post it
    /// @param round Round of the proposal that it is about
    /// @param proposal Number of that proposal in the round, from 1; void when it is not the standing one
    /// @param state How far it has come
    /// @param isModel Whether the leaf is of the model (1024 bytes) or of an update (256 bytes, 1024 where masked)
    struct LeafRequest {
        address challenger;
        uint40 deadline;
        uint32 round;
        uint8 proposal;
        RequestState state;
        bool isModel;
    }

    /// @notice Whether an address may aggregate, has posted its bond, or has lost it.
    enum AggregatorState {
        Unlisted,
        Listed,
        Bonded,
        Slashed
    }

    /// @notice The aggregator's decision on one revealed update.
    /// @param participant Who revealed it
    /// @param revealed Digest of what was revealed, as stored: first 30 bytes of keccak256(opening)
    /// @param weight min(examples, weightCap), or 0 when it is not in the average
    /// @param score Share of the price in basis points, or 0 when rejected
    /// @param reason 0 when accepted, else the number of the check it failed (docs/protocol.md)
    struct Verdict {
        address participant;
        bytes30 revealed;
        uint32 weight;
        uint16 score;
        uint8 reason;
    }

    /// @notice What a participant revealed.
    /// @param root Tree root of the update
    /// @param manifest SHA-256 of its manifest; where updates are masked, keccak256(that, secrets digest) and, once the
    ///        secrets are known, keccak256(the latter, own seed, seeds)
    /// @param examples Examples it was trained on
    struct Opening {
        bytes32 root;
        bytes32 manifest;
        uint32 examples;
    }

    /// @notice A leaf and the way from it to a root (docs/protocol.md §4).
    /// @param values Its bytes: 256 of an update, 1024 of a model and of a masked update
    /// @param proof Siblings on the way up, the lowest first
    struct Leaf {
        bytes values;
        bytes32[] proof;
    }

    /// @notice What an accepted participant revealed, with one leaf of it.
    /// @param opening What was revealed
    /// @param leaf The leaf in dispute
    struct OpenedLeaf {
        Opening opening;
        Leaf leaf;
    }

    /// @notice The answer to a leaf request.
    /// @param root Root of the update or model it is of
    /// @param index Number of the leaf
    /// @param leaf The leaf itself
    struct LeafAnswer {
        bytes32 root;
        uint256 index;
        Leaf leaf;
    }

    /// @notice What a participant reveals where updates are masked.
    /// @param root Tree root of the masked update
    /// @param manifest SHA-256 of its manifest
    /// @param examples Examples it was trained on: part of the commitment
    /// @param publicKey X25519 key of the round: part of the commitment
    /// @param salt The commitment's secret
    /// @param secrets keccak256 over the commitments in its bundle (docs/protocol.md)
    struct MaskedReveal {
        bytes32 root;
        bytes32 manifest;
        uint32 examples;
        bytes32 publicKey;
        bytes32 salt;
        bytes32 secrets;
    }

    /// @notice The secrets with which an update's masks are taken from the sum, and what they are held against.
    /// @param opening What the participant revealed; `manifest` is that of the reveal, not yet hashed with the secrets
    /// @param rank Position of the participant among those that committed, in ascending order of address
    /// @param members All that committed, in ascending order, 20 bytes each
    /// @param commitments Those in its bundle: of its own seed, then of that with each other member, ascending
    /// @param ownSeed The seed of its own mask
    /// @param seeds Those it shares with each member outside the set, ascending
    struct Secrets {
        Opening opening;
        uint8 rank;
        bytes members;
        bytes32[] commitments;
        bytes32 ownSeed;
        bytes32[] seeds;
    }

    // ----------------------------------------------------------------- events

    /// @notice `amount` was added to the escrow.
    event Funded(address indexed funder, uint256 amount);
    /// @notice What was never spent was credited to the sponsor.
    event Refunded(address indexed sponsor, uint256 amount);
    /// @notice Credit was paid out to `to`.
    event Withdrawn(address indexed account, address indexed to, uint256 amount);
    /// @notice The sponsor closed the federation: no further round is opened.
    event Closed(address indexed sponsor);
    /// @notice Where `who` can be reached: up to four lines (docs/protocol.md). The sender speaks for itself only.
    event Announced(address indexed who, string whereabouts);
    /// @notice A participant joined, came back, or filled its stake up by `amount`.
    event Joined(address indexed participant, uint256 amount);
    /// @notice A participant is leaving; its stake is free at `unlockAt`.
    event Left(address indexed participant, uint40 unlockAt);
    /// @notice A seat was freed because it missed rounds; its stake is free at `unlockAt`.
    event Evicted(address indexed participant, uint40 unlockAt);
    /// @notice A participant that left had its stake credited.
    event StakeReleased(address indexed participant, uint256 amount);
    /// @notice A commitment was never revealed, or the secrets of a masked update not posted by its owner; `amount` of
    ///         the stake was burned.
    event Penalized(uint256 indexed round, address indexed participant, uint256 amount);
    /// @notice An aggregator posted its bond.
    event Bonded(address indexed aggregator, uint256 amount);
    /// @notice An aggregator's bond was credited back to it.
    event Unbonded(address indexed aggregator, uint256 amount);
    /// @notice An aggregator lost its bond: it left a round unproposed, or was refuted; what is not rewarded is burned.
    event AggregatorSlashed(uint256 indexed round, address indexed aggregator, uint256 amount);
    /// @notice A standby took over; `round` is 0 when no round was open. `proposeDeadline` is that of the seal where updates
    ///         are masked and no set is sealed.
    event AggregatorReplaced(
        uint256 indexed round, address indexed previous, address indexed current, uint40 proposeDeadline
    );
    /// @notice A round was opened in block `openedBlock`; its seed comes from that block's hash.
    event RoundOpened(uint256 indexed round, address indexed aggregator, uint40 openedBlock, uint16 active);
    /// @notice The seats to be asked are drawn, and the deadlines count. `proposeDeadline` is that of the seal where updates
    ///         are masked: what the aggregator owes first.
    event SeedFixed(
        uint256 indexed round, bytes32 seed, uint40 commitDeadline, uint40 revealDeadline, uint40 proposeDeadline
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
    /// @notice Where updates are masked: the key that a commitment binds its participant to.
    event KeyPublished(uint256 indexed round, address indexed participant, bytes32 publicKey);
    /// @notice Where updates are masked: the digest of the commitments to the secrets behind a revealed update.
    event SecretsBound(uint256 indexed round, address indexed participant, bytes32 secrets);
    /// @notice The aggregator said which masked updates are summed: all that committed, in ascending order, those of the
    ///         set with a weight, the others with a reason; `revealed` is 0 where nothing was revealed. With nobody in
    ///         the set the round ended.
    event SetSealed(
        uint256 indexed round,
        address indexed aggregator,
        uint40 unmaskDeadline,
        uint40 assistDeadline,
        uint40 proposeDeadline,
        Verdict[] verdicts
    );
    /// @notice The vectors of the sketches are drawn.
    event SketchFixed(uint256 indexed round, bytes32 sketchSeed);
    /// @notice The secrets of a member of the set are known: its own seed, and those with who is outside, in ascending
    ///         order. `sender` is another account when they were recovered. `sketch` is the SHA-256 of the sketch, 0
    ///         when recovered.
    event Unmasked(
        uint256 indexed round,
        address indexed participant,
        address indexed sender,
        bytes32 ownSeed,
        bytes32[] seeds,
        bytes32 sketch
    );
    /// @notice Shares of a silent member's secrets: of its own seed, then of those with who is outside the set.
    event Assisted(uint256 indexed round, address indexed silent, address indexed helper, bytes32[] shares);
    /// @notice A member of the set says that the sum does not fit the sketches.
    event Objected(uint256 indexed round, address indexed participant);
    /// @notice A member of a set that was objected to accounts for its masks.
    event StreamsPosted(uint256 indexed round, address indexed participant, bytes32 streams);
    /// @notice The round ended since its sum could not be opened, or two thirds of the set objected to it.
    event Voided(uint256 indexed round);
    /// @notice The aggregator proposed the round's model, with its decision on every revealed update.
    event Proposed(
        uint256 indexed round,
        address indexed aggregator,
        bytes32 root,
        bytes32 manifest,
        uint40 challengeDeadline,
        Verdict[] verdicts
    );
    /// @notice A participant was credited the price of its update.
    event Paid(uint256 indexed round, address indexed participant, uint256 amount);
    /// @notice The round's model is settled; `paid` includes the aggregator's fee.
    event Finalized(
        uint256 indexed round, bytes32 root, bytes32 manifest, address indexed aggregator, uint256 fee, uint256 paid
    );
    /// @notice The round ended without a model.
    event Abandoned(uint256 indexed round);
    /// @notice A proposal was shown to be wrong and is void; `reward` of the bond was credited to the challenger.
    event ProposalRefuted(
        uint256 indexed round, address indexed challenger, address indexed aggregator, bytes32 root, uint256 reward
    );
    /// @notice A leaf of the model or of an accepted update must be posted before `deadline`; the deposit was taken.
    event LeafRequested(
        uint256 indexed round, address indexed challenger, bytes32 root, uint256 leaf, bool isModel, uint40 deadline
    );
    /// @notice A leaf that was requested is public; the deposit was credited to whoever posted it. The bytes are told
    ///         here too: those of a call through another contract could not be found without running it again.
    event LeafPosted(
        uint256 indexed round, address indexed responder, bytes32 root, uint256 leaf, bytes values, bytes32[] proof
    );
    /// @notice A deposit was credited back: the leaf was not posted in time, or the proposal no longer stands.
    event DepositReturned(uint256 indexed round, address indexed challenger, bytes32 root, uint256 leaf);

    // ----------------------------------------------------------------- errors

    /// @notice The round is not in the phase this call belongs to.
    error WrongStatus(uint256 round, Status required, Status actual);
    /// @notice Only the sponsor may do this.
    error NotSponsor(address caller, address sponsor);
    /// @notice The federation is closed already.
    error AlreadyClosed();
    /// @notice Only the current aggregator may do this.
    error NotAggregator(address caller, address aggregator);
    /// @notice The aggregator is not in the state this call asks for.
    error WrongAggregatorState(address aggregator, AggregatorState required, AggregatorState actual);
    /// @notice The current aggregator stays bonded until the federation is over or another one leads.
    error LeadMustStay(address aggregator);
    /// @notice Another round has not ended.
    error RoundStillOpen(uint256 round, Status actual);
    /// @notice No further round may be opened.
    error FederationOver(uint256 roundCount, uint256 closesAt, bool isClosed);
    /// @notice Rounds may still be opened, or one is open.
    error FederationNotOver(uint256 roundCount, uint256 closesAt);
    /// @notice The escrow does not hold the price of a full round and its fee.
    error EscrowTooLow(uint256 escrow, uint256 required);
    /// @notice Fewer seats are active, having joined in an earlier block, than a round needs.
    error TooFewParticipants(uint256 active, uint256 required);
    /// @notice The opening block's hash exists from the next block on.
    error SeedTooEarly(uint256 blockNumber, uint256 openedBlock);
    /// @notice All seats are taken.
    error FederationFull(uint256 maxParticipants);
    /// @notice The caller takes part already.
    error AlreadyJoined(address participant);
    /// @notice The account has no seat.
    error NotJoined(address participant);
    /// @notice The caller is leaving already.
    error AlreadyLeaving(address participant, uint256 unlockAt);
    /// @notice The invitation's time has passed.
    error InvitationExpired(uint256 timestamp, uint256 expiry);
    /// @notice The sponsor did not sign this invitation of this participant to this federation.
    error InvalidInvitation(address participant, uint256 expiry);
    /// @notice The participant may not commit to this round.
    error NotActive(uint256 round, address participant);
    /// @notice The round's seed did not draw this participant.
    error NotEligible(uint256 round, address participant);
    /// @notice The round has taken all the commitments it takes.
    error RoundFull(uint256 round, uint256 roundSeats);
    /// @notice The submission is not in the state this call asks for.
    error WrongSubmissionState(uint256 round, address participant, SubmissionState required, SubmissionState actual);
    /// @notice The revealed values are not those committed to (first 30 bytes compared).
    error CommitmentMismatch(bytes30 committed, bytes30 revealed);
    /// @notice A digest that must name something is zero.
    error ZeroDigest();
    /// @notice An update counts at least one example.
    error NoExamples();
    /// @notice An amount that must be positive is zero.
    error ZeroAmount();
    /// @notice Nobody revealed, so nobody is blamed for not revealing.
    error NothingRevealed(uint256 round);
    /// @notice As many missed rounds must be named as the terms ask for.
    error MissedCount(uint256 given, uint256 required);
    /// @notice Missed rounds are named in ascending order, each after the seat's last commitment.
    error MissedOrder(uint256 previous, uint256 round);
    /// @notice The seat was not asked in this round, still can commit, did, or found the round full.
    error NotMissed(uint256 round, address participant);
    /// @notice Every revealed update needs one verdict; in a seal, every commitment.
    error VerdictCount(uint256 given, uint256 revealed);
    /// @notice Verdicts are in ascending order of participant, each once.
    error VerdictOrder(address previous, address participant);
    /// @notice An accepted update has weight 1..weightCap and the score its terms ask for; a rejected one has neither. Where
    ///         updates are masked one of the set keeps its weight in any case, and what was not revealed has no reason.
    error InvalidVerdict(address participant, uint32 weight, uint16 score, uint8 reason);
    /// @notice With no update accepted the model must stay as it is.
    error ModelMustStay(bytes32 root, bytes32 currentRoot);
    /// @notice The verdicts are not those proposed.
    error VerdictsMismatch(bytes32 given, bytes32 proposed);
    /// @notice No value of the model's leaf differs from the average.
    error LeafIsRight(uint256 round, uint256 leaf);
    /// @notice No value of the leaf moved further than an average can move it.
    error MoveIsBounded(uint256 round, uint256 leaf);
    /// @notice The verdict is what the contract can ask for.
    error VerdictIsRight(uint256 round, address participant);
    /// @notice No update was accepted; that the model stayed was checked when it was proposed.
    error NothingAveraged(uint256 round);
    /// @notice Each update must be opened, in the order of the verdicts.
    error OpenedCount(uint256 given, uint256 required);
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
    /// @notice This is not what the participant revealed (first 30 bytes compared).
    error RevealMismatch(address participant, bytes30 given, bytes30 revealed);
    /// @notice The terms have no `responseSeconds`: no leaf can be requested.
    error AvailabilityOff();
    /// @notice The update was rejected, so nothing of it is in the model.
    error UpdateRejected(uint256 round, address participant);
    /// @notice The answer, and a dispute about it, would no longer fit into the challenge window.
    error TooLateToRequest(uint256 timestamp, uint256 latest);
    /// @notice The leaf is requested already.
    error AlreadyRequested(bytes32 root, uint256 leaf);
    /// @notice The leaf was posted once, so everybody has it.
    error LeafIsPublic(bytes32 root, uint256 leaf);
    /// @notice Nobody waits for this leaf.
    error NotRequested(bytes32 root, uint256 leaf);
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
    /// @notice Tokens sent there would be lost.
    error InvalidRecipient(address to);
    /// @notice The token delivered another amount than asked.
    error WrongAmountReceived(uint256 received, uint256 required);
    /// @notice The call belongs to federations whose updates are masked, or to those whose updates are clear.
    error WrongPrivacy(Privacy actual);
    /// @notice With this key all shared secrets would be known: it has a small order.
    error WeakKey(bytes32 publicKey);
    /// @notice The set has fewer updates than `minSet`, or than two thirds of those revealed.
    error SetTooSmall(uint256 size, uint256 required);
    /// @notice The sketches' vectors are fixed from the block after the seal on, once.
    error SketchTooEarly(uint256 blockNumber, uint256 sealedBlock);
    /// @notice The sketches' vectors are fixed already.
    error SketchIsFixed(uint256 round);
    /// @notice Secrets are posted once the sketches' vectors are fixed.
    error SketchNotFixed(uint256 round);
    /// @notice These are not all that committed, in ascending order.
    error MembersMismatch(bytes32 given, bytes32 required);
    /// @notice The account is not in the set that was sealed.
    error NotInSet(uint256 round, address account);
    /// @notice There must be as many secrets, or shares, as there are members outside the set, and one more.
    error SecretCount(uint256 given, uint256 required);
    /// @notice A secret is not what was committed to.
    error SecretMismatch(uint256 index, bytes32 given, bytes32 committed);
    /// @notice The verdict is not what was sealed, or not what follows from who posted the secrets.
    error NotAsSealed(uint256 round, address participant);
    /// @notice An announcement has at most 512 bytes.
    error WhereaboutsTooLong(uint256 length, uint256 limit);

    // ------------------------------------------------------------------ money

    /// @notice Adds `amount` to the escrow. Anybody may; what is never spent goes back to the sponsor.
    function fund(uint256 amount) external;

    /// @notice Once the federation is over, credits the remaining escrow to the sponsor. Anybody may call.
    function refund() external;

    /// @notice Pays the caller its credit, and its stake once unbonding is over.
    /// @return amount Token units sent
    function withdraw() external returns (uint256 amount);

    /// @notice Pays the caller's credit, and its stake once unbonding is over, to another account.
    /// @return amount Token units sent
    function withdrawTo(address to) external returns (uint256 amount);

    /// @notice Ends the federation: no further round is opened, the open one runs to its end. Only the sponsor may.
    function close() external;

    // ------------------------------------------------------------- membership

    /// @notice Takes part in rounds opened in later blocks: fills the caller's stake up to `participantStake`.
    /// @param expiry Unix time until which the invitation holds; ignored by an open federation
    /// @param signature The sponsor's over Invitation(participant, expiry), EIP-712, EOA or EIP-1271; likewise ignored
    function join(uint40 expiry, bytes calldata signature) external;

    /// @notice Stops taking part; the stake can be withdrawn after `unbondingSeconds`.
    function leave() external;

    /// @notice Frees a seat that was asked for `maxMissed` rounds in a row and committed to none. Anybody may call.
    /// @param rounds The missed ones, in ascending order
    function evict(address account, uint256[] calldata rounds) external;

    /// @notice Burns the penalty for a commitment that was not revealed in time, or for a member of a sealed set whose
    ///         secrets nobody posted: the latter once the round is void or ended. Anybody may call.
    function penalize(uint256 round, address account) external;

    /// @notice Tells where the caller can be reached. The event is all there is.
    /// @param whereabouts At most 512 bytes (docs/protocol.md)
    function announce(string calldata whereabouts) external;

    // ----------------------------------------------------------------- rounds

    /// @notice Posts the caller's bond. Only listed aggregators.
    function bond() external;

    /// @notice Credits the caller its bond: once the federation is over, or between rounds when another one leads.
    function unbond() external;

    /// @notice Opens the next round. Only the current aggregator may.
    /// @return round Its number, from 1
    function openRound() external returns (uint256 round);

    /// @notice Draws the seats to be asked, in the 256 blocks after the opening. Anybody may call.
    function fixSeed(uint256 round) external;

    /// @notice Commits the caller to an update of this round.
    /// @param commitment keccak256(contract, round, participant, root, manifest, examples, salt)
    function commit(uint256 round, bytes32 commitment) external;

    /// @notice Reveals the update that the caller committed to; by now it is pinned.
    /// @param root Tree root of the update
    /// @param manifest SHA-256 of its manifest
    /// @param examples Examples it was trained on
    /// @param salt The commitment's secret
    function reveal(uint256 round, bytes32 root, bytes32 manifest, uint32 examples, bytes32 salt) external;

    /// @notice Commits the caller to a key and a number of examples, where updates are masked. Peers use the key told here,
    ///         whatever the commitment says.
    /// @param commitment keccak256(contract, round, participant, publicKey, examples, salt)
    /// @param publicKey X25519 key made for this round
    function commitMasked(uint256 round, bytes32 commitment, bytes32 publicKey) external;

    /// @notice Reveals the caller's masked update; by now it is pinned.
    function revealMasked(uint256 round, MaskedReveal calldata revealed) external;

    /// @notice Says, once and for all, which masked updates are summed. Only the current aggregator may. With none of
    ///         them the round ends without a model; else the set has `minSet` updates and two thirds of those revealed.
    /// @param verdicts One for each that committed, in ascending order: (weight, 10000, 0) in the set,
    ///        (0, 0, reason) outside, and all zero where nothing was revealed
    function sealSet(uint256 round, Verdict[] calldata verdicts) external;

    /// @notice Draws the vectors of the sketches, from the block after the seal on. Anybody may call.
    function fixSketch(uint256 round) external;

    /// @notice Posts the secrets of a member of the set, which the contract holds against its commitments. The member
    ///         itself may until the sum is open or the round void; anybody else in its place once it is late (phase
    ///         Assist), and then it loses `missedRevealPenalty`.
    /// @param sketch SHA-256 of the member's sketch; ignored when others post
    function unmask(uint256 round, Secrets calldata secrets, bytes32 sketch) external;

    /// @notice Tells the caller's shares of a silent member's secrets; the event is all there is. Only members of the
    ///         set, in the phase Assist.
    /// @param silent Who is silent
    /// @param shares Of its own seed, then of those with who is outside the set, in ascending order
    function assist(uint256 round, address silent, bytes32[] calldata shares) external;

    /// @notice Says that the sum does not fit the sketches. Members of the set that posted their secrets themselves
    ///         may, once each, in the challenge window; two thirds of the set void the round.
    function object(uint256 round) external;

    /// @notice Accounts for the caller's masks once two thirds of its set have objected, so that everybody can tell whose
    ///         update it was; the event is all there is. Members of the set that posted their secrets themselves may, as
    ///         often as they like: the last one counts.
    /// @param streams SHA-256 of the sketches of the streams that it shares with the others of the set
    function postStreams(uint256 round, bytes32 streams) external;

    /// @notice Ends a round in phase Void: the model stays, who posted its secrets itself is credited half its price,
    ///         the aggregator nothing. Anybody may call.
    /// @param members All that committed, in ascending order, 20 bytes each
    /// @param openings The opening of each of the set that posted its secrets itself, in ascending order
    function voidRound(uint256 round, bytes calldata members, Opening[] calldata openings) external;

    /// @notice Proposes the round's model, with a verdict on every revealed update. Only the current aggregator may.
    /// @param root Tree root of the model before moved by the weighted mean of the accepted updates
    /// @param manifest SHA-256 of the new model's manifest
    /// @param verdicts One for each revealed update, in ascending order of participant
    function propose(uint256 round, bytes32 root, bytes32 manifest, Verdict[] calldata verdicts) external;

    /// @notice Settles a round whose challenge window has passed. Anybody may call.
    /// @param verdicts As proposed
    function finalize(uint256 round, Verdict[] calldata verdicts) external;

    /// @notice Ends a round without a seed, or an update (less than `minSet` where they are masked), or whose aggregator
    ///         is late with no standby left. Anybody may.
    function abandon(uint256 round) external;

    /// @notice Hands the lead to the next bonded standby when the aggregator is late. Anybody may call.
    ///         Late in a round costs the bond; late in opening one costs the lead only.
    function replaceAggregator() external;

    // --------------------------------------------------------------- disputes

    /// @notice Shows that one leaf of the proposed model is not what the accepted updates make of the model before, where
    ///         updates are clear. Anybody may call. Half of the aggregator's bond is credited to the caller, half burned; a bonded standby
    ///         gets the round with the same reveals, and without one the round is abandoned.
    /// @param leaf Its number
    /// @param verdicts As proposed
    /// @param updates What each accepted participant revealed and its leaf, in the order of the verdicts
    /// @param before The leaf of the current model
    /// @param model The leaf of the proposed model
    function challengeAverage(
        uint256 round,
        uint256 leaf,
        Verdict[] calldata verdicts,
        OpenedLeaf[] calldata updates,
        Leaf calldata before,
        Leaf calldata model
    ) external;

    /// @notice Shows that one leaf of the proposed model is not what the sum of the masked updates makes of the model
    ///         before: challengeAverage, where updates are masked.
    /// @param leaf Its number
    /// @param verdicts As proposed
    /// @param updates For each update in the average, in the order of the verdicts: 1,024 bytes of the masked leaf, 32
    ///        bytes for each sibling of its proof, 32 of the opening's manifest before its secrets were known, 4 of
    ///        the examples, 32 of its own seed and 32 of each seed it shares with who is outside the set; one behind the other
    /// @param before The leaf of the current model
    /// @param model The leaf of the proposed model
    function challengeSum(
        uint256 round,
        uint256 leaf,
        Verdict[] calldata verdicts,
        bytes calldata updates,
        Leaf calldata before,
        Leaf calldata model
    ) external;

    /// @notice Shows that a value of the proposed model moved further than any average can move it, without any update.
    ///         Anybody may call; the consequences are those of challengeAverage.
    /// @param leaf Number of the leaf
    /// @param before The leaf of the current model
    /// @param model The leaf of the proposed model
    function challengeMove(uint256 round, uint256 leaf, Leaf calldata before, Leaf calldata model) external;

    /// @notice Shows that a verdict has a weight other than min(examples, weightCap), takes the zero update or
    ///         rejects another one as zero (only the first where updates are masked). Anybody may call; the consequences are those of challengeAverage.
    /// @param index Position in `verdicts`
    /// @param verdicts As proposed
    /// @param opening What the participant revealed
    function challengeVerdict(uint256 round, uint256 index, Verdict[] calldata verdicts, Opening calldata opening)
        external;

    /// @notice Shows that a verdict takes an update whose root was committed earlier in the round (or gives a later
    ///         check as the reason), where updates are clear. Anybody may call; the consequences are those of
    ///         challengeAverage.
    /// @param index Position in `verdicts`
    /// @param earlier Position of the update committed earlier
    /// @param verdicts As proposed
    /// @param opening What the participant revealed
    /// @param earlierOpening What the earlier one revealed
    function challengeDuplicate(
        uint256 round,
        uint256 index,
        uint256 earlier,
        Verdict[] calldata verdicts,
        Opening calldata opening,
        Opening calldata earlierOpening
    ) external;

    /// @notice Shows that a verdict rejects as a duplicate an update whose root nobody had committed to earlier, where
    ///         updates are clear. Anybody may call; the consequences are those of challengeAverage.
    /// @param index Position in `verdicts`
    /// @param verdicts As proposed
    /// @param all What every participant revealed, in the order of the verdicts
    function challengeOriginal(uint256 round, uint256 index, Verdict[] calldata verdicts, Opening[] calldata all)
        external;

    // ----------------------------------------------------------- availability

    /// @notice Requests that a leaf of the proposed model be posted here. Anybody may call, as long as there is time for
    ///         an answer and for a dispute about it; that takes the deposit, which whoever posts the leaf is credited.
    ///         When nobody has posted it within `responseSeconds` the aggregator loses its bond: settleRequest.
    /// @param leaf Its number
    function requestModelLeaf(uint256 round, uint256 leaf) external;

    /// @notice Requests that a leaf of an accepted update be posted here, as requestModelLeaf does.
    /// @param leaf Its number
    /// @param index Position of the update's verdict in `verdicts`
    /// @param verdicts As proposed
    /// @param opening What the participant revealed
    function requestUpdateLeaf(
        uint256 round,
        uint256 leaf,
        uint256 index,
        Verdict[] calldata verdicts,
        Opening calldata opening
    ) external;

    /// @notice Posts leaves that are requested. Anybody may, in time; their deposits are credited to the caller. Those
    ///         posted already are passed over, so that two responders do not get in each other's way.
    function postLeaves(LeafAnswer[] calldata answers) external;

    /// @notice Ends a request that nobody answered: the challenger is credited its deposit and, when the proposal still
    ///         stands, the reward of challengeAverage, with the same consequences for the aggregator. Anybody may call.
    /// @param root Root of the update or model that the leaf is of
    /// @param leaf Its number
    function settleRequest(bytes32 root, uint256 leaf) external;

    // ------------------------------------------------------------------ reads

    /// @notice Everything fixed at founding.
    function terms() external view returns (Terms memory);

    /// @notice Who founded the federation and is credited what was never spent.
    function sponsor() external view returns (address);

    /// @notice Unix time of the founding.
    function createdAt() external view returns (uint40);

    /// @notice The listed aggregators in order of precedence.
    function aggregators() external view returns (address[] memory);

    /// @notice Whether an address may aggregate, has posted its bond, or has lost it.
    function aggregatorState(address account) external view returns (AggregatorState);

    /// @notice Position of the current aggregator in the list.
    function currentAggregatorIndex() external view returns (uint8);

    /// @notice Who opens rounds and proposes now.
    function currentAggregator() external view returns (address);

    /// @notice Root and manifest of the last finalized round's model, or of the initial one.
    function currentModel() external view returns (bytes32 root, bytes32 manifest);

    /// @notice Rounds opened so far; the newest round has this number.
    function roundCount() external view returns (uint32);

    /// @notice The last finalized round, 0 when none is: its model is the current one.
    function lastFinalizedRound() external view returns (uint32);

    /// @notice Seats that may commit.
    function activeCount() external view returns (uint16);

    /// @notice Aggregators whose bond is held.
    function bondedCount() external view returns (uint8);

    /// @notice Unix time since which no round has been open.
    function idleSince() external view returns (uint40);

    /// @notice Whether the sponsor closed the federation.
    function isClosed() external view returns (bool);

    /// @notice Whether no round is open and none can be opened any more.
    function isOver() external view returns (bool);

    /// @notice Token units set aside for rewards and fees.
    function escrow() external view returns (uint256);

    /// @notice Token units held for leaf requests that are neither answered nor settled.
    function deposits() external view returns (uint256);

    /// @notice Token units that penalties took: they stay here for ever.
    function burned() external view returns (uint256);

    /// @notice Token units an account can withdraw.
    function creditOf(address account) external view returns (uint256);

    /// @notice Where a round stands at this block's time and number.
    function status(uint256 round) external view returns (Status);

    /// @notice The facts of a round; all zero when it was not opened.
    function getRound(uint256 round) external view returns (Round memory);

    /// @notice What is stored of a round's sum; all zero until a set is sealed.
    function getSum(uint256 round) external view returns (Sum memory);

    /// @notice Whether the round's seed drew `account`: keccak256(seed, account) below the active seats' share of
    ///         `roundTarget`, and always when no more are active. That it is active is another question.
    function isEligible(uint256 round, address account) external view returns (bool);

    /// @notice What `account` submitted to a round.
    function getSubmission(uint256 round, address account) external view returns (Submission memory);

    /// @notice The standing of `account`.
    function getParticipant(address account) external view returns (Participant memory);

    /// @notice The request for a leaf of an update or model; all zero when there is none, or it was settled.
    function leafRequest(bytes32 root, uint256 leaf) external view returns (LeafRequest memory);
}
