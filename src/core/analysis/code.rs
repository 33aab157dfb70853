//! The one table of everything an analysis can say: Baton's name, orchestrator's name, how bad it is
//! and what may be done about it. Declared most urgent first; that is also the order of analyses.
//!
//! Not here, because Baton cannot tell them: orchestrator's codes for binlog servers and for members
//! of replication groups, which its observations do not distinguish.

use serde::{Deserialize, Serialize};

/// How bad a diagnosis is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Severity {
    /// Clients cannot write, or may be writing to the wrong server.
    Critical,
    /// Something is broken; clients can write.
    Major,
    /// Nothing is broken yet: the next failure will be worse for it.
    Warning,
}

/// What may be done about a diagnosis without asking anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Act {
    /// Another server becomes the primary.
    Failover,
    /// The receivers of the server's replicas are restarted, so that they find out whether it lives.
    RestartReceivers,
    /// The primary stays; other servers are changed.
    Repair,
    /// Nothing.
    Nothing,
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Baton's name.
    pub name: &'static str,
    /// orchestrator's name, for its API and its hooks; `None`: Baton alone says this.
    pub orchestrator: Option<&'static str>,
    /// How bad it is.
    pub severity: Severity,
    /// The most that may be done about it; an analysis may allow less.
    pub act: Act,
    /// A weakness of the structure rather than a failure.
    pub structure: bool,
    /// What it says, in one sentence.
    pub about: &'static str,
}

macro_rules! orchestrator {
    (-) => {
        None
    };
    ($name:literal) => {
        Some($name)
    };
}

macro_rules! kind {
    (failure) => {
        false
    };
    (structure) => {
        true
    };
}

macro_rules! codes {
    ($($code:ident, $orc:tt, $severity:ident, $act:ident, $kind:ident, $about:literal;)+) => {
        /// What is wrong, most urgent first.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Code {
            $(#[doc = $about] $code,)+
        }

        impl Code {
            /// Every code, most urgent first.
            pub const ALL: &'static [Self] = &[$(Self::$code,)+];

            /// Its row of the table.
            #[must_use]
            pub const fn row(self) -> Row {
                match self {
                    $(Self::$code => Row {
                        name: stringify!($code),
                        orchestrator: orchestrator!($orc),
                        severity: Severity::$severity,
                        act: Act::$act,
                        structure: kind!($kind),
                        about: $about,
                    },)+
                }
            }
        }
    };
}

