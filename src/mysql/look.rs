//! One look: asks, reads the answer by name, keeps what is asked for only now and then.

use std::collections::BTreeSet;

mod channels;
pub(super) mod processes;
mod sets;
mod texts;

use mysql_async::Row;

use self::{processes::Process, sets::Sets, texts::Texts};
use super::{
    dialect::{
        SemiSyncWords,
        look::{Ask, LookText, Part},
    },
    error::SessionError,
    rows::{Named, is_on, pair},
    session::Session,
};
use crate::core::{
    gtid::GtidSet,
    id::ServerAddr,
    observation::{
        BinlogFormat, Commits, Downstream, Facts, Failure, FailureKind, GtidMode, Identity, Observation, SemiSync,
        SemiSyncSource, Settings,
    },
    time::Mono,
    version::{Flavor, Version},
};

/// Replicas read from one server at most.
const DOWNSTREAM_MAX: usize = 200;

/// What is found out beside the looks, on connections of its own.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Beside {
    /// Answers of the user's queries.
    pub facts: Facts,
    /// Why new connections are not taken.
    pub refuses_new: Option<Failure>,
}

/// What was read with the newest slow look.
#[derive(Debug, Clone, Default)]
pub struct Kept {
    /// Semi-sync variables by name.
    semi_sync: Vec<(String, String)>,
    status: Vec<(String, String)>,
    intervals: Vec<(String, u64)>,
    downstream: Vec<Downstream>,
    /// UUIDs of connections that acknowledge, one for each; empty where a replica did not say its own.
    acknowledging: Vec<String>,
    /// How many were counted right after they were listed.
    clients_after: Option<u32>,
    commits: Option<Commits>,
    /// What is found out beside the looks.
    pub beside: Beside,
    sets: Sets,
    texts: Texts,
    /// A slow look was taken on this connection.
    pub filled: bool,
    /// Parts that this account may not read.
    pub denied: Vec<Part>,
}

impl Kept {
    /// The words the server's semi-sync plugins use; `None`: there are none.
    #[must_use]
    pub fn words(&self) -> Option<SemiSyncWords> {
        let has = |prefix: &str| self.semi_sync.iter().any(|(name, _)| name.starts_with(prefix));
        if has("rpl_semi_sync_source_") || has("rpl_semi_sync_replica_") {
            Some(SemiSyncWords::SourceReplica)
        } else if has("rpl_semi_sync_master_") || has("rpl_semi_sync_slave_") {
            Some(SemiSyncWords::MasterSlave)
        } else {
            None
        }
    }
}

/// One look: what it asks beyond the ordinary, and how long it may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Glance {
    /// Also what changes rarely or costs more; else that is as it was in the last slow look.
    pub slow: bool,
    /// Also `SHOW REPLICAS`.
    pub replica_hosts: bool,
    /// Also commits under way.
    pub commits: bool,
    /// The server waits that long first.
    pub pause_ms: Option<u64>,
    /// Longest time to the complete answer, the pause not counted.
    pub budget_ms: u64,
}

/// Looks at the server. A part that the account may not read is left out from then on, so that a
/// missing privilege costs that part and not the look.
///
/// # Errors
/// [`SessionError`]; after `Silent` the session must be dropped.
pub async fn take(
    session: &mut Session,
    kept: &mut Kept,
    glance: Glance,
    now: impl Fn() -> Mono,
) -> Result<Box<Observation>, SessionError> {
    let pause_ms = glance.pause_ms.unwrap_or_default();
    loop {
        let asked = kept.texts.get(Ask {
            version: session.version,
            performance_schema: session.performance_schema,
            slow: glance.slow,
            replica_hosts: glance.replica_hosts,
            commits: glance.commits,
            pause_ms: glance.pause_ms,
            denied: &kept.denied,
        });
        let started = now();
        let LookText { text, parts } = &*asked;
        let results = session.query("a look", text, parts.len(), glance.budget_ms.saturating_add(pause_ms)).await;
        let results = match results {
            Err(error) if error.lacks_privilege() => {
                let part = parts.get(error.answered).copied().filter(|part| part.optional());
                kept.denied.push(part.ok_or(error)?);
                continue;
            }
            results => results?,
        };
        let at = now();
        let answer = Answer { version: session.version, results: parts.iter().copied().zip(results).collect() };
        answer.keep(kept, glance.slow);
        kept.sets.turn();
        kept.filled |= glance.slow;
        return answer.observation(kept, at, at.since_ms(started).saturating_sub(pause_ms));
    }
}

struct Answer {
    version: Version,
    results: Vec<(Part, Vec<Row>)>,
}

impl Answer {
    fn rows(&self, part: Part) -> &[Row] {
        self.results.iter().find(|(found, _)| *found == part).map(|(_, rows)| rows.as_slice()).unwrap_or_default()
    }

