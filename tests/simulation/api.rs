//! The simulated API server: the records of one cluster, its status with the epoch, where clients are
//! routed, and the Lease. What src/k8s/records does in a loop of reads and conditional writes is one
//! step here, because its last write decides alone.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
};

use baton::{
    core::{
        election::{Claim, Input, Record as Lease, Timing, Version},
        id::{Epoch, ServerAddr},
        membership::Membership,
        recovery::{Hold, Part, Phase, Recovery},
        relocation::hold::Earlier,
        request::Request,
        rules::{Rule, holds},
        throttle::Past,
    },
    engine::{facts::History, ports::JournalError},
};

/// On what grounds a record is written.
#[derive(Debug, Clone)]
pub enum Ground {
    /// It is new, or was left before anything was done.
    Begin,
    /// It is ours.
    Own,
    /// It was this executor's, which leads no more.
    Over(String),
    /// It was nobody's, or a Job's that is dead, in this version.
    Taken(String),
    /// It is left to its Job: ours.
    Leave,
}

/// A record: created, and then perhaps with a status.
#[derive(Debug, Clone)]
pub struct Stored {
    pub created: u64,
    pub status: Option<Recovery>,
    /// Of the status.
    pub version: u64,
}

#[derive(Debug)]
pub struct Api {
    pub records: BTreeMap<String, Stored>,
    pub epoch: Epoch,
    holder: Option<String>,
    /// `status.primary`.
    pub primary: Option<ServerAddr>,
    pub route: Option<ServerAddr>,
    /// `status.semiSync`.
    pub members: Option<Membership>,
    lease: Option<Lease>,
    version: u64,
    /// Writes apart from the Lease.
    pub writes: u64,
    /// Every epoch that was won, in order.
    pub won: Vec<Epoch>,
    /// Failovers that people asked for, oldest first.
    requests: Vec<Request>,
    /// Jobs that were created.
    pub jobs: BTreeSet<String>,
}

/// Whether an executor is a Job.
pub fn is_job(executor: &str) -> bool {
    executor.starts_with("job-")
}

impl Stored {
    /// Why the leader is not to go on with it.
    pub fn hold(&self) -> Option<Hold> {
        let status = self.status.as_ref()?;
        status.job.as_ref().filter(|job| job.problem.is_empty())?;
        let patience_ms = match status.executor.as_str() {
            "" if status.phase.promoted() => 5000,
            "" => 10_000,
            executor if is_job(executor) => Timing::FAST.lease_ms(),
            _ => return None,
        };
        let version = self.version.to_string();
        Some(Hold { version, patience_ms, reason: format!("the Job of {} is not there", status.record) })
    }
}

impl Api {
    pub fn new(primary: ServerAddr) -> Self {
        Self {
            records: BTreeMap::new(),
            epoch: Epoch(0),
            holder: None,
            primary: Some(primary.clone()),
            route: Some(primary),
            members: None,
            lease: Some(released()),
            version: 0,
            writes: 0,
            won: Vec::new(),
            requests: Vec::new(),
            jobs: BTreeSet::new(),
        }
    }

    /// Writes down who may acknowledge, where `from` is written.
    pub fn write_members(&mut self, from: Option<&Membership>, to: Membership) -> Result<(), JournalError> {
        if self.members.as_ref() != Some(&to) {
            if self.members.as_ref() != from {
                return Err(JournalError::Lost("other ackers are written down".to_owned()));
            }
            self.writes += 1;
            self.members = Some(to);
        }
        Ok(())
    }

    /// A person asks for a failover.
    pub fn ask(&mut self, candidate: Option<ServerAddr>) {
        let number = self.requests.len();
        self.writes += 1;
        self.requests.push(Request {
            record: format!("asked-{number}"),
            uid: number.to_string(),
            server: None,
            candidate,
            reason: "a drill".to_owned(),
            problem: None,
        });
    }

    /// Whether a request is to be answered.
    pub fn asked(&self) -> bool {
        self.requests.iter().any(|request| self.read(&request.record).is_none())
    }

