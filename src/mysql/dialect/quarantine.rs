//! What a person runs to look at transactions that only one server has, to save them and to rebuild the
//! server: exact texts, by what the version understands.

use crate::core::{
    gtid::GtidSet,
    id::ServerAddr,
    version::{Flavor, Version},
};

/// Longest set that is repeated in a command, in bytes.
const SET_MAX: usize = 1000;

/// The instructions for `server`, in order. `extra`: what only it has; `saved`: where that was saved already.
#[must_use]
pub fn instructions(
    version: Version,
    server: &ServerAddr,
    primary: &ServerAddr,
    extra: &GtidSet,
    saved: Option<&str>,
) -> Vec<String> {
    let login = format!("--host={} --port={} --user=USER --password", server.host(), server.port());
    let (reader, chosen) = reader(version, extra);
    let read = format!("{reader} --read-from-remote-server {login} --to-last-log {chosen}");
    let first = match version.flavor {
        Flavor::MySql => "Previous_gtids",
        Flavor::MariaDb => "Gtid_list",
    };
    let mut steps = vec![
        format!(
            "Find the binary log to begin with, FILE: the newest one of SHOW BINARY LOGS on {server} of which SHOW BINLOG \
             EVENTS IN 'FILE' LIMIT 3 shows none of them in its {first} event"
        ),
        format!("Look at them: {read} --base64-output=DECODE-ROWS --verbose FILE"),
    ];
    steps.push(match saved {
        Some(place) => format!("They are saved: {place}"),
        None => format!("Save them: {read} --result-file=extra.sql FILE"),
    });
    let skip = if version.flavor == Flavor::MySql { " --skip-gtids" } else { "" };
    let client = if version.flavor == Flavor::MySql { "mysql" } else { "mariadb" };
    let target = format!("--host={} --port={} --user=USER --password", primary.host(), primary.port());
    steps.push(format!(
        "If the cluster is to have them, apply them to the primary after you looked at them: {read}{skip} FILE | {client} {target}"
    ));
    steps.push(format!(
        "Put {server} under maintenance (spec.maintenance) before you rebuild it, and end that afterwards: Baton then makes it a replica"
    ));
    steps.push(rebuild(version, server, primary));
    steps
}

/// The program that reads binary logs, and its options that choose `extra`.
fn reader(version: Version, extra: &GtidSet) -> (&'static str, String) {
    let text = extra.to_string();
    match version.flavor {
        Flavor::MySql if text.len() <= SET_MAX => ("mysqlbinlog", format!("--include-gtids='{text}'")),
        Flavor::MySql => ("mysqlbinlog", "--include-gtids='SET' with the set of extra.set as SET,".to_owned()),
        // Its reader chooses by server and by position, not by set.
        Flavor::MariaDb => {
            let servers: Vec<_> = text.split(',').filter_map(|part| part.split_once(':')?.0.split_once('-')).collect();
            let first = text.rsplit(':').next().and_then(|run| run.split('-').next()?.parse::<u64>().ok());
            let chosen = match (servers.as_slice(), first) {
                ([(domain, id)], Some(first @ 2..)) if version.reads_binlog_from_gtid() => {
                    format!("--server-id={id} --start-position={domain}-{id}-{}", first.saturating_sub(1))
                }
                ([(_, id)], _) => {
                    format!("--server-id={id} --start-position=POS with the place of the first of them as POS,")
                }
                _ => "--server-id=ID --start-position=POS for each server of extra.set as ID, from its first one on,"
                    .to_owned(),
            };
            ("mariadb-binlog", chosen)
        }
    }
}

fn rebuild(version: Version, server: &ServerAddr, primary: &ServerAddr) -> String {
    let discards = format!("Rebuild {server}, which discards all it has");
    match version.flavor {
        Flavor::MySql if version.has_clone() => format!(
            "{discards}: on it SET GLOBAL offline_mode = ON; SET GLOBAL read_only = ON; SET GLOBAL super_read_only = OFF; \
             INSTALL PLUGIN clone SONAME 'mysql_clone.so'; SET GLOBAL clone_valid_donor_list = '{donor}'; \
             CLONE INSTANCE FROM 'USER'@'{host}':{port} IDENTIFIED BY 'PASSWORD'; the donor needs the plugin too, and a \
             replica of the same version may be the donor",
            donor = format_args!("{}:{}", primary.host(), primary.port()),
            host = primary.host(),
            port = primary.port(),
        ),
        Flavor::MySql => {
            format!("{discards}: restore a backup of a replica on it, and set gtid_purged to what the backup has")
        }
        Flavor::MariaDb => format!(
            "{discards}: restore a backup of a replica on it (mariadb-backup --backup --slave-info), RESET MASTER, and set \
             gtid_slave_pos to what the backup has"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(version: &str, extra: &GtidSet, saved: Option<&str>) -> String {
        let addr = |text: &str| text.parse().unwrap();
        instructions(version.parse().unwrap(), &addr("db-1:3306"), &addr("db-2:3307"), extra, saved).join("\n")
    }

    #[test]
    fn instructions_are_exact() {
        let set: GtidSet = "3e11fa47-71ca-11e1-9e33-c80aa9429562:101-103".parse().unwrap();
        let texts = ["9.7.4", "5.6.24"].map(|version| format!("{version}:\n{}", told(version, &set, None)));
        let extra = "0-1:101-103".parse().unwrap();
        let mariadb = format!("10.11.6-MariaDB:\n{}", told("10.11.6-MariaDB", &extra, Some("extra.binlog")));
        insta::assert_snapshot!(texts.into_iter().chain([mariadb]).collect::<Vec<_>>().join("\n\n"));
    }

    #[test]
    fn a_long_set_is_not_repeated() {
        let runs: String = (1..500).map(|number| format!(":{}", number * 2)).collect();
        let set: GtidSet = format!("3e11fa47-71ca-11e1-9e33-c80aa9429562{runs}").parse().unwrap();
        assert!(told("9.7.4", &set, None).len() < 4000);
    }
}
