//! Plays a scenario: builds its servers, lets its events happen, and hands back what was seen.

use baton::{
    core::{
        gtid::GtidSet,
        observation::{
            BinlogFormat, Channel, Commits, Failure, FailureKind, GtidMode, Receiver, SemiSyncSource, ThreadError,
        },
        policy::{Detection, Mode, Policy, Tier},
        snapshot::Snapshot,
        time::Mono,
        version::Version,
    },
    testing::snapshot::{Cluster, Server, addr, policy, uuid},
};

use crate::notation::Scenario;

/// Plays the whole scenario.
pub(crate) fn play(scenario: &Scenario) -> (Snapshot, Policy) {
    let mut cluster = Cluster::default();
    for line in scenario.lines("servers") {
        let words: Vec<_> = line.text.split_whitespace().collect();
        cluster.add(words[0]);
    }
    for line in scenario.lines("servers") {
        let words: Vec<_> = line.text.split_whitespace().collect();
        let sources = words[1..].iter().position(|word| *word == "<-").map_or(&[][..], |at| &words[at + 2..=at + 2]);
        for source in sources.iter().flat_map(|sources| sources.split(',')) {
            cluster.follow(words[0], source);
        }
        words[1..].iter().filter(|word| word.contains('=')).for_each(|word| set(&mut cluster, words[0], word));
    }
    if let Some(line) = scenario.lines("primary").first() {
        cluster.snapshot.primary = Some(addr(&line.text));
    }
    let policy = wishes(scenario);
    scenario.lines("events").iter().for_each(|line| happen(&mut cluster, &line.text));
    (cluster.snapshot, policy)
}

fn wishes(scenario: &Scenario) -> Policy {
    let mut policy = policy();
    for word in scenario.lines("policy").iter().flat_map(|line| line.text.split_whitespace()) {
        match word.split_once('=').unwrap_or((word, "")) {
            ("tier", "fast") => policy.detection = Detection::of(Tier::Fast, None, false),
            ("tier", "relaxed") => policy.detection = Detection::of(Tier::Relaxed, None, false),
            ("stalled", "detectonly") => policy.failover.stalled = Mode::DetectOnly,
            ("maintenance", names) => policy.maintenance = names.split(',').map(addr).collect(),
            _ => panic!("{}: unknown policy {word:?}", scenario.title),
        }
    }
    policy
}

fn happen(cluster: &mut Cluster, event: &str) {
    let words: Vec<_> = event.split_whitespace().collect();
    match words.as_slice() {
        ["look"] => drop(cluster.look()),
        ["look", names @ ..] => names.iter().for_each(|name| {
            cluster.advance(10);
            cluster.look_at(name);
        }),
        ["wait", ms] => cluster.advance(number(ms)),
        ["watch", ms, "every", interval] => {
            for _ in 0..number(ms) / number(interval) {
                cluster.advance(number(interval));
                cluster.look();
            }
        }
        ["gap"] => cluster.snapshot.watching_since = cluster.snapshot.at,
        [name, "fails", kind] => cluster.fail(name, failure(kind)),
        [name, "answers"] => cluster.server(name).failure = None,
        [name, "loses", "source"] => cluster.lose_source(name),
        [name, "hears", "nothing"] => cluster.server(name).hears = false,
        [name, "hears"] => cluster.server(name).hears = true,
        [name, "unwatched"] => cluster.server(name).looked_at = false,
        [name, changes @ ..] if changes.iter().all(|word| word.contains('=')) => {
            changes.iter().for_each(|word| set(cluster, name, word));
        }
        _ => panic!("unknown event {event:?}"),
    }
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("not a number: {text:?}"))
}

fn failure(word: &str) -> FailureKind {
    match word {
        "refused" => FailureKind::Refused,
        "silent" => FailureKind::Silent,
        "address" => FailureKind::Address,
        "credentials" => FailureKind::Credentials,
        "saturated" => FailureKind::Saturated,
        "tls" => FailureKind::Tls,
        "statement" => FailureKind::Statement,
        "notmysql" => FailureKind::NotMysql,
        _ => panic!("unknown failure {word:?}"),
    }
}

fn yes(value: &str) -> bool {
    match value {
        "yes" | "on" => true,
        "no" | "off" => false,
        _ => panic!("neither yes nor no: {value:?}"),
    }
}