    /// Writes why a request is refused.
    pub fn refuse(&mut self, name: &str) {
        self.writes += 1;
        self.requests.retain(|request| request.record != name);
    }

    /// Creates a record, or finds it there.
    pub fn create(&mut self, name: &str, now: u64) {
        self.writes += 1;
        self.records.entry(name.to_owned()).or_insert(Stored { created: now, status: None, version: 0 });
    }

    /// Whether `name` may begin, or has begun, the epoch.
    pub fn may_win(&self, name: &str, epoch: Epoch) -> Result<bool, JournalError> {
        match self.epoch.cmp(&epoch) {
            _ if !holds(Rule::EpochSwap) => Ok(true),
            Ordering::Greater => Err(JournalError::Lost(format!("epoch {} has begun", self.epoch))),
            Ordering::Equal if self.holder.as_deref() == Some(name) => Ok(false),
            Ordering::Equal => Err(JournalError::Lost(format!("epoch {epoch} is begun by another"))),
            Ordering::Less => Ok(true),
        }
    }

    /// Whether the epoch is still the one in which an intermediate primary was lost.
    pub fn still(&self, epoch: Epoch) -> Result<(), JournalError> {
        let lost = || JournalError::Lost(format!("epoch {} has begun", self.epoch));
        (self.epoch == epoch).then_some(()).ok_or_else(lost)
    }

    pub fn win(&mut self, name: &str, epoch: Epoch) -> Result<(), JournalError> {
        if self.may_win(name, epoch)? {
            self.writes += 1;
            (self.epoch, self.holder) = (epoch, Some(name.to_owned()));
            self.won.push(epoch);
        }
        Ok(())
    }

    pub fn write(&mut self, name: &str, recovery: &Recovery, ground: &Ground) -> Result<(), JournalError> {
        let Some(stored) = self.records.get_mut(name) else {
            return Err(JournalError::Unavailable(format!("{name} is not there")));
        };
        let before = stored.status.as_ref();
        if matches!(ground, Ground::Begin) && before.is_some_and(|status| status.phase != Phase::Pending) {
            return Err(JournalError::Lost(format!("{name} was carried out before")));
        }
        let executor = before.map(|status| status.executor.clone());
        let elsewhere = || JournalError::Unavailable(format!("{name} is not this process' to claim"));
        match (ground, stored.hold()) {
            (Ground::Over(_), Some(_)) => return Err(elsewhere()),
            (Ground::Taken(version), hold) if hold.as_ref().map(|hold| &hold.version) != Some(version) => {
                return Err(elsewhere());
            }
            _ => {}
        }
        let executor = executor.filter(|executor| !executor.is_empty() || matches!(ground, Ground::Taken(_)));
        let ours = match (ground, &executor) {
            (_, Some(executor)) if *executor == recovery.executor => true,
            (Ground::Begin, None) => true,
            (Ground::Over(from), Some(executor)) => executor == from,
            (Ground::Taken(_), _) => true,
            _ => false,
        };
        if !ours {
            return Err(JournalError::Lost(format!("{name} is carried out by {executor:?}")));
        }
        let mut status = recovery.clone();
        if matches!(ground, Ground::Leave) {
            status.executor.clear();
        }
        stored.status = Some(status);
        stored.version += 1;
        self.writes += 1;
        Ok(())
    }

    /// A Job renews its claim.
    pub fn renew(&mut self, name: &str, executor: &str) -> Result<(), JournalError> {
        let stored = self.records.get_mut(name);
        let ours = |stored: &&mut Stored| stored.status.as_ref().is_some_and(|status| status.executor == executor);
        let stored = stored.filter(ours).ok_or_else(|| JournalError::Lost("another one executes it".to_owned()))?;
        stored.version += 1;
        self.writes += 1;
        Ok(())
    }

    /// Whether a record was left by who executed it, or was claimed since.
    pub fn is_left(&self, name: &str) -> bool {
        self.read(name).is_some_and(|status| status.executor.is_empty() || is_job(&status.executor))
    }

