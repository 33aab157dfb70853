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
    /// When a look last showed that the replica had just lost the source by itself: the receiver left
    /// `Running` for want of a connection, or another attempt to connect failed.
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
        Self { heard_at: running.then_some(at), heard_after: None, lost_at: lost.then_some(at) }
    }

    fn next(self, (then, old): (Mono, &Channel), now: &Channel, at: Mono) -> Self {
        let heard = Self { heard_at: Some(at), heard_after: Some(then), lost_at: None };
        let fresh = now.receiver_error.as_ref().filter(|error| old.receiver_error.as_ref() != Some(*error));
        let refused_by_living = fresh.is_some_and(|error| !no_connection(error));
        if now.receiver == Receiver::Running {
            return if now.heard_since(old) { heard } else { Self { lost_at: None, ..self } };
        }
        if refused_by_living {
            return heard;
        }
        let left = old.receiver == Receiver::Running && now.receiver == Receiver::Connecting;
        let failed_again = fresh.is_some_and(no_connection);
        Self { lost_at: if left || failed_again { Some(at) } else { self.lost_at }, ..self }
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