/// Sets one property of a server; `name@source` is the channel to that source, else all channels.
fn set(cluster: &mut Cluster, name: &str, word: &str) {
    let (key, value) = word.split_once('=').unwrap();
    if key == "executed" || key == "received" {
        let named = |part: &str| {
            let (name, runs) = part.split_once(':').unwrap();
            format!("{}:{runs}", uuid(cluster.number(name)))
        };
        let text: Vec<_> = value.split(',').map(named).collect();
        let set: GtidSet = text.join(",").parse().unwrap();
        let seen = &mut cluster.server(name).observation;
        match key {
            "executed" => seen.executed = set,
            _ => seen.channels.iter_mut().for_each(|channel| channel.received.clone_from(&set)),
        }
        return;
    }
    let (name, source) = name.split_once('@').map_or((name, None), |(name, source)| (name, Some(addr(source))));
    let server = cluster.server(name);
    let mut known = setting(server, key, value) || semi_sync(server, key, value);
    for one in &mut server.observation.channels {
        if source.is_none() || one.source == source {
            known |= channel(one, key, value);
        }
    }
    assert!(known, "unknown property {key:?} of {name}");
}

fn setting(server: &mut Server, key: &str, value: &str) -> bool {
    let settings = &mut server.observation.settings;
    match key {
        "readonly" => (settings.read_only, settings.super_read_only) = (yes(value), yes(value)),
        "offline" => settings.offline_mode = yes(value),
        "logbin" => settings.log_bin = yes(value),
        "logupdates" => settings.log_replica_updates = yes(value),
        "relaylogrecovery" => settings.relay_log_recovery = yes(value),
        "nettimeout" => settings.net_timeout_s = number(value),
        "format" => {
            settings.binlog_format = match value {
                "row" => BinlogFormat::Row,
                "mixed" => BinlogFormat::Mixed,
                _ => BinlogFormat::Statement,
            }
        }
        "gtid" => settings.gtid_mode = if yes(value) { GtidMode::On } else { GtidMode::Off },
        "commits" => {
            let waiting = u32::try_from(number(value)).unwrap();
            server.observation.commits = Some(Commits { waiting, binlog_writes: Some(7) });
        }
        "writes" => {
            let commits = server.observation.commits.get_or_insert_default();
            commits.binlog_writes = (value != "uncounted").then(|| number(value));
        }
        "newconnections" => {
            let refused = |kind| Failure { at: Mono(0), kind, message: format!("{kind:?}").to_lowercase() };
            server.observation.refuses_new = (value != "taken").then(|| refused(failure(value)));
        }
        "version" => server.observation.identity.version = value.parse::<Version>().unwrap(),
        _ => return false,
    }
    true
}

fn semi_sync(server: &mut Server, key: &str, value: &str) -> bool {
    let semi_sync = &mut server.observation.semi_sync;
    if key == "acker" {
        (semi_sync.replica_enabled, semi_sync.replica_active) = (Some(yes(value)), yes(value));
        return true;
    }
    if !["waits", "clients", "waiting", "fallen"].contains(&key) {
        return false;
    }
    let source = semi_sync.source.get_or_insert(SemiSyncSource {
        enabled: true,
        active: true,
        clients: 0,
        replicas: None,
        wait_count: 1,
        after_sync: true,
        timeout_ms: SemiSyncSource::TIMEOUT_LOSSLESS_MS,
        wait_no_replica: true,
        waiting: 0,
    });
    let count = |value| u32::try_from(number(value)).unwrap();
    match key {
        "waits" => source.wait_count = count(value),
        "clients" => source.clients = count(value),
        "waiting" => source.waiting = count(value),
        _ => source.active = !yes(value),
    }
    true
}

fn channel(channel: &mut Channel, key: &str, value: &str) -> bool {
    match key {
        "receiver" => {
            channel.receiver = match value {
                "running" => Receiver::Running,
                "connecting" => Receiver::Connecting,
                "stopped" => Receiver::Stopped,
                _ => panic!("unknown receiver state {value:?}"),
            };
            channel.receiver_error = None;
        }
        "error" => {
            let code = u32::try_from(number(value)).unwrap();
            channel.receiver_error = Some(ThreadError { code, message: format!("error {code}") });
        }
        "applier" => channel.applier_running = yes(value),
        "autoposition" => channel.auto_position = yes(value),
        "heartbeat" => channel.heartbeat_interval_ms = value.parse().ok(),
        "retry" => channel.connect_retry_s = number(value),
        "retrycount" => channel.retry_count = number(value),
        _ => return false,
    }
    true
}
