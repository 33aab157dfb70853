//! Replicas that others replicate from.

use super::{
    Analysis, Context,
    code::{Act, Code},
    mute::{self, Outcome},
    primary::{states, unless_isolated},
    replicates,
};
use crate::core::{
    id::ServerAddr,
    observation::{Channel, Receiver},
    snapshot::hearing,
};

/// What is wrong with an intermediate primary; nothing for a replica without replicas.
pub(super) fn analyse(cx: &Context<'_>, addr: &ServerAddr) -> Vec<Analysis> {
    if cx.topology.replicas(addr).next().is_none() {
        return Vec::new();
    }
    match mute::examine(cx, addr) {
        Some(finding) => {
            let code = dead(finding.outcome, finding.replicas == 1);
            let mut analysis = Analysis::of(finding, code, addr);
            if cx.topology.rings.iter().any(|ring| ring.contains(addr)) {
                analysis.act = Act::Nothing;
            }
            vec![unless_isolated(cx, analysis)]
        }
        None => answering(cx, addr).into_iter().collect(),
    }
}

fn dead(outcome: Outcome, single: bool) -> Code {
    match outcome {
        Outcome::Dead if single => Code::DeadIntermediatePrimaryWithSingleReplicaFailingToConnect,
        Outcome::Dead => Code::DeadIntermediatePrimary,
        Outcome::DeadAndSome => Code::DeadIntermediatePrimaryAndSomeReplicas,
        Outcome::NobodyAnswers | Outcome::NoReplicas => Code::DeadIntermediatePrimaryAndReplicas,
        Outcome::NoEvidence if single => Code::DeadIntermediatePrimaryWithSingleReplica,
        Outcome::Deaf => Code::UnreachableIntermediatePrimaryWithLaggingReplicas,
        Outcome::NoEvidence | Outcome::Unconfirmed | Outcome::Heard => Code::UnreachableIntermediatePrimary,
    }
}

fn answering(cx: &Context<'_>, addr: &ServerAddr) -> Option<Analysis> {
    cx.answering(addr)?;
    let replicas = cx.replicas_answering(addr);
    if replicas.is_empty() || replicas.iter().any(|(_, _, channel)| replicates(channel)) {
        return None;
    }
    let all_fail = replicas.iter().all(|(_, _, channel)| fails_to_connect(channel));
    let code = if all_fail && cx.topology.replicas(addr).count() > 1 {
        Code::AllIntermediatePrimaryReplicasFailingToConnectOrDead
    } else {
        Code::AllIntermediatePrimaryReplicasNotReplicating
    };
    Some(Analysis::new(code, addr, states(cx, addr)))
}

/// The receiver cannot connect to its source, while the applier works.
pub(super) fn fails_to_connect(channel: &Channel) -> bool {
    let cannot = channel.receiver_error.as_ref().is_some_and(hearing::no_connection);
    channel.receiver != Receiver::Running && channel.applier_running && cannot
}
