//! The Jobs that save what a server in quarantine has alone (`baton job export`), as the owner wishes for in
//! `failover.export`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PersistentVolumeClaimVolumeSource, SecretVolumeSource, Volume};
use sha2::{Digest, Sha256};

use super::{
    controller::dereference::PodServer,
    jobs::{Task, secret, text},
};
use crate::{
    api::{
        MysqlClusterStatus,
        mysql_cluster::{ExportState, MysqlClusterSpec, Tls},
    },
    core::{
        id::{ClusterKey, ServerAddr},
        status::Quarantined,
    },
};

/// Longest time that saving may take, in seconds; the program gives up before Kubernetes ends it.
const DEADLINE_S: i64 = 3600;
const PROGRAM_DEADLINE_S: i64 = 3000;
/// Attempts after the first.
const RETRIES: i32 = 3;
/// How long a Job is kept after its end, in seconds: then one that failed is made again.
const KEEP_S: i32 = 86_400;
/// Longest set that fits into a Job, in bytes.
const SET_MAX: usize = 32_768;
/// Where the volume is mounted in the Job.
const FOLDER: &str = "/export";

/// Where the owner wants what is saved, and how servers are reached.
#[derive(Debug, Clone, PartialEq)]
pub struct Wish {
    claim: String,
    credentials: String,
    tls: Tls,
    /// Names that certificates are made out to, of servers that are known by IP address.
    names: BTreeMap<ServerAddr, String>,
}

/// What the owner wishes for; `None`: nothing.
#[must_use]
pub fn wish(spec: &MysqlClusterSpec, pods: &BTreeMap<ServerAddr, PodServer>) -> Option<Wish> {
    let names = pods.iter().filter_map(|(addr, pod)| Some((addr.clone(), pod.tls_name.clone()?)));
    Some(Wish {
        claim: spec.failover.export.as_ref()?.volume_claim_name.clone(),
        credentials: spec.credentials.secret_name.clone(),
        tls: spec.tls.clone(),
        names: names.collect(),
    })
}

/// Servers whose transactions are saved, with the Job that did it: so it is written down.
#[must_use]
pub fn saved(status: &MysqlClusterStatus) -> BTreeMap<ServerAddr, String> {
    let saved = status.quarantined.iter().filter_map(|one| {
        let export = one.export.as_ref().filter(|export| export.state == ExportState::Succeeded)?;
        Some((one.address.parse().ok()?, export.job.clone()))
    });
    saved.collect()
}

/// One thing to save: the same Job and the same file, whoever leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// Name of the Job.
    pub job: String,
    /// The claim and the file in its volume.
    pub place: String,
    file: String,
    set: String,
}

impl Export {
    /// What `one` has alone; `None`: it may still become more.
    #[must_use]
    pub fn of(key: &ClusterKey, uid: &str, wish: &Wish, one: &Quarantined) -> Option<Self> {
        let set = one.extra.as_ref()?.to_string();
        let record = one.record.as_deref().unwrap_or_default();
        let purpose = format!("{uid}|{record}|{}|{set}|{}", one.server, wish.claim);
        let digest: String = Sha256::digest(purpose).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let plain = |text: &str| -> String {
            text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect()
        };
        let host: String = plain(one.server.host()).trim_start_matches(['-', '.']).chars().take(100).collect();
        let file = format!("{}-{host}-{}-{digest}", key.name, one.server.port());
        let place = format!("{}/{file}.binlog", wish.claim);
        Some(Self { job: format!("baton-export-{digest}"), place, file, set })
    }

