//! How often a server is repaired: not before what is wrong has lasted a while, with pauses that double,
//! and a few times only.

use std::collections::BTreeMap;

use crate::core::{housekeeping::Duty, id::ServerAddr, time::Mono};

/// What is wrong must have lasted so long, in milliseconds: a person may be at it.
const PATIENCE_MS: u64 = 10_000;
/// First pause between two attempts, in milliseconds.
const AGAIN_MS: u64 = 10_000;
/// Attempts before a server is left to a person.
const ATTEMPTS_MAX: u32 = 5;
/// A server that needed no repair for so long is as good as new, in milliseconds.
const FORGET_MS: u64 = 600_000;

/// What was tried on one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tried {
    /// Since when something is wrong; `None`: nothing is.
    since: Option<Mono>,
    count: u32,
    last: Mono,
}

/// What was tried, by server.
#[derive(Debug, Clone, Default)]
pub struct Attempts {
    servers: BTreeMap<ServerAddr, Tried>,
}

impl Attempts {
    /// Which of the repairs that are due may be tried at `now`.
    pub fn allowed(&mut self, now: Mono, due: Vec<Duty>) -> Vec<Duty> {
        for (addr, tried) in &mut self.servers {
            if !due.iter().any(|duty| duty.server == *addr) {
                tried.since = None;
            }
        }
        self.servers.retain(|_, tried| tried.since.is_some() || now.since_ms(tried.last) < FORGET_MS);
        due.into_iter().filter(|duty| self.may(now, &duty.server)).collect()
    }

    fn may(&mut self, now: Mono, addr: &ServerAddr) -> bool {
        let fresh = Tried { since: None, count: 0, last: now };
        let tried = self.servers.entry(addr.clone()).or_insert(fresh);
        let since = *tried.since.get_or_insert(now);
        let pause_ms = AGAIN_MS.saturating_mul(1 << tried.count.min(ATTEMPTS_MAX));
        let rested = tried.count == 0 || now.since_ms(tried.last) >= pause_ms;
        now.since_ms(since) >= PATIENCE_MS && rested && tried.count < ATTEMPTS_MAX
    }

    /// A repair is tried; whether it is the last attempt.
    pub fn tried(&mut self, now: Mono, addr: &ServerAddr) -> bool {
        let Some(tried) = self.servers.get_mut(addr) else { return false };
        (tried.count, tried.last) = (tried.count.saturating_add(1), now);
        tried.count >= ATTEMPTS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{core::step::Action, testing::snapshot::addr};

    #[test]
    fn attempts_are_few_and_far_between() {
        let duty = || vec![Duty { server: addr("r1"), action: Action::StartReceiver, reason: "a test" }];
        let mut attempts = Attempts::default();
        let mut tried_at = Vec::new();
        for second in 0..2000 {
            let now = Mono(second * 1000);
            for duty in attempts.allowed(now, duty()) {
                tried_at.push((second, attempts.tried(now, &duty.server)));
            }
        }
        assert_eq!(tried_at, [(10, false), (30, false), (70, false), (150, false), (310, true)]);
        // All is well for a while.
        assert!(attempts.allowed(Mono(2_000_000), Vec::new()).is_empty());
        attempts.allowed(Mono(2_010_000), duty());
        assert_eq!(attempts.allowed(Mono(2_020_000), duty()).len(), 1, "as good as new");
    }
}
