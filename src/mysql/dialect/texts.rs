//! Every text for every version that matters, as snapshots: a change of a statement is a change that
//! somebody reads.

use super::{
    SemiSyncWords,
    change::{self, ChannelTls, Repoint},
    look::{Ask, look},
    prepare, reign, semi_sync,
};
use crate::core::{
    gtid::GtidSet,
    id::{Epoch, ServerAddr},
    version::{Flavor, Version},
};

/// Names and texts, one a line; the parts of a look are lines of their own.
fn texts(version: Version) -> String {
    let mut lines = vec![("prepare", prepare(version))];
    let ask = Ask {
        version,
        performance_schema: true,
        slow: true,
        replica_hosts: true,
        commits: true,
        pause_ms: Some(500),
        denied: &[],
    };
    lines.push(("look, complete", look(ask).text));
    let quick = Ask { slow: false, pause_ms: None, performance_schema: false, ..ask };
    lines.push(("look, quick, without performance_schema", look(quick).text));
    lines.extend(replication(version));
    lines.extend(reigns(version));
    let line = |(name, text): (&str, String)| format!("{name}:\n    {}\n", text.replace("; ", ";\n    "));
    lines.into_iter().map(line).collect()
}

fn replication(version: Version) -> Vec<(&'static str, String)> {
    let set: GtidSet = match version.flavor {
        Flavor::MySql => "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5:9",
        Flavor::MariaDb => "0-1-100,7-2-30",
    }
    .parse()
    .unwrap();
    let source = ServerAddr::new("db-2.example", 3307).unwrap();
    let plain = Repoint {
        channel: String::new(),
        live: false,
        source,
        tls: ChannelTls::default(),
        heartbeat_ms: Some(500),
        connect_retry_s: 1,
        retry_count: 86_400,
    };
    let tls = ChannelTls {
        on: true,
        verify: true,
        files: vec![("CA", "/etc/ca's.pem".to_owned()), ("CIPHER", String::new())],
        versions: Some("TLSv1.3".to_owned()),
    };
    let named = Repoint { channel: "o'ne".to_owned(), tls, heartbeat_ms: None, ..plain.clone() };
    vec![
        ("stop receiver", change::stop_receiver(version)),
        ("start receiver", change::start_receiver(version)),
        ("start applier", change::start_applier(version)),
        ("stop replication", change::stop_replication(version)),
        ("start replication", change::start_replication(version)),
        ("appliers within a transaction", change::APPLYING.to_owned()),
        ("forget source", change::forget_source(version, "")),
        ("forget source of a channel", change::forget_source(version, "o'ne")),
        ("wait until applied", change::wait_applied(version, &set, 250)),
        ("repoint", change::repoint(version, &plain, Some(("re'pl", "pass\\'word")))),
        ("repoint a channel with TLS", change::repoint(version, &named, None)),
        ("repoint while the applier runs", change::repoint(version, &Repoint { live: true, ..plain.clone() }, None)),
        ("replication settings", change::replication_settings(version, "", 2000)),
        ("net timeout", change::net_timeout(version, 4)),
        ("more connections", change::connections(10)),
    ]
}

fn reigns(version: Version) -> Vec<(&'static str, String)> {
    let words =
        if version.has_semi_sync_source_words() { SemiSyncWords::SourceReplica } else { SemiSyncWords::MasterSlave };
    let count = version.has_semi_sync_count().then_some(2);
    let old = ServerAddr::new("db-1.example", 3306).unwrap();
    vec![
        ("semi-sync source on", semi_sync::source(words, true, count).join("; ")),
        ("semi-sync source off", semi_sync::source(words, false, None).join("; ")),
        ("semi-sync replica on", semi_sync::replica(words, true)),
        ("semi-sync that lasts", semi_sync::lasting(words).join("; ")),
        ("semi-sync without replicas", semi_sync::wait_without_replicas(words)),
        ("semi-sync plugins", [semi_sync::load_source(words), semi_sync::load_replica(words)].join("; ")),
        ("offline", reign::offline(version, true).unwrap_or_else(|| "-".to_owned())),
        ("read only", reign::read_only(version)),
        ("administrators only", reign::administrators_only(version).join("; ")),
        ("claimants", format!("{}; {}", reign::mark(Epoch(7)), reign::claimants(version))),
        ("note the deadline", format!("{}; {}", reign::MARK_NOW, reign::note_deadline(1250))),
        ("unfence", reign::unfence(version)),
        ("write the epoch", reign::epoch_write(Epoch(7), "uu'id", Some(&old))),
    ]
}

macro_rules! snapshots {
    ($($name:ident: $version:expr;)*) => {$(
        #[test]
        fn $name() {
            insta::assert_snapshot!(stringify!($name), texts($version));
        }
    )*};
}

snapshots! {
    mysql_5_6_24: Version::mysql(5, 6, 24);
    mysql_5_7_44: Version::mysql(5, 7, 44);
    mysql_8_0_21: Version::mysql(8, 0, 21);
    mysql_8_0_36: Version::mysql(8, 0, 36);
    mysql_8_4_3: Version::mysql(8, 4, 3);
    mysql_9_7_4: Version::mysql(9, 7, 4);
    mariadb_10_11_6: Version::mariadb(10, 11, 6);
    mariadb_11_8_2: Version::mariadb(11, 8, 2);
}
