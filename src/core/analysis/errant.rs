//! Transactions that a server has and the primary has not.
//!
//! Sets only grow, so only a look at the primary that began after the look at the other had ended
//! proves it; what such a pair of looks proved stays until the next one. Transactions of the primary's
//! own are left out: a replica may show one that the primary is still waiting to commit.

use super::{Analysis, Context, code::Code, evidence::Evidence};
use crate::core::{
    id::ServerAddr,
    observation::Observation,
    snapshot::{ServerState, extra},
};

/// The server's errant transactions, if any.
pub(super) fn analyse(
    cx: &Context<'_>,
    addr: &ServerAddr,
    state: &ServerState,
    seen: &Observation,
) -> Option<Analysis> {
    let primary_addr = cx.topology.primary.as_ref().filter(|primary| *primary != addr)?;
    let primary = cx.snapshot.last(primary_addr)?;
    let both_write = cx.topology.co_primary(addr) == Some(primary_addr) && seen.settings.writable();
    if both_write {
        return None;
    }
    let found = extra(seen, primary).unwrap_or_else(|| state.errant.clone());
    let errant = found.subtract(&found.of_source(&primary.identity.uuid));
    (!errant.is_empty()).then(|| {
        let saw = format!("has {} transactions that {primary_addr} lacks", errant.count());
        Analysis::new(Code::ErrantTransactions, addr, vec![Evidence::new(addr, seen.at, saw)])
    })
}
