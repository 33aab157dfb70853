//! The safety rules that tests switch off, one at a time, to see that something notices
//! (`make mutations`).
//!
//! Without the feature `mutations` every rule holds and asking costs nothing; the operator is never built
//! with it.

/// Declares the rules: name, number in docs/safety.md, where it is kept, what it says.
macro_rules! rules {
    ($($rule:ident, $number:literal, $place:literal, $about:literal;)*) => {
        /// A safety rule.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Rule {
            $(#[doc = $about] $rule,)*
        }

        impl Rule {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$rule,)*];

            /// Its name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$rule => stringify!($rule),)* }
            }

            /// Its number in docs/safety.md.
            #[must_use]
            pub const fn number(self) -> &'static str {
                match self { $(Self::$rule => $number,)* }
            }

            /// The module that keeps it.
            #[must_use]
            pub const fn place(self) -> &'static str {
                match self { $(Self::$rule => $place,)* }
            }

            /// What it says.
            #[must_use]
            pub const fn about(self) -> &'static str {
                match self { $(Self::$rule => $about,)* }
            }
        }
    };
}

rules! {
    OneHears, "Deciding 2, 3", "core::analysis::mute", "A primary that one replica hears, or may hear, is not dead.";
    LostByItself, "Deciding 2", "core::analysis::mute", "A primary is dead only if a replica lost it by itself.";
    LooksTwice, "Deciding 1", "core::analysis::life", "One failed look is no death.";
    Isolation, "Deciding 4", "core::analysis::life", "When most servers fall silent at once, it is our network.";
    GapVoids, "Deciding 5", "engine::cluster", "After a gap in its own running the operator looks anew.";
    FailoverBudget, "I7", "core::throttle", "After a few failovers in a row the next waits for a person, whatever happened.";
    BlockPeriod, "I7", "core::throttle", "A primary that was just made is not replaced again for silence.";
    IntentFirst, "Failing over 1", "core::recovery::machine", "Nothing is done to a server before the record is written.";
    EpochSwap, "Failing over 1", "k8s::records", "An epoch is won once, and never one below another.";
    UnderWay, "Failing over 9", "engine::view", "A failover that another process began is under way: nobody is routed by who knows half of it.";
    Quorum, "Failing over 2", "core::durability", "R >= N - W + 1 stopped ackers fence the old primary, not one less.";
    UnknownAckers, "Failing over 2", "core::durability", "N counts ackers that nobody knows.";
    OpenedWith, "Failing over 2", "core::durability", "What a closed primary acknowledged was acknowledged with the semi-sync settings it had when it was open.";
    LostProves, "Failing over 2", "core::snapshot::forgot", "An acker that lost what it had proves nothing until what its primary had is there again.";
    Connecting, "Failing over 2", "core::recovery::fencing", "Receivers that are just connecting are stopped too.";
    ReceivedCounts, "Failing over 3", "core::observation", "Compared is what was received, not only what was executed.";
    LargestWins, "Failing over 3", "core::candidate", "Who lacks something that another one has is not chosen.";
    Incomparable, "Failing over 3", "core::candidate", "Two sets that each have something of their own end it.";
    EmptyIsReset, "Failing over 3", "core::candidate", "An empty server is new or reset, not behind.";
    ErrantOut, "Failing over 3", "core::candidate", "Who has transactions of its own is not chosen.";
    DrainFirst, "Failing over 4", "core::recovery::promoting", "The chosen server applies what it received before clients are let in.";
    DrainBeforeRepoint, "Failing over 4", "core::recovery::promoting", "Relay logs are applied before their replica is pointed elsewhere.";
    FenceOrder, "Failing over 6", "mysql::execute", "A fence refuses clients before it switches semi-sync off.";
    FenceOld, "Failing over 6", "core::housekeeping", "An old primary that accepts writes is fenced.";
    ServerDeadline, "Failing over 7", "mysql::dialect", "The server itself refuses to let clients in after the deadline.";
    ClaimEnds, "Failing over 7", "mysql::execute", "A claim ends the sessions of lower reigns and of who held it.";
    ChoiceRecorded, "Failing over 7", "core::recovery::promoting", "The record names the chosen server before its epoch is written.";
    EpochFirst, "Failing over 7", "core::recovery::promoting", "The epoch is the first row of a new primary.";
    SemiSyncFirst, "Failing over 8", "core::recovery::promoting", "Commits of the new primary wait for ackers from the first on.";
    AckersFirst, "Failing over 8", "core::recovery::promoting", "The first replicas are attached before clients are let in.";
    WithdrawFirst, "Failing over 9", "core::recovery::promoting", "Nobody is routed to the old primary when clients are let in elsewhere.";
    RouteLast, "Failing over 9", "core::recovery::promoting", "Clients are routed to a server once it is opened.";
    GiveUpRestores, "Failing over 10", "core::recovery::restoring", "Who gives up starts the receivers again that it stopped.";
    OpenedStays, "Failing over 10", "core::recovery::restoring", "Nothing is given up once clients may have been let in.";
    SilentWinner, "Failing over 2", "core::recovery::fencing", "A server that was opened and fell silent must answer before another one is chosen.";
    ReplacedStays, "Failing over 9", "engine::decide", "Whom a record replaced is not the primary because the new one is away.";
    ReopenProof, "The old primary", "core::reopen", "A closed primary is opened again without an election only if nobody has anything that it lacks.";
    SavedFirst, "The old primary", "core::rebuild", "What only one server has is saved before it is discarded.";
    Quarantine, "The old primary", "core::housekeeping", "A server that has something of its own is not made a replica.";
    ForcedProof, "Failing over 2", "core::recovery::forcing", "Who forces a failover needs the old primary fenced, too.";
    RecordedFirst, "Semi-sync", "core::semi_sync", "Who may acknowledge is written down before it does.";
    Validity, "Leadership", "core::election", "Leadership counts from before the request and ends before the Lease.";
    ClaimValidity, "Leadership", "core::claim", "A Job's claim counts from before the request and ends before others take over.";
    ClaimExpires, "Leadership", "core::claim", "What a Job has claimed is taken over only when it has not changed for the claim's duration.";
    LeaseExpires, "Leadership", "core::election", "A Lease that another one holds is waited for until it has expired.";
}

/// Whether a rule holds: always, but for tests of the tests.
#[cfg(not(feature = "mutations"))]
#[inline]
#[must_use]
pub const fn holds(_: Rule) -> bool {
    true
}

#[cfg(feature = "mutations")]
pub use switched::{holds, switch_off};

#[cfg(feature = "mutations")]
mod switched {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::Rule;

    /// Number of the rule that is off; beyond all of them: none.
    static OFF: AtomicUsize = AtomicUsize::new(usize::MAX);

    /// Whether a rule is not the one that is switched off.
    #[must_use]
    pub fn holds(rule: Rule) -> bool {
        OFF.load(Ordering::Relaxed) != rule as usize
    }

    /// Switches one rule off, and the one before on again.
    pub fn switch_off(rule: Option<Rule>) {
        OFF.store(rule.map_or(usize::MAX, |rule| rule as usize), Ordering::Relaxed);
    }
}
