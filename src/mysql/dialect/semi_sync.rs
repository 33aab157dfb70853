//! The texts of semi-sync, in the words of either generation of plugins.

use super::{SemiSyncWords, quote, switch};

/// A timeout that does not end, in milliseconds; the servers' largest.
const TIMEOUT_MS: u64 = u64::MAX;

/// Switches the source side of semi-sync; the number of acknowledgements goes first.
#[must_use]
pub fn source(words: SemiSyncWords, on: bool, wait_count: Option<u32>) -> Vec<String> {
    let name = words.source();
    let count = wait_count.filter(|_| on).map(|count| format!("SET GLOBAL {name}_{} = {count}", words.wait_count()));
    count.into_iter().chain([format!("SET GLOBAL {name}_enabled = {}", switch(on))]).collect()
}

/// Switches the replica side of semi-sync.
#[must_use]
pub fn replica(words: SemiSyncWords, on: bool) -> String {
    format!("SET GLOBAL {}_enabled = {}", words.replica(), switch(on))
}

/// Keeps the source side from falling back while it waits, and from showing what no replica has.
#[must_use]
pub fn lasting(words: SemiSyncWords) -> [String; 2] {
    let name = words.source();
    [format!("SET GLOBAL {name}_wait_point = 'AFTER_SYNC'"), format!("SET GLOBAL {name}_timeout = {TIMEOUT_MS}")]
}

/// Makes commits wait however few replicas are connected. It may switch waiting on that had fallen back.
#[must_use]
pub fn wait_without_replicas(words: SemiSyncWords) -> String {
    let name = match words {
        SemiSyncWords::SourceReplica => "rpl_semi_sync_source_wait_no_replica",
        SemiSyncWords::MasterSlave => "rpl_semi_sync_master_wait_no_slave",
    };
    format!("SET GLOBAL {name} = ON")
}

/// Loads the plugin of the source side.
#[must_use]
pub fn load_source(words: SemiSyncWords) -> String {
    load(match words {
        SemiSyncWords::SourceReplica => ("rpl_semi_sync_source", "semisync_source.so"),
        SemiSyncWords::MasterSlave => ("rpl_semi_sync_master", "semisync_master.so"),
    })
}

/// Loads the plugin of the replica side.
#[must_use]
pub fn load_replica(words: SemiSyncWords) -> String {
    load(match words {
        SemiSyncWords::SourceReplica => ("rpl_semi_sync_replica", "semisync_replica.so"),
        SemiSyncWords::MasterSlave => ("rpl_semi_sync_slave", "semisync_slave.so"),
    })
}

fn load((name, file): (&str, &str)) -> String {
    format!("INSTALL PLUGIN {name} SONAME {}", quote(file))
}