codes! {
    WatchingAnew, -, Critical, Nothing, failure,
        "Baton has just begun to watch, or was not running for a moment: nothing is decided until every server was looked at.";
    OperatorIsolated, "DeadMasterAndReplicas", Critical, Nothing, failure,
        "Most servers fell silent at once: the network of this operator is the likeliest cause, so it waits.";
    SplitBrainSuspected, -, Critical, Nothing, failure,
        "Two servers accept writes and each has transactions that the other lacks.";
    DeadPrimary, "DeadMaster", Critical, Failover, failure,
        "The primary is dead and no replica hears it.";
    DeadPrimaryAndSomeReplicas, "DeadMasterAndSomeReplicas", Critical, Failover, failure,
        "The primary is dead, some replicas do not answer, and no other replica hears it.";
    DeadCoPrimary, "DeadCoMaster", Critical, Failover, failure,
        "One of two co-primaries is dead and no replica hears it.";
    DeadCoPrimaryAndSomeReplicas, "DeadCoMasterAndSomeReplicas", Critical, Failover, failure,
        "One of two co-primaries is dead, some replicas do not answer, and no other replica hears it.";
    DeadPrimaryAndReplicas, "DeadMasterAndReplicas", Critical, Nothing, failure,
        "The primary is dead and no replica answers.";
    DeadPrimaryWithoutReplicas, "DeadMasterWithoutReplicas", Critical, Nothing, failure,
        "The primary is dead and has no replicas.";
    UnreachablePrimaryWithLaggingReplicas, "UnreachableMasterWithLaggingReplicas", Critical, RestartReceivers, failure,
        "The primary does not answer and its replicas cannot tell whether they hear it.";
    UnreachablePrimary, "UnreachableMaster", Critical, Nothing, failure,
        "The primary does not answer, but it is not proven dead.";
    UnreachableCoPrimary, "UnreachableCoMaster", Critical, RestartReceivers, failure,
        "A co-primary does not answer, but it is not proven dead.";
    StalledPrimary, -, Critical, Failover, failure,
        "The primary answers, but its commits hang: its disk may stall or be full.";
    TwoWritable, -, Critical, Nothing, failure,
        "Two servers that do not follow each other accept writes.";
    NoWritablePrimary, "NoWriteableMasterStructureWarning", Critical, Nothing, failure,
        "No server accepts writes.";
    LockedSemiSyncPrimary, "LockedSemiSyncMaster", Critical, Nothing, failure,
        "Commits wait for acknowledgements that too few connected replicas can give.";
    Saturated, -, Critical, Nothing, failure,
        "The server is alive but has no connection left.";
    NoNewConnections, -, Critical, Nothing, failure,
        "The server answers on the old connection but takes no new ones.";
    Unobservable, -, Major, Nothing, failure,
        "The server is alive but does not let Baton look at it.";
    LockedSemiSyncPrimaryHypothesis, "LockedSemiSyncMasterHypothesis", Major, Nothing, failure,
        "Fewer replicas acknowledge than commits wait for: the next commits will hang.";
    SemiSyncSourceOnReplica, -, Major, Repair, failure,
        "A replica has the source side of semi-sync on: its applier waits for acknowledgements nobody sends.";
    AllPrimaryReplicasNotReplicating, "AllMasterReplicasNotReplicating", Major, Nothing, failure,
        "The primary answers, but none of its replicas replicates.";
    AllPrimaryReplicasNotReplicatingOrDead, "AllMasterReplicasNotReplicatingOrDead", Major, Nothing, failure,
        "The primary answers; its replicas are dead or do not replicate.";
    PrimarySingleReplicaNotReplicating, "MasterSingleReplicaNotReplicating", Major, Nothing, failure,
        "The primary's only replica does not replicate.";
    PrimarySingleReplicaDead, "MasterSingleReplicaDead", Major, Nothing, failure,
        "The primary's only replica does not answer.";
    AllCoPrimaryReplicasNotReplicating, "AllCoMasterReplicasNotReplicating", Major, Nothing, failure,
        "A co-primary answers, but none of its replicas replicates.";
    DeadIntermediatePrimary, "DeadIntermediateMaster", Major, Repair, failure,
        "An intermediate primary is dead and none of its replicas hears it.";
    DeadIntermediatePrimaryAndSomeReplicas, "DeadIntermediateMasterAndSomeReplicas", Major, Repair, failure,
        "An intermediate primary is dead, some of its replicas do not answer, and no other hears it.";
    DeadIntermediatePrimaryWithSingleReplicaFailingToConnect, "DeadIntermediateMasterWithSingleReplicaFailingToConnect",
        Major, Repair, failure,
        "An intermediate primary is dead and its only replica has lost it.";
    AllIntermediatePrimaryReplicasFailingToConnectOrDead, "AllIntermediateMasterReplicasFailingToConnectOrDead",
        Major, Repair, failure,
        "An intermediate primary answers, but its replicas fail to connect to it or are dead.";
    DeadIntermediatePrimaryWithSingleReplica, "DeadIntermediateMasterWithSingleReplica", Major, Nothing, failure,
        "An intermediate primary is dead; its only replica does not replicate for another reason.";
    DeadIntermediatePrimaryAndReplicas, "DeadIntermediateMasterAndReplicas", Major, Nothing, failure,
        "An intermediate primary is dead and none of its replicas answers.";
    UnreachableIntermediatePrimaryWithLaggingReplicas, "UnreachableIntermediateMasterWithLaggingReplicas",
        Major, RestartReceivers, failure,
        "An intermediate primary does not answer and its replicas cannot tell whether they hear it.";
    UnreachableIntermediatePrimary, "UnreachableIntermediateMaster", Major, Nothing, failure,
        "An intermediate primary does not answer, but it is not proven dead.";
    AllIntermediatePrimaryReplicasNotReplicating, "AllIntermediateMasterReplicasNotReplicating",
        Major, Nothing, failure,
        "An intermediate primary answers, but none of its replicas replicates.";
    FirstTierReplicaFailingToConnectToPrimary, "FirstTierReplicaFailingToConnectToMaster", Major, Nothing, failure,
        "A replica cannot connect to the primary, which answers.";
    ReplicaWritable, -, Major, Nothing, failure,
        "A replica accepts writes of ordinary clients.";
    CycleDetected, -, Major, Nothing, structure,
        "Three or more servers replicate in a ring.";
    ErrantTransactions, "ErrantGTIDStructureWarning", Major, Nothing, structure,
        "A replica has transactions that the primary has not.";
    PrimaryWithTooManySemiSyncReplicas, "MasterWithTooManySemiSyncReplicas", Warning, Nothing, failure,
        "The primary counts more acknowledging replicas than the cluster has: an unknown server may acknowledge.";
    NotEnoughValidSemiSyncReplicas, "NotEnoughValidSemiSyncReplicasStructureWarning", Warning, Nothing, structure,
        "Semi-sync fell back to asynchronous, because too few replicas acknowledge.";
    NoLoggingReplicas, "NoLoggingReplicasStructureWarning", Warning, Nothing, structure,
        "No replica writes replicated transactions to its own binary log, so none can become primary.";
    NoFailoverSupport, "NoFailoverSupportStructureWarning", Warning, Nothing, structure,
        "Not all replicas replicate by GTID, so they cannot follow another primary.";
    NoBinaryLog, -, Warning, Nothing, structure,
        "The server cannot be a source: its binary log, or the logging of what it replicates, is off.";
    GtidOff, -, Warning, Nothing, structure,
        "The server's transactions have no GTIDs, so it cannot take part in a failover.";
    DifferentGtidModes, "DifferentGTIDModesStructureWarning", Warning, Nothing, structure,
        "The server and its replicas differ in their GTID mode.";
    RelayLogRecoveryOnAcker, -, Warning, Nothing, structure,
        "A replica that acknowledges commits would throw away received transactions after a crash.";
    DetectionDefeated, -, Warning, Nothing, structure,
        "A replica's settings would hide the death of its source, or keep it from coming back.";
    StatementBinlog, -, Warning, Nothing, structure,
        "The binary log is written as statements, which may do something else on a replica.";
    StatementAndMixedLoggingReplicas, "StatementAndMixedLoggingReplicasStructureWarning", Warning, Nothing, structure,
        "Some replicas log statements, others in mixed format.";
    StatementAndRowLoggingReplicas, "StatementAndRowLoggingReplicasStructureWarning", Warning, Nothing, structure,
        "Some replicas log statements, others rows.";
    MixedAndRowLoggingReplicas, "MixedAndRowLoggingReplicasStructureWarning", Warning, Nothing, structure,
        "Some replicas log in mixed format, others rows.";
    MultipleMajorVersionsLoggingReplicas, "MultipleMajorVersionsLoggingReplicasStructureWarning",
        Warning, Nothing, structure,
        "Replicas that could become primary are of different release series.";
}

impl Code {
    /// Baton's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.row().name
    }

    /// What it says, in one sentence without values that tick.
    #[must_use]
    pub const fn description(self) -> &'static str {
        self.row().about
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_severity() {
        assert!(Code::ALL.is_sorted_by_key(|code| code.row().severity));
    }

    #[test]
    fn names_are_unique_and_sentences_end() {
        let names: BTreeSet<_> = Code::ALL.iter().map(|code| code.name()).collect();
        assert_eq!(names.len(), Code::ALL.len());
        for code in Code::ALL {
            assert!(code.row().about.ends_with('.'), "{}", code.name());
        }
    }

    #[test]
    fn orchestrator_words_stay_on_its_side() {
        for code in Code::ALL {
            assert!(!code.name().contains("Master") && !code.name().contains("Slave"), "{}", code.name());
        }
        let names: Vec<_> = Code::ALL.iter().filter_map(|code| code.row().orchestrator).collect();
        let twice = names.iter().filter(|name| **name == "DeadMasterAndReplicas").count();
        assert_eq!((twice, names.len()), (2, names.iter().collect::<BTreeSet<_>>().len() + 1));
    }
}
