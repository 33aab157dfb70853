//! Three small servers with what a failover depends on: what each executed, received and still waits to
//! commit, its threads, who may write, who claimed it. Sets of transactions are bits.

/// Transactions, [`PER_SERVER`] bits for each server.
pub(super) type Set = u16;

/// Transactions that a server can have of its own.
pub(super) const PER_SERVER: u8 = 5;
pub(super) const SERVERS: u8 = 3;

/// The transaction of a server with this number, from 0.
pub(super) fn one(server: u8, number: u8) -> Set {
    1 << (server * PER_SERVER + number)
}

/// All transactions that a server can have of its own.
pub(super) fn own(server: u8) -> Set {
    (0..PER_SERVER).map(|number| one(server, number)).sum()
}

/// The right to let clients in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Claim {
    pub epoch: u8,
    /// The process whose session holds it.
    pub by: u8,
    /// The deadline, on the server's clock, has not passed.
    pub valid: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Server {
    pub up: bool,
    /// It runs, but no operator reaches it.
    pub cut: bool,
    pub executed: Set,
    pub received: Set,
    /// In the binary log, waiting for acknowledgements.
    pub waiting: Set,
    /// Acknowledged by a replica, which the server may not have read yet.
    pub acks: Set,
    pub source: Option<u8>,
    pub receiver: bool,
    pub applier: bool,
    pub read_only: bool,
    pub super_read_only: bool,
    pub offline: bool,
    pub source_side: bool,
    /// It acknowledges what it receives.
    pub acker: bool,
    pub claim: Option<Claim>,
    /// Where `Rule::ClaimEnds` is off: a claim that a later one left standing.
    pub outlasted: Option<Claim>,
    /// The highest reign that ever claimed it, and the newest process.
    pub claimed: (u8, u8),
    /// It was started again, and does not replicate by itself.
    pub booted: bool,
    /// Baton let clients in, once.
    pub opened: bool,
}

/// What a step of the world did that must not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Broken {
    /// Clients were let in by a process that did not lead any more.
    LateUnfence,
    /// Clients were let in by a lower reign, or an earlier process, than one that had claimed the server.
    Outdone,
    /// Clients were let in before the epoch was written.
    NoEpoch,
    /// A relay log with acknowledged transactions was thrown away.
    RelayLost,
    /// Clients were routed to a server that nobody opened.
    RoutedUnopened,
    /// A server was touched before the intent was written.
    NoRecord,
    /// An epoch was won that does not lie above all before.
    EpochAgain,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Fleet {
    pub servers: [Server; 3],
    /// What clients were told is committed.
    pub acknowledged: Set,
    /// Rows that are an epoch's, by reign.
    pub epochs: [Set; 3],
    pub broken: Option<Broken>,
}

impl Fleet {
    /// A primary (0) and two replicas that acknowledge, one of which is behind with applying.
    pub(super) fn new() -> Self {
        let first = one(0, 0);
        let primary = Server {
            up: true,
            cut: false,
            executed: first,
            received: 0,
            waiting: 0,
            acks: 0,
            source: None,
            receiver: false,
            applier: false,
            read_only: false,
            super_read_only: false,
            offline: false,
            source_side: true,
            acker: false,
            claim: None,
            outlasted: None,
            claimed: (0, 0),
            booted: false,
            opened: true,
        };
        let replica = Server {
            received: first,
            source: Some(0),
            receiver: true,
            applier: true,
            read_only: true,
            super_read_only: true,
            source_side: false,
            acker: true,
            opened: false,
            ..primary
        };
        Self { servers: [primary, replica, replica], acknowledged: first, epochs: [0; 3], broken: None }
    }

    pub(super) fn at(&self, server: u8) -> &Server {
        &self.servers[usize::from(server)]
    }

    pub(super) fn at_mut(&mut self, server: u8) -> &mut Server {
        &mut self.servers[usize::from(server)]
    }

    pub(super) fn breaks(&mut self, broken: Broken) {
        self.broken.get_or_insert(broken);
    }