    /// Why no Job can do it.
    #[must_use]
    pub fn impossible(&self) -> Option<&'static str> {
        (self.set.len() > SET_MAX).then_some("the set is too long for a Job: follow the instructions")
    }

    /// The Job.
    #[must_use]
    pub fn task<'a>(&self, key: &'a ClusterKey, uid: &'a str, wish: &Wish, one: &'a Quarantined) -> Task<'a> {
        let claim = PersistentVolumeClaimVolumeSource { claim_name: wish.claim.clone(), read_only: None };
        let volume = Volume { name: "export".to_owned(), persistent_volume_claim: Some(claim), ..Volume::default() };
        let mut env = vec![
            text("BATON_SERVER", one.server.to_string()),
            text("BATON_EXTRA", &self.set),
            text("BATON_CLUSTER", key.to_string()),
            text("BATON_RECORD", one.record.clone().unwrap_or_default()),
            text("BATON_FOLDER", FOLDER),
            text("BATON_FILE", &self.file),
            text("BATON_DEADLINE_SECONDS", PROGRAM_DEADLINE_S.to_string()),
            text("BATON_TLS_MODE", format!("{:?}", wish.tls.mode)),
            secret("BATON_USERNAME", &wish.credentials, "username"),
            secret("BATON_PASSWORD", &wish.credentials, "password"),
        ];
        let mut volumes = vec![(volume, FOLDER.to_owned(), true)];
        if let Some(ca) = &wish.tls.ca_secret_name {
            volumes.push((secret_volume("ca", ca), "/tls/ca".to_owned(), false));
            env.push(text("BATON_TLS_CA", "/tls/ca/ca.crt"));
        }
        if let Some(client) = &wish.tls.client_secret_name {
            volumes.push((secret_volume("client", client), "/tls/client".to_owned(), false));
            env.push(text("BATON_TLS_CERTIFICATE", "/tls/client/tls.crt"));
            env.push(text("BATON_TLS_KEY", "/tls/client/tls.key"));
        }
        env.extend(wish.names.get(&one.server).map(|name| text("BATON_TLS_NAME", name)));
        Task {
            key,
            uid,
            name: self.job.clone(),
            record: one.record.as_deref().unwrap_or_default(),
            args: vec!["job".to_owned(), "export".to_owned()],
            env,
            volumes,
            token: false,
            deadline_s: DEADLINE_S,
            retries: RETRIES,
            keep_s: KEEP_S,
        }
    }
}

fn secret_volume(name: &str, of: &str) -> Volume {
    let source = SecretVolumeSource { secret_name: Some(of.to_owned()), ..SecretVolumeSource::default() };
    Volume { name: name.to_owned(), secret: Some(source), ..Volume::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::status::Acknowledged;

    fn one(server: &str, record: Option<&str>, last: u64) -> Quarantined {
        Quarantined {
            server: server.parse().unwrap(),
            version: "9.7.4".parse().unwrap(),
            record: record.map(str::to_owned),
            extra: Some(format!("3e11fa47-71ca-11e1-9e33-c80aa9429562:101-{last}").parse().unwrap()),
            acknowledged: Acknowledged::Impossible,
            reason: String::new(),
        }
    }

    #[test]
    fn the_same_purpose_has_the_same_job_and_another_has_another() {
        let key = ClusterKey { namespace: "default".to_owned(), name: "shop".to_owned() };
        let wish = Wish {
            claim: "saved".to_owned(),
            credentials: "shop".to_owned(),
            tls: Tls::default(),
            names: BTreeMap::new(),
        };
        let name = |uid, one: &Quarantined| Export::of(&key, uid, &wish, one).unwrap().job;
        let first = one("db-1:3306", Some("shop-7"), 103);
        assert_eq!(name("a", &first), name("a", &first.clone()));
        let others = [
            name("b", &first),
            name("a", &one("db-2:3306", Some("shop-7"), 103)),
            name("a", &one("db-1:3306", Some("shop-8"), 103)),
            name("a", &one("db-1:3306", None, 103)),
            name("a", &one("db-1:3306", Some("shop-7"), 104)),
        ];
        assert!(others.iter().all(|other| *other != name("a", &first)), "{others:?}");
        let elsewhere = Wish { claim: "other".to_owned(), ..wish.clone() };
        assert_ne!(Export::of(&key, "a", &elsewhere, &first).unwrap().job, name("a", &first), "saved elsewhere");
        let v6 = Export::of(&key, "a", &wish, &one("[2001:db8::1]:3306", None, 103)).unwrap();
        assert!(v6.place.starts_with("saved/shop-2001-db8--1-3306-") && v6.place.ends_with(".binlog"), "{}", v6.place);
        let growing = Quarantined { extra: None, ..first };
        assert_eq!(Export::of(&key, "a", &wish, &growing), None);
    }
}
