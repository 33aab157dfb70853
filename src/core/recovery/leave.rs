//! When a recovery is left to a Job, and how far that is.

/// When the record is left to the Job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// As soon as it is written.
    AtOnce,
    /// When clients can write and are routed.
    Writable,
}

/// How far the leaving is.
#[derive(Debug, Clone, Default)]
pub(super) struct Leaving {
    pub(super) when: Option<When>,
    /// The Job is there.
    pub(super) started: bool,
    /// The record is being written.
    pub(super) under_way: bool,
    /// That was begun once: the record may be left.
    pub(super) tried: bool,
    /// Something that was begun before the recovery is under way on a server.
    pub(super) barred: bool,
}
