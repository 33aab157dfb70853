//! What the engine and the sessions are fed with: the words of the Kubernetes side in theirs.

use jiff::Timestamp;
use secrecy::ExposeSecret;

use crate::{
    api::{MysqlFailover, mysql_cluster as wire},
    core::id::ClusterKey,
    engine::facts::{Desired, History},
    k8s::{
        controller::validate::{self, Connect},
        records,
    },
    mysql::options::{Account, Options, Pem, Queries, Tls, TlsMode},
};

/// Longest wait for a connection to a MySQL server, in milliseconds.
const CONNECT_MS: u64 = 1000;

/// What the engine is to work by.
pub(super) fn desired(wanted: &validate::Desired) -> Desired {
    Desired {
        policy: wanted.policy.clone(),
        primary: wanted.primary.clone(),
        epoch: wanted.epoch,
        // What nobody keeps grows old.
        semi_sync: wanted.semi_sync.clone().filter(|_| wanted.policy.semi_sync.is_some()),
    }
}

/// The records of one cluster as the engine wants them.
pub(super) fn history(records: &[MysqlFailover], key: &ClusterKey) -> History {
    let read = records::history::history(records, &key.name, Timestamp::now());
    History {
        past: read.past,
        unfinished: read.unfinished,
        hold: read.hold,
        last: read.last,
        requests: read.requests,
        relocations: read.relocations,
        relocating: read.relocating,
    }
}

/// How the servers are reached.
pub(in crate::app) fn options(connect: &Connect) -> Options {
    Options {
        operator: account(&connect.account),
        operator_before: connect.account_before.as_ref().map(account),
        replication: connect.replication.as_ref().map(account),
        tls: Tls::new(
            tls_mode(connect.tls_mode),
            connect.ca.as_ref().map(pem),
            connect.client.as_ref().map(|(certificate, key)| (pem(certificate), pem(key))),
            connect.tls_names.clone(),
        ),
        queries: queries(connect),
        read_replica_hosts: connect.read_replica_hosts,
        keeps_semi_sync: connect.keeps_semi_sync,
        connect_ms: CONNECT_MS,
    }
}

fn account(given: &validate::Account) -> Account {
    Account { user: given.user.clone(), password: given.password.clone() }
}

fn pem(given: &validate::Pem) -> Pem {
    Pem(given.0.clone())
}

fn tls_mode(mode: wire::TlsMode) -> TlsMode {
    match mode {
        wire::TlsMode::Disabled => TlsMode::Disabled,
        wire::TlsMode::Preferred => TlsMode::Preferred,
        wire::TlsMode::Required => TlsMode::Required,
        wire::TlsMode::VerifyCA => TlsMode::VerifyCa,
        wire::TlsMode::VerifyIdentity => TlsMode::VerifyIdentity,
    }
}

fn queries(connect: &Connect) -> Queries {
    let asked = connect.queries.clone();
    Queries {
        cluster_name: asked.cluster_name,
        domain: asked.domain,
        promotion_rule: asked.promotion_rule,
        zone: asked.zone,
        region: asked.region,
        environment: asked.environment,
        server_alias: asked.server_alias,
        semi_sync_priority: asked.semi_sync_priority,
        lag: connect.lag_query.clone(),
    }
}

/// Whether two options reach servers in the same way.
pub(super) fn same_options(a: &Options, b: &Options) -> bool {
    let same = |a: &Account, b: &Account| a.user == b.user && a.password.expose_secret() == b.password.expose_secret();
    let replication = match (&a.replication, &b.replication) {
        (Some(a), Some(b)) => same(a, b),
        (a, b) => a.is_none() == b.is_none(),
    };
    same(&a.operator, &b.operator)
        && replication
        && a.tls == b.tls
        && a.queries == b.queries
        && a.read_replica_hosts == b.read_replica_hosts
        && a.keeps_semi_sync == b.keeps_semi_sync
}