    pub fn read(&self, name: &str) -> Option<Recovery> {
        self.records.get(name)?.status.clone()
    }

    pub fn publish(&mut self, target: Option<&ServerAddr>) {
        self.writes += 1;
        self.route = target.cloned();
    }

    /// The newest record that is not finished.
    pub fn unfinished(&self) -> Option<&Recovery> {
        self.newest_first().into_iter().filter_map(|(_, stored)| stored.status.as_ref()).find(|it| !it.phase.finished())
    }

    pub fn newest(&self) -> Option<&Recovery> {
        self.newest_first().into_iter().find_map(|(_, stored)| stored.status.as_ref())
    }

    fn newest_first(&self) -> Vec<(&String, &Stored)> {
        let of_primary = |stored: &Stored| stored.status.as_ref().is_none_or(|status| status.part == Part::Primary);
        let mut all: Vec<_> = self.records.iter().filter(|(_, stored)| of_primary(stored)).collect();
        all.sort_by_key(|(_, stored)| std::cmp::Reverse(stored.status.as_ref().map(|status| status.epoch)));
        all
    }

    /// What a watch shows of the records.
    pub fn history(&self, now: u64) -> History {
        let begun = |request: &&Request| self.read(&request.record).is_none();
        let requests = self.requests.iter().filter(begun).cloned().collect();
        let mut history = History { requests, ..History::default() };
        for (name, stored) in self.newest_first() {
            let Some(status) = &stored.status else { continue };
            history.past.push(Past {
                name: name.clone(),
                phase: status.phase,
                age_ms: now - stored.created,
                acknowledged: false,
                made: status.new_primary.clone(),
                old: Some(status.old_primary.clone()),
                reopened: status.cause.reopens(),
            });
            if !status.phase.finished() && history.unfinished.is_none() {
                history.unfinished = Some(name.clone());
                history.hold = stored.hold();
            }
            if status.phase.promoted() && !status.cause.reopens() && history.last.is_none() {
                history.last = Some(status.clone());
            }
        }
        self.relocations(now, &mut history);
        history
    }

    /// The records of intermediate primaries.
    fn relocations(&self, now: u64, history: &mut History) {
        let of_intermediate = |status: &&Recovery| status.part == Part::IntermediatePrimary;
        for stored in self.records.values() {
            let Some(status) = stored.status.as_ref().filter(of_intermediate) else { continue };
            if !status.phase.finished() {
                history.relocating = Some(status.record.clone());
            }
            history.relocations.push(Earlier {
                record: status.record.clone(),
                lost: status.old_primary.clone(),
                phase: status.phase,
                age_ms: now - stored.created,
                acknowledged: false,
                left: status.pending_replicas.iter().chain(&status.lost_replicas).cloned().collect(),
            });
        }
    }

    /// Another number after every write.
    pub fn changes(&self) -> u64 {
        self.writes + self.version
    }

    pub fn lease(&self) -> Input {
        Input::Observed(self.lease.clone())
    }

    /// Creates the Lease, or updates it if it still is `over`.
    pub fn take_lease(&mut self, over: Option<&Version>, claim: &Claim) -> Input {
        let found = self.lease.as_ref().map(|lease| &lease.version);
        if found != over {
            return Input::Conflict;
        }
        self.version += 1;
        let version = Version { uid: "1".to_owned(), resource: self.version.to_string() };
        let number = |value| i32::try_from(value).ok();
        self.lease = Some(Lease {
            version: version.clone(),
            holder: Some(claim.holder.clone()),
            duration_s: number(claim.duration_s),
            transitions: number(claim.transitions),
        });
        Input::Wrote(version)
    }
}

/// Given up in order by whoever led before: free at once.
fn released() -> Lease {
    let version = Version { uid: "1".to_owned(), resource: "0".to_owned() };
    Lease { version, holder: None, duration_s: Some(1), transitions: None }
}
