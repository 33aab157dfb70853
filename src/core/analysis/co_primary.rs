//! Two servers that replicate from each other: the conditions of a primary under names of their own.

use super::{
    Analysis, Context,
    code::{Act, Code},
    mute::{self, Outcome},
    primary::{self, read_only, unless_isolated},
    replicates,
};
use crate::core::id::ServerAddr;

/// What is wrong with one of two co-primaries. The failover of the passive one is a repair: the
/// cluster's primary lives, so it must stay.
pub(super) fn analyse(cx: &Context<'_>, addr: &ServerAddr) -> Vec<Analysis> {
    let Some(finding) = mute::examine(cx, addr) else { return answering(cx, addr) };
    let (code, restart) = match finding.outcome {
        Outcome::Dead => (Code::DeadCoPrimary, false),
        Outcome::DeadAndSome => (Code::DeadCoPrimaryAndSomeReplicas, false),
        Outcome::NobodyAnswers | Outcome::NoReplicas => (Code::DeadPrimaryAndReplicas, false),
        Outcome::Deaf => (Code::UnreachableCoPrimary, true),
        Outcome::Unconfirmed | Outcome::Heard | Outcome::NoEvidence => (Code::UnreachableCoPrimary, false),
    };
    let mut analysis = Analysis::of(finding, code, addr);
    if code == Code::UnreachableCoPrimary && !restart {
        analysis.act = Act::Nothing;
    }
    if analysis.act == Act::Failover && cx.topology.primary.as_ref() != Some(addr) {
        analysis.act = Act::Repair;
    }
    vec![unless_isolated(cx, analysis)]
}

fn answering(cx: &Context<'_>, addr: &ServerAddr) -> Vec<Analysis> {
    let mut found = Vec::new();
    let Some(seen) = cx.answering(addr) else { return found };
    let ours = cx.topology.primary.as_ref() == Some(addr);
    let other = cx.topology.co_primary(addr).and_then(|other| cx.answering(other));
    if ours && !seen.settings.writable() && !other.is_some_and(|other| other.settings.writable()) {
        found.push(read_only(addr, seen));
    }
    if !cx.replicas_answering(addr).iter().any(|(_, _, channel)| replicates(channel)) {
        found.push(Analysis::new(Code::AllCoPrimaryReplicasNotReplicating, addr, primary::states(cx, addr)));
    }
    found
}
