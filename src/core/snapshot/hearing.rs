//! What a replica's looks say about its source, channel by channel: when a sign of it was last seen,
//! and when the replica lost it without anybody having stopped the receiver.
//!
//! Kept per channel, because a replica with several sources may hear one and have lost another. A
//! receiver that a person stopped says nothing about its source (safety.md, "Deciding", 2).

use crate::core::{
    observation::{Channel, Receiver, ThreadError},
    time::Mono,
};

/// Signs of one channel's source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hearing {
    /// When a look last showed a sign: a heartbeat, a transaction, a connection, or a refusal that only
    /// a living server can have sent.
    pub heard_at: Option<Mono>,
    /// When the look before that one was: the sign is younger than this.
    pub heard_after: Option<Mono>,
    /// When a look last showed that the receiver had begun to connect: it lost its source, or somebody
    /// started it a moment ago.
    pub left_at: Option<Mono>,
    /// When a look last showed that an attempt to connect had just failed for want of a connection.
    pub lost_at: Option<Mono>,
}

impl Hearing {
    /// Folds in the channel as a look at `at` showed it; `before` is when the look before was and what
    /// it showed.
    #[must_use]
    pub fn fold(before: Option<(Mono, &Channel, Self)>, now: &Channel, at: Mono) -> Self {
        match before.filter(|(_, old, _)| same_source(old, now)) {
            None => Self::first(now, at),
            Some((then, old, known)) => known.next((then, old), now, at),
        }
    }

    fn first(now: &Channel, at: Mono) -> Self {
        let running = now.receiver == Receiver::Running;
        let lost = !running && now.receiver_error.as_ref().is_some_and(no_connection);
        Self { heard_at: running.then_some(at), lost_at: lost.then_some(at), ..Self::default() }
    }

    fn next(self, (then, old): (Mono, &Channel), now: &Channel, at: Mono) -> Self {
        let heard = Self { heard_at: Some(at), heard_after: Some(then), ..Self::default() };
        let fresh = now.receiver_error.as_ref().filter(|error| old.receiver_error.as_ref() != Some(*error));
        let refused_by_living = fresh.is_some_and(|error| !no_connection(error));
        if now.receiver == Receiver::Running {
            return if now.heard_since(old) { heard } else { Self { left_at: None, lost_at: None, ..self } };
        }
        if refused_by_living {
            return heard;
        }
        // Between two looks at a receiver that is restarted it may be seen stopped.
        let left = old.receiver != Receiver::Connecting && now.receiver == Receiver::Connecting;
        let failed = fresh.is_some_and(no_connection);
        let when = |happened, before| if happened { Some(at) } else { before };
        Self { left_at: when(left, self.left_at), lost_at: when(failed, self.lost_at), ..self }
    }
}

/// Whether both looks show the same source; a UUID that is not known yet is no difference.
fn same_source(old: &Channel, now: &Channel) -> bool {
    let same_uuid = old.source_uuid.is_none() || now.source_uuid.is_none() || old.source_uuid == now.source_uuid;
    old.source == now.source && same_uuid
}

/// Whether an error of a receiver says that there was no connection, rather than that the source
/// refused something. Numbers: MySQL error reference, client errors and `ER_NET_*`.
#[must_use]
pub fn no_connection(error: &ThreadError) -> bool {
    matches!(error.code, 2001..=2006 | 2012 | 2013 | 2055 | 1158..=1161)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::snapshot::Cluster;

    #[test]
    fn a_receiver_that_was_seen_stopped_while_it_was_restarted_still_begins_to_connect() {
        let mut cluster = Cluster::primary_and_replicas(1);
        let mut channel = cluster.server("r1").observation.channels[0].clone();
        let mut known = Hearing::fold(None, &channel, Mono(0));
        for (at, receiver) in [(10, Receiver::Stopped), (20, Receiver::Connecting), (30, Receiver::Connecting)] {
            let before = channel.clone();
            channel.receiver = receiver;
            known = Hearing::fold(Some((Mono(at - 10), &before, known)), &channel, Mono(at));
        }
        assert_eq!(known.left_at, Some(Mono(20)));
    }
}
