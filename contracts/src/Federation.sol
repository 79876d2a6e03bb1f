// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {Average} from "./Average.sol";
import {IFederation} from "./IFederation.sol";
import {Tree} from "./Tree.sol";

/// @title One federation: its money, its commitments and the record of its rounds
/// @notice Participants stake, commit to an update and reveal it; the aggregator proposes the round's model;
///         in the challenge window anybody can show it to be wrong; after it anybody settles the round and
///         everybody withdraws what is theirs.
///         There is no owner and no upgrade. Every step after a deadline can be pushed on by anybody.
/// @dev Each function keeps one order: checks, accounting, event, token transfer. Status is derived, never stored.
///      Tokens in = credited + escrowed + staked + bonded + deposited + withdrawn, always.
contract Federation is IFederation, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    uint256 private constant FULL = 10_000; // basis points
    uint256 private constant MAX_AGGREGATORS = 8;
    // finalize() must fit into one transaction (2^24 gas, EIP-7825), or a round of that size would lock all money.
    uint256 private constant MOST_PARTICIPANTS = 512;
    // So must challengeAverage(), or a large round could not be disputed. Its calldata costs up to 40 gas a byte
    // (EIP-7623), more than the work on it: 400,000 bytes are 16.0 million gas of 16.8 million.
    uint256 private constant MOST_CHALLENGE_BYTES = 400_000;
    uint256 private constant OPENED_UPDATE_BYTES = 192; // beside leaf and proof: what was revealed, verdict, padding

    IERC20 private immutable TOKEN;
    bytes32 private immutable SPEC_DIGEST;
    bytes32 private immutable INITIAL_MODEL_ROOT;
    bytes32 private immutable INITIAL_MODEL_MANIFEST;
    uint32 private immutable LEAF_COUNT;
    uint8 private immutable TREE_DEPTH;
    uint32 private immutable LEAF_VALUES;
    uint16 private immutable MAX_PARTICIPANTS;
    uint32 private immutable WEIGHT_CAP;
    uint32 private immutable ROUNDS;
    uint16 private immutable SAMPLING_FRACTION;
    uint128 private immutable ROUND_REWARD;
    uint128 private immutable AGGREGATOR_FEE;
    uint128 private immutable PARTICIPANT_STAKE;
    uint128 private immutable MISSED_REVEAL_PENALTY;
    uint128 private immutable AGGREGATOR_BOND;
    uint128 private immutable AVAILABILITY_DEPOSIT;
    uint32 private immutable COMMIT_SECONDS;
    uint32 private immutable REVEAL_SECONDS;
    uint32 private immutable PROPOSE_SECONDS;
    uint32 private immutable CHALLENGE_SECONDS;
    uint32 private immutable RESPONSE_SECONDS;
    uint32 private immutable UNBONDING_SECONDS;
    uint40 private immutable CLOSES_AT;

    /// @notice Who deployed the federation and is credited what was never spent.
    address public immutable sponsor;

    /// @notice Rounds opened so far; the newest round has this number.
    uint32 public roundCount;
    /// @notice The last finalized round, 0 when none is: its model is the current one.
    uint32 public lastFinalizedRound;
    /// @notice Participants that may commit.
    uint16 public activeCount;
    /// @notice Position of the current aggregator in the list.
    uint8 public currentAggregatorIndex;
    /// @notice Unix time since which no round has been open.
    uint40 public idleSince;

    /// @notice Token units set aside for rewards and fees.
    uint256 public escrow;
    /// @notice Token units held for demands that are neither answered nor settled.
    uint256 public deposits;
    /// @notice Token units an account can withdraw.
    mapping(address account => uint256 amount) public creditOf;
    /// @notice Whether an address may aggregate, has posted its bond, or has lost it.
    mapping(address aggregator => AggregatorState state) public aggregatorState;

    address[] private _aggregators;
    mapping(address account => Participant) private _participants;
    mapping(uint256 round => Round) private _rounds;
    mapping(uint256 round => mapping(address participant => Submission)) private _submissions;
    mapping(bytes32 key => AvailabilityRequest) private _requests; // by keccak256(root, leaf)

    /// @notice Deploys a federation; the deployer is its sponsor.
    /// @param terms_ What can never change
    /// @param aggregators_ The first leads, the others stand by in this order; at most 8
    constructor(Terms memory terms_, address[] memory aggregators_) {
        _checkTerms(terms_);
        TOKEN = terms_.token;
        SPEC_DIGEST = terms_.specDigest;
        INITIAL_MODEL_ROOT = terms_.initialModelRoot;
        INITIAL_MODEL_MANIFEST = terms_.initialModelManifest;
        LEAF_COUNT = terms_.leafCount;
        TREE_DEPTH = terms_.treeDepth;
        LEAF_VALUES = terms_.leafValues;
        MAX_PARTICIPANTS = terms_.maxParticipants;
        WEIGHT_CAP = terms_.weightCap;
        ROUNDS = terms_.rounds;
        SAMPLING_FRACTION = terms_.samplingFraction;
        ROUND_REWARD = terms_.roundReward;
        AGGREGATOR_FEE = terms_.aggregatorFee;
        PARTICIPANT_STAKE = terms_.participantStake;
        MISSED_REVEAL_PENALTY = terms_.missedRevealPenalty;
        AGGREGATOR_BOND = terms_.aggregatorBond;
        AVAILABILITY_DEPOSIT = terms_.availabilityDeposit;
        COMMIT_SECONDS = terms_.commitSeconds;
        REVEAL_SECONDS = terms_.revealSeconds;
        PROPOSE_SECONDS = terms_.proposeSeconds;
        CHALLENGE_SECONDS = terms_.challengeSeconds;
        RESPONSE_SECONDS = terms_.responseSeconds;
        UNBONDING_SECONDS = terms_.unbondingSeconds;
        CLOSES_AT = terms_.closesAt;
        sponsor = msg.sender;
        idleSince = uint40(block.timestamp);
        _listAggregators(aggregators_);
        emit Created(msg.sender, terms_.specDigest, terms_.initialModelRoot, terms_.initialModelManifest, aggregators_);
    }

    // ------------------------------------------------------------------ money

    /// @notice Adds `amount` to the escrow. Anybody may; what is never spent goes back to the sponsor.
    function fund(uint256 amount) external nonReentrant {
        if (amount == 0) revert ZeroAmount();
        escrow += amount;
        emit Funded(msg.sender, amount);
        _pull(amount);
    }

    /// @notice Once the federation is over, credits the remaining escrow to the sponsor. Anybody may call.
    function refund() external {
        _requireOver();
        uint256 amount = escrow;
        if (amount == 0) revert ZeroAmount();
        escrow = 0;
        creditOf[sponsor] += amount;
        emit Refunded(sponsor, amount);
    }

    /// @notice Pays the caller its credit, and its stake once unbonding is over.
    /// @return amount Token units sent
    function withdraw() external nonReentrant returns (uint256 amount) {
        _releaseStake(msg.sender);
        amount = creditOf[msg.sender];
        if (amount == 0) revert NothingToWithdraw(msg.sender);
        creditOf[msg.sender] = 0;
        emit Withdrawn(msg.sender, amount);
        TOKEN.safeTransfer(msg.sender, amount);
    }

    // ----------------------------------------------------------- participants

    /// @notice Takes part from the next round on: fills the caller's stake up to `participantStake`.
    function join() external nonReentrant {
        Participant storage participant = _participants[msg.sender];
        if (participant.active) revert AlreadyJoined(msg.sender);
        if (activeCount >= MAX_PARTICIPANTS) revert FederationFull(MAX_PARTICIPANTS);
        uint128 amount = PARTICIPANT_STAKE - participant.stake;
        _participants[msg.sender] =
            Participant({stake: PARTICIPANT_STAKE, unlockAt: 0, joinedAfterRound: roundCount, active: true});
        activeCount += 1;
        emit Joined(msg.sender, amount);
        if (amount != 0) _pull(amount);
    }

    /// @notice Stops taking part; the stake can be withdrawn after `unbondingSeconds`.
    function leave() external {
        Participant storage participant = _participants[msg.sender];
        if (participant.unlockAt != 0) revert AlreadyLeaving(msg.sender, participant.unlockAt);
        if (participant.stake == 0) revert NotJoined(msg.sender);
        uint40 unlockAt = uint40(block.timestamp) + UNBONDING_SECONDS;
        _deactivate(participant);
        participant.unlockAt = unlockAt;
        emit Left(msg.sender, unlockAt);
    }

    /// @notice Commits the caller to an update of this round.
    /// @param commitment keccak256(contract, round, participant, root, manifest, examples, salt)
    function commit(uint256 round, bytes32 commitment) external {
        _requireStatus(round, Status.Commit);
        if (commitment == 0) revert ZeroDigest();
        if (!_isActive(round, msg.sender)) revert NotActive(round, msg.sender);
        if (!isEligible(round, msg.sender)) revert NotEligible(round, msg.sender);
        _requireSubmission(round, msg.sender, SubmissionState.None);
        _submissions[round][msg.sender] = Submission({digest: bytes31(commitment), state: SubmissionState.Committed});
        _rounds[round].committed += 1;
        emit Committed(round, msg.sender, commitment);
    }

    /// @notice Reveals the update that the caller committed to; by now it is pinned.
    /// @param root Tree root of the update
    /// @param manifest SHA-256 of its manifest
    /// @param examples Examples it was trained on
    /// @param salt The commitment's secret
    function reveal(uint256 round, bytes32 root, bytes32 manifest, uint32 examples, bytes32 salt) external {
        _requireStatus(round, Status.Reveal);
        _requireSubmission(round, msg.sender, SubmissionState.Committed);
        if (root == 0 || manifest == 0) revert ZeroDigest();
        if (examples == 0) revert NoExamples();
        Submission storage submission = _submissions[round][msg.sender];
        bytes31 opened =
            bytes31(keccak256(abi.encode(address(this), round, msg.sender, root, manifest, examples, salt)));
        if (opened != submission.digest) revert CommitmentMismatch(submission.digest, opened);
        _submissions[round][msg.sender] = Submission({
            digest: bytes31(keccak256(abi.encode(root, manifest, examples))), state: SubmissionState.Revealed
        });
        _rounds[round].revealed += 1;
        emit Revealed(round, msg.sender, root, manifest, examples, salt);
    }

    /// @notice Takes the penalty for a commitment that was not revealed in time. Anybody may call.
    function penalize(uint256 round, address account) external {
        Status actual = status(round);
        if (actual <= Status.Reveal) revert WrongStatus(round, Status.Propose, actual);
        _requireSubmission(round, account, SubmissionState.Committed);
        Participant storage participant = _participants[account];
        uint128 amount = participant.stake < MISSED_REVEAL_PENALTY ? participant.stake : MISSED_REVEAL_PENALTY;
        _submissions[round][account].state = SubmissionState.Penalized;
        if (amount != 0) _deactivate(participant); // no longer fully staked: join() fills it up
        participant.stake -= amount;
        escrow += amount;
        emit Penalized(round, account, amount);
    }

    // ------------------------------------------------------------- aggregator

    /// @notice Posts the caller's bond. Only listed aggregators, once.
    function bond() external nonReentrant {
        _requireAggregator(msg.sender, AggregatorState.Listed);
        aggregatorState[msg.sender] = AggregatorState.Bonded;
        emit Bonded(msg.sender, AGGREGATOR_BOND);
        _pull(AGGREGATOR_BOND);
    }

    /// @notice Once the federation is over, credits the caller its bond.
    function unbond() external {
        _requireOver();
        _requireAggregator(msg.sender, AggregatorState.Bonded);
        aggregatorState[msg.sender] = AggregatorState.Listed;
        creditOf[msg.sender] += AGGREGATOR_BOND;
        emit Unbonded(msg.sender, AGGREGATOR_BOND);
    }

    /// @notice Opens the next round and fixes its seed and deadlines.
    /// @return round Its number, from 1
    function openRound() external returns (uint256 round) {
        _requireCurrentAggregator();
        _requireAggregator(msg.sender, AggregatorState.Bonded);
        _requireIdle();
        if (roundCount >= ROUNDS || block.timestamp >= CLOSES_AT) revert FederationOver(roundCount, CLOSES_AT);
        if (activeCount == 0) revert NoParticipants();
        uint256 required = uint256(ROUND_REWARD) + AGGREGATOR_FEE;
        if (escrow < required) revert EscrowTooLow(escrow, required);
        round = roundCount + 1;
        roundCount = uint32(round);
        Round storage opened = _rounds[round];
        opened.commitDeadline = uint40(block.timestamp) + COMMIT_SECONDS;
        opened.revealDeadline = opened.commitDeadline + REVEAL_SECONDS;
        opened.proposeDeadline = opened.revealDeadline + PROPOSE_SECONDS;
        opened.expected = activeCount;
        opened.seed = keccak256(abi.encode(block.prevrandao, blockhash(block.number - 1), address(this), round));
        emit RoundOpened(
            round,
            msg.sender,
            opened.seed,
            opened.commitDeadline,
            opened.revealDeadline,
            opened.proposeDeadline,
            opened.expected
        );
    }

    /// @notice Proposes the round's model, with a verdict on every revealed update.
    /// @param root Tree root of the weighted mean of the accepted updates
    /// @param manifest SHA-256 of the new model's manifest
    /// @param verdicts One a revealed update, in ascending order of participant
    function propose(uint256 round, bytes32 root, bytes32 manifest, Verdict[] memory verdicts) external {
        _requireStatus(round, Status.Propose);
        _requireCurrentAggregator();
        if (root == 0 || manifest == 0) revert ZeroDigest();
        if (_checkVerdicts(round, verdicts) == 0) _requireModelStays(root, manifest);
        Round storage proposed = _rounds[round];
        uint40 challengeDeadline = uint40(block.timestamp) + CHALLENGE_SECONDS;
        proposed.challengeDeadline = challengeDeadline;
        proposed.modelRoot = root;
        proposed.modelManifest = manifest;
        proposed.verdictsHash = keccak256(abi.encode(verdicts));
        proposed.proposals += 1;
        emit Proposed(round, msg.sender, root, manifest, challengeDeadline, verdicts);
    }

    /// @notice Settles a round whose challenge window has passed. Anybody may call.
    /// @param verdicts As proposed
    function finalize(uint256 round, Verdict[] memory verdicts) external {
        _requireStatus(round, Status.Settleable);
        Round storage settled = _rounds[round];
        _requireProposed(round, keccak256(abi.encode(verdicts)));
        address aggregator = currentAggregator();
        settled.outcome = Outcome.Finalized;
        lastFinalizedRound = uint32(round);
        idleSince = uint40(block.timestamp);
        (uint256 paid, uint256 total) = _creditParticipants(round, verdicts);
        // No fee for a round that used no update, or empty rounds would drain the escrow.
        uint256 fee = total == 0 ? 0 : AGGREGATOR_FEE;
        creditOf[aggregator] += fee;
        escrow -= paid + fee;
        emit Finalized(round, settled.modelRoot, settled.modelManifest, aggregator, fee, paid + fee);
    }

    /// @notice Ends a round that has no update, or whose aggregator is late with no standby left. Anybody may call.
    function abandon(uint256 round) external {
        Status actual = status(round);
        // A counter that only reveal() raises, not a balance that a donation could move.
        // slither-disable-next-line incorrect-equality
        bool isEmpty = _rounds[round].revealed == 0;
        if (actual != Status.Expired && !(actual == Status.Propose && isEmpty)) {
            revert WrongStatus(round, Status.Expired, actual);
        }
        if (!isEmpty) {
            (bool found, uint8 index) = _nextStandby();
            if (found) revert StandbyAvailable(_aggregators[index]);
            _slashCurrent(round);
        }
        _abandon(round);
    }

    /// @notice Hands the lead to the next bonded standby when the aggregator is late. Anybody may call.
    ///         Late in a round costs the bond; late in opening one costs the lead only.
    function replaceAggregator() external {
        uint256 round = roundCount;
        Status actual = status(round);
        (bool found, uint8 index) = _nextStandby();
        if (!found) revert NoStandby();
        if (actual == Status.Expired) {
            _slashCurrent(round);
            _handOver(round, index);
            return;
        }
        _requireIdle();
        uint256 deadline = uint256(idleSince) + PROPOSE_SECONDS;
        if (block.timestamp < deadline) revert AggregatorNotLate(block.timestamp, deadline);
        address previous = currentAggregator();
        idleSince = uint40(block.timestamp);
        currentAggregatorIndex = index;
        emit AggregatorReplaced(0, previous, _aggregators[index], 0);
    }

    // --------------------------------------------------------------- disputes

    /// @notice Shows that one leaf of the proposed model is not the weighted mean of the accepted updates. Anybody may
    ///         call. Half of the aggregator's bond is credited to the caller, half goes to the escrow; a bonded standby
    ///         gets the round with the same reveals, and without one the round is abandoned.
    /// @param leaf Its number
    /// @param verdicts As proposed
    /// @param updates What each accepted participant revealed and its leaf, in the order of the verdicts
    /// @param model The leaf of the proposed model
    function challengeAverage(
        uint256 round,
        uint256 leaf,
        Verdict[] calldata verdicts,
        OpenedUpdate[] calldata updates,
        Leaf calldata model
    ) external {
        _requireStatus(round, Status.Challenge);
        _requireProposed(round, keccak256(abi.encode(verdicts)));
        if (leaf >= LEAF_COUNT) revert LeafOutOfRange(leaf, LEAF_COUNT);
        (uint256[] memory sums, uint256 total) = _sumAccepted(round, leaf, verdicts, updates);
        _requireLeaf(_rounds[round].modelRoot, leaf, model);
        if (Average.isMean(sums, total, model.values)) revert LeafIsRight(round, leaf);
        _refute(round, msg.sender);
    }

    /// @notice Shows that a proposed verdict accepts an update with a weight other than min(examples, weightCap) or a
    ///         score other than 10000. Anybody may call; the consequences are those of challengeAverage.
    /// @param index Position in `verdicts`
    /// @param verdicts As proposed
    /// @param root What the participant revealed, with `manifest` and `examples`
    function challengeVerdict(
        uint256 round,
        uint256 index,
        Verdict[] calldata verdicts,
        bytes32 root,
        bytes32 manifest,
        uint32 examples
    ) external {
        Verdict calldata verdict = _openVerdict(round, index, verdicts, root, manifest, examples);
        uint32 weight = examples < WEIGHT_CAP ? examples : WEIGHT_CAP;
        if (verdict.reason != 0 || (verdict.weight == weight && verdict.score == FULL)) {
            revert VerdictIsRight(round, verdict.participant);
        }
        _refute(round, msg.sender);
    }

    // ----------------------------------------------------------- availability

    /// @notice Demands that a leaf of the proposed model be posted here. Anybody may call, as long as there is time for
    ///         an answer and for a dispute about it; that takes the deposit, which whoever posts the leaf is credited.
    ///         When nobody has posted it within `responseSeconds` the aggregator loses its bond: settleAvailability.
    /// @param leaf Its number
    function challengeModelAvailability(uint256 round, uint256 leaf) external nonReentrant {
        _requireStatus(round, Status.Challenge);
        _demand(round, _rounds[round].modelRoot, leaf);
    }

    /// @notice Demands that a leaf of an accepted update be posted here, as challengeModelAvailability does.
    /// @param leaf Its number
    /// @param index Position of the update's verdict in `verdicts`
    /// @param verdicts As proposed
    /// @param root What the participant revealed, with `manifest` and `examples`
    function challengeUpdateAvailability(
        uint256 round,
        uint256 leaf,
        uint256 index,
        Verdict[] calldata verdicts,
        bytes32 root,
        bytes32 manifest,
        uint32 examples
    ) external nonReentrant {
        Verdict calldata verdict = _openVerdict(round, index, verdicts, root, manifest, examples);
        if (verdict.reason != 0) revert UpdateRejected(round, verdict.participant);
        _demand(round, root, leaf);
    }

    /// @notice Posts a leaf that is demanded. Anybody may, in time; the deposit is credited to the caller.
    /// @param root Root of the update or model it is of
    /// @param index Its number
    /// @param leaf The leaf; it stays readable in the event
    function postLeaf(bytes32 root, uint256 index, Leaf calldata leaf) external {
        AvailabilityRequest memory request = _requests[_requestKey(root, index)];
        if (!_isStanding(request)) revert NotDemanded(root, index);
        if (block.timestamp >= request.deadline) revert TooLateToPost(block.timestamp, request.deadline);
        _requireLeaf(root, index, leaf);
        if (!Tree.isPadded(LEAF_COUNT, index, leaf.proof)) revert WrongPadding(root);
        _requests[_requestKey(root, index)].state = RequestState.Posted;
        _rounds[request.round].openRequests -= 1;
        deposits -= AVAILABILITY_DEPOSIT;
        creditOf[msg.sender] += AVAILABILITY_DEPOSIT;
        emit LeafPosted(request.round, msg.sender, root, index, leaf.values, leaf.proof);
    }

    /// @notice Ends a demand that nobody answered: the challenger is credited its deposit and, when the proposal still
    ///         stands, the reward of challengeAverage, with the same consequences for the aggregator. Anybody may call.
    /// @param root Root of the update or model that the leaf is of
    /// @param leaf Its number
    function settleAvailability(bytes32 root, uint256 leaf) external {
        AvailabilityRequest memory request = _requests[_requestKey(root, leaf)];
        if (request.state != RequestState.Open) revert NotDemanded(root, leaf);
        bool isStanding = _isStanding(request);
        if (isStanding && block.timestamp < request.deadline) revert LeafNotLate(block.timestamp, request.deadline);
        _returnDeposit(request, root, leaf);
        if (isStanding) _refute(request.round, request.challenger);
    }

    // ------------------------------------------------------------------ reads

    /// @notice Everything fixed at deployment.
    function terms() external view returns (Terms memory) {
        return Terms({
            token: TOKEN,
            specDigest: SPEC_DIGEST,
            initialModelRoot: INITIAL_MODEL_ROOT,
            initialModelManifest: INITIAL_MODEL_MANIFEST,
            leafCount: LEAF_COUNT,
            treeDepth: TREE_DEPTH,
            leafValues: LEAF_VALUES,
            maxParticipants: MAX_PARTICIPANTS,
            weightCap: WEIGHT_CAP,
            rounds: ROUNDS,
            samplingFraction: SAMPLING_FRACTION,
            roundReward: ROUND_REWARD,
            aggregatorFee: AGGREGATOR_FEE,
            participantStake: PARTICIPANT_STAKE,
            missedRevealPenalty: MISSED_REVEAL_PENALTY,
            aggregatorBond: AGGREGATOR_BOND,
            availabilityDeposit: AVAILABILITY_DEPOSIT,
            commitSeconds: COMMIT_SECONDS,
            revealSeconds: REVEAL_SECONDS,
            proposeSeconds: PROPOSE_SECONDS,
            challengeSeconds: CHALLENGE_SECONDS,
            responseSeconds: RESPONSE_SECONDS,
            unbondingSeconds: UNBONDING_SECONDS,
            closesAt: CLOSES_AT
        });
    }

    /// @notice The listed aggregators in order of precedence.
    function aggregators() external view returns (address[] memory) {
        return _aggregators;
    }

    /// @notice The facts of a round; all zero when it was not opened.
    function getRound(uint256 round) external view returns (Round memory) {
        return _rounds[round];
    }

    /// @notice What `account` submitted to a round.
    function getSubmission(uint256 round, address account) external view returns (Submission memory) {
        return _submissions[round][account];
    }

    /// @notice The demand for a leaf of an update or model; all zero when there is none, or it was settled.
    function availabilityRequest(bytes32 root, uint256 leaf) external view returns (AvailabilityRequest memory) {
        return _requests[_requestKey(root, leaf)];
    }

    /// @notice The standing of `account`.
    function getParticipant(address account) external view returns (Participant memory) {
        return _participants[account];
    }

    /// @notice Root and manifest of the last finalized round's model, or of the initial one.
    function currentModel() public view returns (bytes32 root, bytes32 manifest) {
        if (lastFinalizedRound == 0) return (INITIAL_MODEL_ROOT, INITIAL_MODEL_MANIFEST);
        Round storage last = _rounds[lastFinalizedRound];
        return (last.modelRoot, last.modelManifest);
    }

    /// @notice Who opens rounds and proposes now.
    function currentAggregator() public view returns (address) {
        return _aggregators[currentAggregatorIndex];
    }

    /// @notice Whether the round's seed drew `account`: keccak256(seed, account) < samplingFraction.
    function isEligible(uint256 round, address account) public view returns (bool) {
        if (SAMPLING_FRACTION == FULL) return true;
        uint256 drawn = uint256(keccak256(abi.encode(_rounds[round].seed, account)));
        // Divided first, or the product would overflow; what that loses is below 10^-72.
        // slither-disable-next-line divide-before-multiply
        return drawn < type(uint256).max / FULL * SAMPLING_FRACTION;
    }

    /// @notice Where a round stands at this block's time.
    function status(uint256 round) public view returns (Status) {
        Round storage r = _rounds[round];
        if (r.commitDeadline == 0) return Status.None;
        if (r.outcome != Outcome.Open) {
            return r.outcome == Outcome.Finalized ? Status.Finalized : Status.Abandoned;
        }
        if (r.challengeDeadline != 0) {
            // An overdue leaf keeps the round here until settleAvailability, which anybody may call at once.
            bool isOpen = block.timestamp < r.challengeDeadline || r.openRequests != 0;
            return isOpen ? Status.Challenge : Status.Settleable;
        }
        if (r.committed < r.expected && block.timestamp < r.commitDeadline) return Status.Commit;
        if (r.revealed < r.committed && block.timestamp < r.revealDeadline) return Status.Reveal;
        return block.timestamp < r.proposeDeadline ? Status.Propose : Status.Expired;
    }

    /// @notice Whether no round is open and none can be opened any more.
    function isOver() public view returns (bool) {
        return _isIdle() && (roundCount >= ROUNDS || block.timestamp >= CLOSES_AT);
    }

    // --------------------------------------------------------------- internal

    // A flat list of one-line checks reads better than pieces of it.
    // slither-disable-next-line cyclomatic-complexity
    function _checkTerms(Terms memory t) private view {
        if (address(t.token).code.length == 0) revert InvalidTerm("token", uint160(address(t.token)));
        if (t.specDigest == 0) revert InvalidTerm("specDigest", 0);
        if (t.initialModelRoot == 0) revert InvalidTerm("initialModelRoot", 0);
        if (t.initialModelManifest == 0) revert InvalidTerm("initialModelManifest", 0);
        if (t.leafCount == 0) revert InvalidTerm("leafCount", 0);
        // The smallest power of two that holds every leaf, and no larger.
        if (t.treeDepth > 32 || 1 << t.treeDepth < t.leafCount || (1 << t.treeDepth) / 2 >= t.leafCount) {
            revert InvalidTerm("treeDepth", t.treeDepth);
        }
        if (t.maxParticipants == 0 || t.maxParticipants > MOST_PARTICIPANTS) {
            revert InvalidTerm("maxParticipants", t.maxParticipants);
        }
        if (t.weightCap == 0 || uint256(t.maxParticipants) * t.weightCap >= 1 << 31) {
            revert InvalidTerm("weightCap", t.weightCap);
        }
        uint256 openedBytes = 4 * uint256(t.leafValues) + 32 * uint256(t.treeDepth) + OPENED_UPDATE_BYTES;
        if (t.leafValues == 0 || (uint256(t.maxParticipants) + 1) * openedBytes > MOST_CHALLENGE_BYTES) {
            revert InvalidTerm("leafValues", t.leafValues);
        }
        if (t.rounds == 0) revert InvalidTerm("rounds", 0);
        if (t.samplingFraction == 0 || t.samplingFraction > FULL) {
            revert InvalidTerm("samplingFraction", t.samplingFraction);
        }
        if (t.participantStake == 0) revert InvalidTerm("participantStake", 0);
        if (t.aggregatorBond == 0) revert InvalidTerm("aggregatorBond", 0);
        // A demand is made before the last two responseSeconds: one for the answer, one to dispute what it shows.
        if (t.responseSeconds != 0 && t.challengeSeconds < 3 * uint256(t.responseSeconds)) {
            revert InvalidTerm("responseSeconds", t.responseSeconds);
        }
        if (t.responseSeconds != 0 && t.availabilityDeposit == 0) revert InvalidTerm("availabilityDeposit", 0);
        if (t.missedRevealPenalty > t.participantStake) {
            revert InvalidTerm("missedRevealPenalty", t.missedRevealPenalty);
        }
        if (t.commitSeconds == 0) revert InvalidTerm("commitSeconds", 0);
        if (t.revealSeconds == 0) revert InvalidTerm("revealSeconds", 0);
        if (t.proposeSeconds == 0) revert InvalidTerm("proposeSeconds", 0);
        // A stake must outlast every commitment it stands for, with time left to take the penalty.
        if (t.unbondingSeconds < uint256(t.commitSeconds) + t.revealSeconds + t.proposeSeconds) {
            revert InvalidTerm("unbondingSeconds", t.unbondingSeconds);
        }
        if (t.closesAt <= block.timestamp) revert InvalidTerm("closesAt", t.closesAt);
    }

    function _listAggregators(address[] memory listed) private {
        if (listed.length == 0 || listed.length > MAX_AGGREGATORS) revert InvalidTerm("aggregators", listed.length);
        for (uint256 i = 0; i < listed.length; ++i) {
            address aggregator = listed[i];
            if (aggregator == address(0) || aggregatorState[aggregator] != AggregatorState.Unlisted) {
                revert InvalidAggregator(aggregator);
            }
            aggregatorState[aggregator] = AggregatorState.Listed;
        }
        _aggregators = listed;
    }

    function _requireStatus(uint256 round, Status required) private view {
        Status actual = status(round);
        if (actual != required) revert WrongStatus(round, required, actual);
    }

    function _requireSubmission(uint256 round, address account, SubmissionState required) private view {
        SubmissionState actual = _submissions[round][account].state;
        if (actual != required) revert WrongSubmissionState(round, account, required, actual);
    }

    function _requireAggregator(address account, AggregatorState required) private view {
        AggregatorState actual = aggregatorState[account];
        if (actual != required) revert WrongAggregatorState(account, required, actual);
    }

    function _requireCurrentAggregator() private view {
        address aggregator = currentAggregator();
        if (msg.sender != aggregator) revert NotAggregator(msg.sender, aggregator);
    }

    function _requireIdle() private view {
        if (!_isIdle()) revert RoundStillOpen(roundCount, status(roundCount));
    }

    function _requireOver() private view {
        if (!isOver()) revert FederationNotOver(roundCount, CLOSES_AT);
    }

    function _requireProposed(uint256 round, bytes32 given) private view {
        bytes32 proposed = _rounds[round].verdictsHash;
        if (given != proposed) revert VerdictsMismatch(given, proposed);
    }

    function _requireRevealed(uint256 round, address account, bytes32 root, bytes32 manifest, uint32 examples)
        private
        view
    {
        bytes31 given = bytes31(keccak256(abi.encode(root, manifest, examples)));
        bytes31 revealed = _submissions[round][account].digest;
        if (given != revealed) revert RevealMismatch(account, given, revealed);
    }

    /// @dev A verdict of the standing proposal, and what its participant revealed.
    function _openVerdict(
        uint256 round,
        uint256 index,
        Verdict[] calldata verdicts,
        bytes32 root,
        bytes32 manifest,
        uint32 examples
    ) private view returns (Verdict calldata verdict) {
        _requireStatus(round, Status.Challenge);
        _requireProposed(round, keccak256(abi.encode(verdicts)));
        if (index >= verdicts.length) revert VerdictOutOfRange(index, verdicts.length);
        verdict = verdicts[index];
        _requireRevealed(round, verdict.participant, root, manifest, examples);
    }

    /// @dev Fixed lengths bound what a challenge can cost, and leave a leaf one way to be read.
    function _requireLeaf(bytes32 root, uint256 index, Leaf calldata leaf) private view {
        uint256 length = 4 * uint256(LEAF_VALUES);
        if (leaf.values.length != length) revert LeafLength(leaf.values.length, length);
        if (leaf.proof.length != TREE_DEPTH) revert ProofLength(leaf.proof.length, TREE_DEPTH);
        bytes32 computed = Tree.rootOf(leaf.values, index, leaf.proof);
        if (computed != root) revert RootMismatch(computed, root);
    }

    function _requireModelStays(bytes32 root, bytes32 manifest) private view {
        (bytes32 currentRoot, bytes32 currentManifest) = currentModel();
        if (root != currentRoot || manifest != currentManifest) revert ModelMustStay(root, currentRoot);
    }

    function _isIdle() private view returns (bool) {
        return roundCount == 0 || _rounds[roundCount].outcome != Outcome.Open;
    }

    function _isActive(uint256 round, address account) private view returns (bool) {
        Participant storage participant = _participants[account];
        return participant.active && participant.joinedAfterRound < round;
    }

    function _deactivate(Participant storage participant) private {
        if (!participant.active) return;
        participant.active = false;
        activeCount -= 1;
    }

    function _releaseStake(address account) private {
        Participant storage participant = _participants[account];
        if (participant.unlockAt == 0 || block.timestamp < participant.unlockAt) return;
        uint256 amount = participant.stake;
        delete _participants[account];
        creditOf[account] += amount;
        emit StakeReleased(account, amount);
    }

    /// @dev Returns how many were accepted.
    function _checkVerdicts(uint256 round, Verdict[] memory verdicts) private view returns (uint256 accepted) {
        uint256 revealed = _rounds[round].revealed;
        if (verdicts.length != revealed) revert VerdictCount(verdicts.length, revealed);
        address previous = address(0);
        for (uint256 i = 0; i < verdicts.length; ++i) {
            Verdict memory v = verdicts[i];
            if (v.participant <= previous) revert VerdictOrder(previous, v.participant);
            _requireSubmission(round, v.participant, SubmissionState.Revealed);
            bool isValid = v.reason == 0
                ? v.weight != 0 && v.weight <= WEIGHT_CAP && v.score <= FULL
                : v.weight == 0 && v.score == 0;
            if (!isValid) revert InvalidVerdict(v.participant, v.weight, v.score, v.reason);
            if (v.reason == 0) accepted += 1;
            previous = v.participant;
        }
    }

    /// @dev The accepted leaves times their weights, added up as library Average does, and the sum of the weights.
    function _sumAccepted(uint256 round, uint256 leaf, Verdict[] calldata verdicts, OpenedUpdate[] calldata updates)
        private
        view
        returns (uint256[] memory sums, uint256 total)
    {
        uint256 accepted = _countAccepted(verdicts);
        if (accepted == 0) revert NothingAveraged(round);
        if (updates.length != accepted) revert OpenedCount(updates.length, accepted);
        sums = Average.empty(LEAF_VALUES);
        uint256 next = 0;
        for (uint256 i = 0; i < verdicts.length; ++i) {
            if (verdicts[i].reason != 0) continue;
            OpenedUpdate calldata update = updates[next++];
            _requireRevealed(round, verdicts[i].participant, update.root, update.manifest, update.examples);
            _requireLeaf(update.root, leaf, update.leaf);
            Average.add(sums, update.leaf.values, verdicts[i].weight);
            total += verdicts[i].weight;
        }
    }

    function _countAccepted(Verdict[] calldata verdicts) private pure returns (uint256 accepted) {
        for (uint256 i = 0; i < verdicts.length; ++i) {
            if (verdicts[i].reason == 0) accepted += 1;
        }
    }

    /// @dev Credits reward * weight*score / total, rounded down, where total = sum(weight*score).
    function _creditParticipants(uint256 round, Verdict[] memory verdicts)
        private
        returns (uint256 paid, uint256 total)
    {
        for (uint256 i = 0; i < verdicts.length; ++i) {
            total += uint256(verdicts[i].weight) * verdicts[i].score;
        }
        if (total == 0) return (0, 0);
        for (uint256 i = 0; i < verdicts.length; ++i) {
            Verdict memory v = verdicts[i];
            uint256 amount = uint256(ROUND_REWARD) * (uint256(v.weight) * v.score) / total;
            if (amount == 0) continue;
            paid += amount;
            creditOf[v.participant] += amount;
            emit Paid(round, v.participant, amount);
        }
    }

    /// @dev The next bonded aggregator after the current one, in the order of the list.
    function _nextStandby() private view returns (bool found, uint8 index) {
        uint256 count = _aggregators.length;
        for (uint256 step = 1; step < count; ++step) {
            uint256 candidate = (currentAggregatorIndex + step) % count;
            if (aggregatorState[_aggregators[candidate]] == AggregatorState.Bonded) return (true, uint8(candidate));
        }
    }

    /// @dev Takes the deposit, opens the request and counts it. A void request of the same leaf is settled on the way.
    function _demand(uint256 round, bytes32 root, uint256 leaf) private {
        if (RESPONSE_SECONDS == 0) revert AvailabilityOff();
        if (leaf >= LEAF_COUNT) revert LeafOutOfRange(leaf, LEAF_COUNT);
        Round storage challenged = _rounds[round];
        uint256 latest = challenged.challengeDeadline - 2 * uint256(RESPONSE_SECONDS);
        if (block.timestamp > latest) revert TooLateToDemand(block.timestamp, latest);
        AvailabilityRequest memory old = _requests[_requestKey(root, leaf)];
        if (old.state == RequestState.Posted) revert LeafIsPublic(root, leaf);
        if (_isStanding(old)) revert AlreadyDemanded(root, leaf);
        if (old.state == RequestState.Open) _returnDeposit(old, root, leaf);
        uint40 deadline = uint40(block.timestamp) + RESPONSE_SECONDS;
        _requests[_requestKey(root, leaf)] = AvailabilityRequest({
            challenger: msg.sender,
            deadline: deadline,
            round: uint32(round),
            proposal: challenged.proposals,
            state: RequestState.Open
        });
        challenged.openRequests += 1;
        deposits += AVAILABILITY_DEPOSIT;
        emit AvailabilityChallenged(round, msg.sender, root, leaf, deadline);
        _pull(AVAILABILITY_DEPOSIT);
    }

    /// @dev Forgets a request that was not answered.
    function _returnDeposit(AvailabilityRequest memory request, bytes32 root, uint256 leaf) private {
        delete _requests[_requestKey(root, leaf)];
        deposits -= AVAILABILITY_DEPOSIT;
        creditOf[request.challenger] += AVAILABILITY_DEPOSIT;
        emit DepositReturned(request.round, request.challenger, root, leaf);
    }

    /// @dev Whether a request is open and the proposal it is about neither settled nor refuted.
    function _isStanding(AvailabilityRequest memory request) private view returns (bool) {
        Round storage r = _rounds[request.round];
        return request.state == RequestState.Open && r.outcome == Outcome.Open && r.challengeDeadline != 0
            && r.proposals == request.proposal;
    }

    function _requestKey(bytes32 root, uint256 leaf) private pure returns (bytes32) {
        return keccak256(abi.encode(root, leaf));
    }

    /// @dev Voids the proposal with every demand about it, takes the aggregator's bond, credits half of it to
    ///      `rewarded` and hands the round on, reveals and all.
    function _refute(uint256 round, address rewarded) private {
        Round storage refuted = _rounds[round];
        bytes32 root = refuted.modelRoot;
        uint256 reward = AGGREGATOR_BOND / 2;
        refuted.challengeDeadline = 0;
        refuted.openRequests = 0;
        refuted.modelRoot = 0;
        refuted.modelManifest = 0;
        refuted.verdictsHash = 0;
        _slashCurrent(round);
        escrow -= reward;
        creditOf[rewarded] += reward;
        emit ProposalRefuted(round, rewarded, currentAggregator(), root, reward);
        (bool found, uint8 index) = _nextStandby();
        if (found) _handOver(round, index);
        else _abandon(round);
    }

    /// @dev Makes a standby responsible for an open round, with a proposal phase of its own.
    function _handOver(uint256 round, uint8 index) private {
        address previous = currentAggregator();
        uint40 proposeDeadline = uint40(block.timestamp) + PROPOSE_SECONDS;
        _rounds[round].proposeDeadline = proposeDeadline;
        currentAggregatorIndex = index;
        emit AggregatorReplaced(round, previous, _aggregators[index], proposeDeadline);
    }

    function _abandon(uint256 round) private {
        _rounds[round].outcome = Outcome.Abandoned;
        idleSince = uint40(block.timestamp);
        emit Abandoned(round);
    }

    function _slashCurrent(uint256 round) private {
        address aggregator = currentAggregator();
        aggregatorState[aggregator] = AggregatorState.Slashed;
        escrow += AGGREGATOR_BOND;
        emit AggregatorSlashed(round, aggregator, AGGREGATOR_BOND);
    }

    function _pull(uint256 amount) private {
        uint256 before = TOKEN.balanceOf(address(this));
        TOKEN.safeTransferFrom(msg.sender, address(this), amount);
        uint256 received = TOKEN.balanceOf(address(this)) - before;
        if (received != amount) revert WrongAmountReceived(received, amount);
    }
}
