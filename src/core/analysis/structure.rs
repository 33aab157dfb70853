//! Weaknesses of the structure: nothing is broken, but a failover would be worse for them.

use std::collections::BTreeSet;

use super::{Analysis, Context, code::Code, evidence::Evidence};
use crate::core::{
    id::ServerAddr,
    observation::{BinlogFormat, GtidMode, Observation, Settings},
};

/// What can be said of one server alone.
pub(super) fn of_server(addr: &ServerAddr, seen: &Observation) -> Vec<Analysis> {
    let settings = &seen.settings;
    let say = |code, saw: &str| Analysis::new(code, addr, vec![Evidence::new(addr, seen.at, saw)]);
    let binlog = match settings {
        Settings { log_bin: false, .. } => Some("has no binary log"),
        Settings { log_replica_updates: false, .. } if !seen.channels.is_empty() => {
            Some("does not log the transactions it replicates")
        }
        _ => None,
    };
    let binlog = binlog.map(|saw| say(Code::NoBinaryLog, saw));
    let gtid = (settings.gtid_mode != GtidMode::On)
        .then(|| say(Code::GtidOff, &format!("has GTID mode {}", gtid_words(settings.gtid_mode))));
    let statement = (settings.log_bin && settings.binlog_format == BinlogFormat::Statement)
        .then(|| say(Code::StatementBinlog, "logs statements"));
    [binlog, gtid, statement].into_iter().flatten().collect()
}

fn gtid_words(mode: GtidMode) -> &'static str {
    match mode {
        GtidMode::Off => "OFF",
        GtidMode::OffPermissive => "OFF_PERMISSIVE",
        GtidMode::OnPermissive => "ON_PERMISSIVE",
        GtidMode::On => "ON",
    }
}

/// What can be said of a source and its replicas together.
pub(super) fn of_source(cx: &Context<'_>, addr: &ServerAddr, seen: &Observation) -> Vec<Analysis> {
    let replicas: Vec<(&ServerAddr, &Observation)> =
        cx.topology.replicas(addr).filter_map(|replica| Some((replica, cx.snapshot.last(replica)?))).collect();
    let mut found = Vec::new();
    let mode = seen.settings.gtid_mode;
    let differing: Vec<_> = replicas.iter().filter(|(_, replica)| replica.settings.gtid_mode != mode).collect();
    if !differing.is_empty() {
        let words = |(addr, seen): &&(&ServerAddr, &Observation)| {
            Evidence::new(addr, seen.at, format!("has GTID mode {}", gtid_words(seen.settings.gtid_mode)))
        };
        found.push(Analysis::new(Code::DifferentGtidModes, addr, differing.iter().map(words).collect()));
    }
    if cx.topology.primary.as_ref() == Some(addr) && replicas.len() > 1 {
        found.extend(of_primary(cx, addr, &replicas));
    }
    found
}

fn of_primary(cx: &Context<'_>, addr: &ServerAddr, replicas: &[(&ServerAddr, &Observation)]) -> Vec<Analysis> {
    let logs = |seen: &Observation| seen.settings.log_bin && seen.settings.log_replica_updates;
    let logging: Vec<_> = replicas.iter().copied().filter(|(_, seen)| logs(seen)).collect();
    let evidence = |about: &[(&ServerAddr, &Observation)], words: &dyn Fn(&Observation) -> String| {
        about.iter().map(|(addr, seen)| Evidence::new(addr, seen.at, words(seen))).collect::<Vec<_>>()
    };
    let mut found = Vec::new();
    if logging.is_empty() {
        let words = |_: &Observation| "does not log what it replicates".to_owned();
        found.push(Analysis::new(Code::NoLoggingReplicas, addr, evidence(replicas, &words)));
    }
    let by_gtid = |seen: &Observation| cx.channels_to(seen, addr).all(|channel| channel.auto_position);
    let stuck: Vec<_> = replicas.iter().copied().filter(|(_, seen)| !by_gtid(seen)).collect();
    if !stuck.is_empty() {
        let words = |_: &Observation| "replicates by file and position".to_owned();
        found.push(Analysis::new(Code::NoFailoverSupport, addr, evidence(&stuck, &words)));
    }
    let series: BTreeSet<_> = logging.iter().map(|(_, seen)| seen.identity.version.series()).collect();
    if series.len() > 1 {
        let words = |seen: &Observation| format!("is version {}", seen.identity.version);
        found.push(Analysis::new(Code::MultipleMajorVersionsLoggingReplicas, addr, evidence(&logging, &words)));
    }
    let words = |seen: &Observation| format!("logs in format {:?}", seen.settings.binlog_format);
    let formats: BTreeSet<_> = logging.iter().map(|(_, seen)| seen.settings.binlog_format).collect();
    let mixed = mixtures(&formats);
    found.extend(mixed.map(|code| Analysis::new(code, addr, evidence(&logging, &words))));
    found
}

fn mixtures(formats: &BTreeSet<BinlogFormat>) -> impl Iterator<Item = Code> {
    use BinlogFormat::{Mixed, Row, Statement};
    let rows = [
        (Statement, Mixed, Code::StatementAndMixedLoggingReplicas),
        (Statement, Row, Code::StatementAndRowLoggingReplicas),
        (Mixed, Row, Code::MixedAndRowLoggingReplicas),
    ];
    rows.into_iter().filter(|(a, b, _)| formats.contains(a) && formats.contains(b)).map(|(_, _, code)| code)
}

/// Servers that replicate in a ring.
pub(super) fn rings(cx: &Context<'_>) -> Vec<Analysis> {
    let ring = |servers: &Vec<ServerAddr>| {
        let first = servers.first()?;
        let saw = |addr: &ServerAddr| {
            let at = cx.snapshot.last(addr).map_or(cx.snapshot.at, |seen| seen.at);
            Evidence::new(addr, at, format!("replicates in a ring of {} servers", servers.len()))
        };
        Some(Analysis::new(Code::CycleDetected, first, servers.iter().map(saw).collect()))
    };
    cx.topology.rings.iter().filter_map(ring).collect()
}