    /// Ackers connected to a server.
    pub(super) fn attached(&self, server: u8) -> u8 {
        let attached = |it: &&Server| it.up && it.acker && it.receiver && it.source == Some(server);
        u8::try_from(self.servers.iter().filter(attached).count()).unwrap()
    }

    /// Whether clients can write there.
    pub(super) fn open(&self, server: u8) -> bool {
        let it = self.at(server);
        it.up && !it.read_only && !it.super_read_only && !it.offline
    }

    /// Whether a write that a client began now could be acknowledged.
    pub(super) fn can_acknowledge(&self, server: u8) -> bool {
        self.open(server) && (!self.at(server).source_side || self.attached(server) > 0)
    }

    /// Whether a server's applier would have to wait for acknowledgements (M10).
    fn stalls(&self, server: u8) -> bool {
        self.at(server).source_side && self.attached(server) == 0
    }

    fn all_epochs(&self) -> Set {
        self.epochs.iter().fold(0, |all, set| all | set)
    }

    /// One more transaction on a server; what it is. With semi-sync it waits.
    pub(super) fn commit(&mut self, server: u8) -> Set {
        let it = self.at_mut(server);
        let used = ((it.executed | it.waiting) & own(server)).count_ones();
        let next = one(server, u8::try_from(used).unwrap());
        it.waiting |= next;
        next
    }

    /// Whether a client may write one more.
    pub(super) fn may_write(&self, server: u8) -> bool {
        let it = self.at(server);
        self.open(server) && ((it.executed | it.waiting) & own(server)).count_ones() < u32::from(PER_SERVER) - 2
    }

    pub(super) fn write(&mut self, server: u8) {
        self.commit(server);
        self.release(server);
    }

    /// What a server's commits waited for and it has got, or does not wait for.
    pub(super) fn releasable(&self, server: u8) -> Set {
        let it = self.at(server);
        if !it.up {
            return 0;
        }
        if it.source_side { it.waiting & it.acks } else { it.waiting }
    }

    /// Commits what waits no more; clients are told.
    pub(super) fn release(&mut self, server: u8) {
        let set = self.releasable(server);
        self.acknowledged |= set & !self.all_epochs();
        let it = self.at_mut(server);
        it.executed |= set;
        it.waiting &= !set;
        it.acks = 0;
    }

    /// What a replica would get, and for what it would acknowledge, now.
    fn coming(&self, replica: u8) -> Option<(u8, Set, Set)> {
        let it = self.at(replica);
        let source = it.source.filter(|_| it.up && it.receiver)?;
        let from = self.at(source);
        if !from.up || from.offline {
            return None;
        }
        let new = (from.executed | from.waiting) & !(it.received | it.executed);
        let acks = if it.acker { from.waiting & !from.acks } else { 0 };
        (new != 0 || acks != 0).then_some((source, new, acks))
    }

    pub(super) fn may_receive(&self, replica: u8) -> bool {
        self.coming(replica).is_some()
    }

    pub(super) fn receive(&mut self, replica: u8) {
        if let Some((source, new, acks)) = self.coming(replica) {
            self.at_mut(replica).received |= new;
            self.at_mut(source).acks |= acks;
        }
    }

    pub(super) fn may_apply(&self, replica: u8) -> bool {
        let it = self.at(replica);
        it.up && it.applier && it.received & !it.executed != 0 && !self.stalls(replica)
    }

    pub(super) fn apply(&mut self, replica: u8) {
        if self.may_apply(replica) {
            let it = self.at_mut(replica);
            it.executed |= it.received;
        }
    }

    /// The process is gone: what waited is durable, and nobody was told (M6).
    pub(super) fn crash(&mut self, server: u8) {
        let it = self.at_mut(server);
        it.executed |= it.waiting;
        (it.waiting, it.acks) = (0, 0);
        (it.up, it.claim, it.outlasted) = (false, None, None);
        (it.receiver, it.applier) = (false, false);
    }

    /// It starts as its configuration says: replicas fenced and without replicating.
    pub(super) fn boot(&mut self, server: u8, fenced: bool) {
        let it = self.at_mut(server);
        (it.up, it.booted, it.offline, it.source_side) = (true, true, false, server == 0);
        (it.read_only, it.super_read_only) = (fenced, fenced);
    }
}