    fn keep(&self, kept: &mut Kept, slow: bool) {
        let status: Vec<_> = self.rows(Part::Status).iter().filter_map(pair).collect();
        if !status.is_empty() {
            kept.status = status;
        }
        if !slow {
            return;
        }
        kept.semi_sync = self.rows(Part::SemiSyncVariables).iter().filter_map(pair).collect();
        let interval = |row: &Row| {
            let row = Named(row);
            let seconds: f64 = row.number(&["HEARTBEAT_INTERVAL"])?;
            Some((row.text(&["CHANNEL_NAME"]).unwrap_or_default(), channels::seconds_to_ms(seconds)))
        };
        kept.intervals = self.rows(Part::Intervals).iter().filter_map(interval).collect();
        kept.downstream = self.downstream();
        kept.commits = self.commits();
        kept.clients_after = self.rows(Part::Clients).iter().filter_map(pair).find_map(|(_, value)| value.parse().ok());
        let acknowledging = |row: &Row| {
            let row = Named(row);
            row.flag(&["acknowledges"])?.then(|| row.text(&["uuid"]).unwrap_or_default())
        };
        kept.acknowledging = self.rows(Part::Dumps).iter().filter_map(acknowledging).collect();
    }

    fn commits(&self) -> Option<Commits> {
        if let Some(row) = self.rows(Part::Commits).first().map(Named) {
            return Some(Commits { waiting: row.number(&["waiting"])?, binlog_writes: row.number(&["writes"]) });
        }
        let processes = self.rows(Part::Processes);
        let waiting = processes.iter().filter_map(Process::read).filter(Process::commits).count();
        (!processes.is_empty())
            .then(|| Commits { waiting: u32::try_from(waiting).unwrap_or(u32::MAX), binlog_writes: None })
    }

    fn downstream(&self) -> Vec<Downstream> {
        let dump = |row: &Row| {
            let host = host_part(&Named(row).text(&["host"])?);
            Some(Downstream { host, port: None, server_id: None, uuid: Named(row).text(&["uuid"]) })
        };
        let registered = |row: &Row| {
            let row = Named(row);
            Some(Downstream {
                host: row.text(&["Host"])?,
                port: row.number(&["Port"]),
                server_id: row.number(&["Server_Id", "Server_id"]),
                uuid: row.text(&["Replica_UUID", "Slave_UUID"]),
            })
        };
        let dumps = self.rows(Part::Dumps).iter().filter_map(dump);
        let processes = self.rows(Part::Processes).iter().filter_map(Process::read).filter(Process::dumps);
        let listed = processes.map(|process| Downstream {
            host: host_part(&process.host),
            port: None,
            server_id: None,
            uuid: None,
        });
        let hosts = self.rows(Part::ReplicaHosts).iter().filter_map(registered);
        let mut all: Vec<_> = dumps.chain(listed).chain(hosts).take(DOWNSTREAM_MAX).collect();
        all.sort();
        all.dedup();
        all
    }

    fn observation(&self, kept: &mut Kept, at: Mono, took_ms: u64) -> Result<Box<Observation>, SessionError> {
        let unusable = |what: &str| SessionError::new(FailureKind::Statement, &format!("unusable answer: {what}"));
        let row = self.rows(Part::Settings).first().map(Named).ok_or_else(|| unusable("no settings"))?;
        let executed = self.executed(&row, kept).ok_or_else(|| unusable("GTID set"))?;
        let purged = kept.sets.parse(row.text(&["gtid_purged"]).unwrap_or_default());
        let purged = purged.ok_or_else(|| unusable("gtid_purged"))?;
        let channels = self.channels(kept);
        Ok(Box::new(Observation {
            at,
            took_ms,
            identity: self.identity(&row),
            settings: self.settings(&row),
            executed,
            purged,
            written: written(&row).ok_or_else(|| unusable("gtid_binlog_state"))?,
            channels: channels.ok_or_else(|| unusable("replication status"))?,
            downstream: kept.downstream.clone(),
            semi_sync: semi_sync(kept),
            commits: kept.commits,
            facts: kept.beside.facts.clone(),
            refuses_new: kept.beside.refuses_new.clone(),
        }))
    }

    fn executed(&self, row: &Named<'_>, kept: &mut Kept) -> Option<GtidSet> {
        let mut set = |name| kept.sets.parse(row.text(&[name]).unwrap_or_default());
        match self.version.flavor {
            Flavor::MySql => set("gtid_executed"),
            Flavor::MariaDb => Some(set("gtid_binlog_pos")?.union(&set("gtid_slave_pos")?)),
        }
    }

    fn identity(&self, row: &Named<'_>) -> Identity {
        let server_id = row.number(&["server_id"]).unwrap_or_default();
        let reported = row.text(&["report_host"]).zip(row.number(&["report_port"]));
        Identity {
            uuid: row.text(&["server_uuid"]).unwrap_or_else(|| format!("server-id:{server_id}")),
            server_id,
            version: self.version,
            hostname: row.text(&["hostname"]).unwrap_or_default(),
            reported: reported.and_then(|(host, port)| ServerAddr::new(&host, port).ok()),
        }
    }

