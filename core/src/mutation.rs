//! Bugs that can be switched on, to see whether the simulator finds them.
//!
//! Each is a mistake that a replicated log has been known for. The code asks [`is_on`] where the bug would be. Without
//! the feature `mutations`, which only the simulator's mutation gate turns on, the answer is a constant.

macro_rules! mutations {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)+) => {
        /// A bug.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Mutation {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Mutation {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// Its name on the command line.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

mutations! {
    /// `replica`: the high watermark is what the leader has on its disk, whatever its followers have.
    HighWithoutFollowers = "high-without-followers",
    /// `replica`: what is in the leader's log counts although it is not on its disk.
    CountUnsynced = "count-unsynced",
    /// `replica`: who is proposed as in sync does not count before the proposal is accepted.
    IgnoreProposed = "ignore-proposed",
    /// `replica`: a follower is proposed as in sync wherever it is.
    JoinBehind = "join-behind",
    /// `replica`: a follower is in sync once it is at the high watermark, however little a new leader knows of it.
    JoinAtOldHigh = "join-at-old-high",
    /// `replica`: things become safe although fewer than `min.insync.replicas` are in sync.
    TooFewInSync = "too-few-in-sync",
    /// `replica`: a follower's log is taken for the beginning of the leader's without a comparison.
    NoComparison = "no-comparison",
    /// `cluster`: whoever lives is elected, in sync or not.
    ElectAnybody = "elect-anybody",
    /// `cluster`: a change of the in-sync replicas is accepted that was decided on old facts.
    AcceptStaleChange = "accept-stale-change",
    /// `cluster`: a new leader goes on in the epoch of the last one.
    SameEpoch = "same-epoch",
    /// `cluster`: a broker that comes back is taken for the one that went, with all that it held.
    SameLife = "same-life",
    /// `cluster`: a broker whose disk was lost is taken for one that has it still.
    SameDisk = "same-disk",
    /// `quorum`: a vote is not written down.
    ForgetVote = "forget-vote",
    /// Driver: a follower acknowledges what is in its log, on the disk or not.
    AckUnsynced = "ack-unsynced",
    /// Driver: a producer is answered before its records are safe.
    AnswerAtOnce = "answer-at-once",
    /// Driver: readers see records that are not safe yet.
    ShowUnsafe = "show-unsafe",
    /// Driver: a follower cuts its log at its high watermark, not where its leader's log parts from it.
    CutAtHigh = "cut-at-high",
    /// Driver: a broker that starts leads again what it led when it stopped.
    LeadFromMemory = "lead-from-memory",
    /// Driver: messages of an earlier term are taken.
    IgnoreEpoch = "ignore-epoch",
    /// `transaction`: whoever takes a transactional id goes on in the epoch of who had it.
    SameProducerEpoch = "same-producer-epoch",
    /// `transaction`: a new coordinator does not go on with what the one before had decided.
    ForgetPrepared = "forget-prepared",
    /// `group`: offsets of a transaction count before it is committed.
    EarlyOffsets = "early-offsets",
    /// `group`: a new coordinator waits for members for ever.
    ForgetSessions = "forget-sessions",
    /// `cluster`: a broker that is out of service keeps its partitions of transforms.
    KeepFencedWorkers = "keep-fenced-workers",
    /// `group`: a member of the classic protocol may commit offsets in a generation that is over.
    OldGeneration = "old-generation",
    /// `group`: the next generation of a classic group begins although members have not joined again.
    LeaveBehind = "leave-behind",
    /// `group`: members of a classic group that moves to KIP-848 are taken to have nothing.
    ForgetOnMove = "forget-on-move",
    /// `storage`: what is decided counts as stable although its marker is not replicated.
    UnreplicatedMarkers = "unreplicated-markers",
    /// `storage`: a marker that comes again ends the next transaction of its producer.
    MarkerAgain = "marker-again",
    /// `storage`: the index of aborted transactions is lost when a log is cut.
    LoseAborted = "lose-aborted",
    /// Driver: a coordinator says that a transaction has ended before that is safe.
    EndBeforeDurable = "end-before-durable",
    /// Driver: a coordinator tells offsets although another one may have replaced it.
    OldOffsets = "old-offsets",
    /// Driver: a leader does not wait for the coordinator before a batch begins a transaction.
    SkipVerification = "skip-verification",
    /// Driver: a broker runs a transform that is paused.
    WorkWhilePaused = "work-while-paused",
    /// Driver: a worker goes on with the release that it began with, whatever its transform has become.
    KeepRelease = "keep-release",
}

#[cfg(feature = "mutations")]
thread_local! {
    static ON: std::cell::Cell<Option<Mutation>> = const { std::cell::Cell::new(None) };
}

/// Switches a bug on for this thread, and every other one off.
#[cfg(feature = "mutations")]
pub fn switch_on(mutation: Option<Mutation>) {
    ON.set(mutation);
}

/// Whether this bug is to be there.
#[cfg(feature = "mutations")]
pub fn is_on(mutation: Mutation) -> bool {
    ON.get() == Some(mutation)
}

/// Whether this bug is to be there: never.
#[cfg(not(feature = "mutations"))]
pub const fn is_on(_: Mutation) -> bool {
    false
}