    fn settings(&self, row: &Named<'_>) -> Settings {
        let format = row.text(&["binlog_format"]).unwrap_or_default().to_ascii_uppercase();
        let mode = row.text(&["gtid_mode"]).unwrap_or_default().to_ascii_uppercase();
        let flag = |name: &str| row.flag(&[name]).unwrap_or(false);
        Settings {
            read_only: flag("read_only"),
            super_read_only: flag("super_read_only"),
            offline_mode: flag("offline_mode"),
            log_bin: flag("log_bin"),
            log_replica_updates: flag("log_replica_updates"),
            binlog_format: match format.as_str() {
                "STATEMENT" => BinlogFormat::Statement,
                "MIXED" => BinlogFormat::Mixed,
                _ => BinlogFormat::Row,
            },
            gtid_mode: match mode.as_str() {
                _ if self.version.flavor == Flavor::MariaDb => GtidMode::On,
                "ON" => GtidMode::On,
                "ON_PERMISSIVE" => GtidMode::OnPermissive,
                "OFF_PERMISSIVE" => GtidMode::OffPermissive,
                _ => GtidMode::Off,
            },
            relay_log_recovery: flag("relay_log_recovery"),
            net_timeout_s: row.number(&["net_timeout"]).unwrap_or_default(),
            durable_commits: row.number::<u32>(&["sync_binlog"]) == Some(1)
                && row.number::<u32>(&["flush_log"]) == Some(1),
        }
    }
}

/// What MariaDB's binary log and applier say of domains and servers; empty elsewhere.
fn written(row: &Named<'_>) -> Option<GtidSet> {
    let state = |name| GtidSet::of_binlog_state(&row.text(&[name]).unwrap_or_default()).ok();
    Some(state("gtid_binlog_state")?.union(&state("gtid_slave_pos")?))
}

/// The host of a process list's `host:port`; a bare one stays.
fn host_part(text: &str) -> String {
    match text.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() && (!host.contains(':') || host.ends_with(']')) => {
            host.trim_start_matches('[').trim_end_matches(']').to_owned()
        }
        _ => text.to_owned(),
    }
}

fn number<T: std::str::FromStr>(text: Option<String>) -> Option<T> {
    text?.parse().ok()
}

/// The replicas behind `clients` connections that acknowledge, when each of them said who it is.
fn acknowledging(kept: &Kept, clients: u32) -> Option<BTreeSet<String>> {
    let all = &kept.acknowledging;
    let complete =
        u32::try_from(all.len()).is_ok_and(|count| count >= clients) && all.iter().all(|uuid| !uuid.is_empty());
    complete.then(|| all.iter().cloned().collect())
}

fn semi_sync(kept: &Kept) -> SemiSync {
    let Some(words) = kept.words() else {
        return SemiSync::default();
    };
    let (source, replica) = match words {
        SemiSyncWords::SourceReplica => ("rpl_semi_sync_source", "rpl_semi_sync_replica"),
        SemiSyncWords::MasterSlave => ("rpl_semi_sync_master", "rpl_semi_sync_slave"),
    };
    let find = |all: &[(String, String)], name: String| {
        all.iter().find(|(found, _)| *found == name).map(|(_, value)| value.clone())
    };
    let variable = |part: &str, name: &str| find(&kept.semi_sync, format!("{part}_{name}"));
    let status = |part: &str, name: &str| find(&kept.status, format!("{part}_{name}"));
    let counts = ["wait_for_replica_count", "wait_for_slave_count"];
    let no_replica = ["wait_no_replica", "wait_no_slave"];
    let on = |text: Option<String>| text.is_some_and(|text| is_on(&text));
    let clients = number(status(source, "clients")).unwrap_or_default();
    SemiSync {
        source: variable(source, "enabled").map(|enabled| SemiSyncSource {
            enabled: is_on(&enabled),
            active: on(status(source, "status")),
            clients,
            // A connection that ended before they were listed is one that can acknowledge no more.
            replicas: acknowledging(kept, kept.clients_after.map_or(clients, |after| after.min(clients))),
            wait_count: counts.iter().find_map(|name| number(variable(source, name))).unwrap_or(1),
            after_sync: variable(source, "wait_point").is_some_and(|point| point.eq_ignore_ascii_case("AFTER_SYNC")),
            timeout_ms: number(variable(source, "timeout")).unwrap_or_default(),
            wait_no_replica: no_replica.iter().any(|name| on(variable(source, name))),
            waiting: number(status(source, "wait_sessions")).unwrap_or_default(),
        }),
        replica_enabled: variable(replica, "enabled").map(|enabled| is_on(&enabled)),
        replica_active: on(status(replica, "status")),
    }
}
