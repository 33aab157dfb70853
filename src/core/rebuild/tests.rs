//! Every reason not to overwrite a server, one change at a time.

mod going_on;
mod needs;

use super::*;
use crate::{
    core::{
        observation::{Downstream, Receiver, SemiSyncSource},
        policy::Policy,
    },
    testing::snapshot::{Cluster, addr, policy, transactions, uuid},
};

type Change = fn(&mut World);

/// Everything that is decided on; as it is made, `x` may be overwritten: `p` replaced it, `r1` and `r2` follow `p`.
struct World {
    policy: Policy,
    one: Quarantined,
    replaced: Option<String>,
    promoted: GtidSet,
    saved: bool,
    rebuilt: bool,
    account: bool,
    open: Option<String>,
    primary: Option<ServerAddr>,
    writable: bool,
    ackers: BTreeSet<ServerAddr>,
    looks: BTreeMap<ServerAddr, Result<Seen, String>>,
    verify: bool,
}

fn facts() -> Facts {
    let rights = ["CLONE_ADMIN", "SYSTEM_VARIABLES_ADMIN", "CONNECTION_ADMIN", "BACKUP_ADMIN"];
    Facts {
        plugin: true,
        closed_since_start: true,
        binlog_filtered: false,
        blocks_ddl: false,
        alike: [("innodb_page_size".to_owned(), "16384".to_owned())].into(),
        rights: rights.map(str::to_owned).into(),
        account: "'baton'@'%'".to_owned(),
        checks_certificates: false,
        foreign: None,
    }
}

fn world() -> World {
    let mut cluster = Cluster::primary_and_replicas(2);
    cluster.add("x");
    let own = transactions(4, 3);
    let shared = cluster.server("p").observation.executed.clone();
    let old = &mut cluster.server("x").observation;
    old.executed = shared.union(&own);
    (old.settings.read_only, old.settings.super_read_only) = (true, true);
    for name in ["r1", "r2"] {
        cluster.server(name).observation.channels[0].seconds_behind = Some(0);
        cluster.server(name).observation.channels[0].source_uuid = Some(uuid(1));
    }
    let snapshot = cluster.look();
    let seen = |name: &str| {
        let look = snapshot.servers[&addr(name)].last.clone().unwrap();
        (addr(name), Ok(Seen { look, facts: facts() }))
    };
    let mut wish = policy();
    wish.failover.rebuild = true;
    World {
        policy: wish,
        one: Quarantined {
            server: addr("x"),
            version: "9.7.4".parse().unwrap(),
            record: Some("shop-7".to_owned()),
            extra: Some(own),
            acknowledged: Acknowledged::Impossible,
            reason: "because".to_owned(),
        },
        replaced: Some(uuid(4)),
        promoted: shared,
        saved: true,
        rebuilt: false,
        account: true,
        open: None,
        primary: Some(addr("p")),
        writable: true,
        ackers: BTreeSet::new(),
        looks: ["p", "r1", "r2", "x"].map(seen).into(),
        verify: false,
    }
}

impl World {
    fn plan(&self) -> Result<Plan, Refusal> {
        plan(&Scene {
            policy: &self.policy,
            one: &self.one,
            replaced: self.replaced.as_deref().map(|uuid| (uuid, &self.promoted)),
            saved: self.saved,
            rebuilt: self.rebuilt,
            account: self.account,
            open: self.open.as_deref(),
            primary: self.primary.as_ref().map(|addr| (addr, self.writable)),
            ackers: &self.ackers,
            looks: &self.looks,
            verify: self.verify,
        })
    }

    fn seen(&mut self, name: &str) -> &mut Seen {
        self.looks.get_mut(&addr(name)).unwrap().as_mut().unwrap()
    }
}

/// Why not, after a change.
fn refusal(change: impl FnOnce(&mut World)) -> String {
    let mut world = world();
    change(&mut world);
    match world.plan() {
        Ok(plan) => panic!("{plan:?}"),
        Err(Refusal::Waits(reason)) => reason,
        Err(Refusal::Unfit(reason)) => format!("unfit: {reason}"),
        Err(Refusal::Doubt(reason)) => format!("doubt: {reason}"),
    }
}

/// Who is copied, after a change, and what is said about it.
fn donor(change: impl FnOnce(&mut World)) -> (String, String) {
    let mut world = world();
    change(&mut world);
    let plan = world.plan().unwrap();
    (plan.donor.to_string(), plan.note)
}

#[test]
fn an_old_primary_is_overwritten_when_everything_holds() {
    let world = world();
    let plan = world.plan().unwrap();
    assert_eq!((plan.recipient, plan.uuid), (addr("x"), uuid(4)));
    assert_eq!((plan.donor, plan.note), (addr("r1"), String::new()));
    assert_eq!(plan.extra, transactions(4, 3));
    assert_eq!(plan.allowed, world.looks[&addr("x")].as_ref().unwrap().look.executed);
}

#[test]
fn what_is_not_wished_for_or_not_sure_is_not_done() {
    let cases: [(&str, Change); 13] = [
        ("failover.rebuild is Never", |world| world.policy.failover.rebuild = false),
        ("failover.oldPrimary is not Rejoin", |world| world.policy.failover.old_primary = OldPrimary::Fence),
        ("the cluster is paused", |world| world.policy.paused = true),
        ("it is under maintenance", |world| assert!(world.policy.maintenance.insert(addr("x")))),
        (
            "a person decides, because clients may have been told that its transactions are committed: because",
            |world| {
                world.one.acknowledged = Acknowledged::Possible;
            },
        ),
        (
            "a person decides, because clients may have been told that its transactions are committed: because",
            |world| {
                world.one.record = None;
            },
        ),
        ("MariaDB cannot copy a server: follow the instructions", |world| {
            world.one.version = "10.11.6-MariaDB".parse().unwrap();
        }),
        ("it is older than MySQL 8.0.17: follow the instructions", |world| {
            world.one.version = "8.0.16".parse().unwrap()
        }),
        ("its transactions may become more", |world| world.one.extra = None),
        ("a person decides, because it was overwritten, or was to be, since that failover already", |world| {
            world.rebuilt = true;
        }),
        ("a failover is under way or asked for: shop-8", |world| world.open = Some("shop-8".to_owned())),
        ("what it has alone is not saved yet: see export", |world| world.saved = false),
        ("it is written down as one that may acknowledge", |world| assert!(world.ackers.insert(addr("x")))),
    ];
    for (reason, change) in cases {
        assert_eq!(refusal(change), reason);
    }
}

#[test]
fn without_a_primary_that_takes_writes_nothing_is_discarded() {
    let cases: [(&str, Change); 9] = [
        ("no primary is known", |world| world.primary = None),
        ("it is the primary", |world| world.primary = Some(addr("x"))),
        ("the primary p:3306 is under maintenance", |world| assert!(world.policy.maintenance.insert(addr("p")))),
        ("p:3306 cannot be looked at: gone", |world| drop(world.looks.insert(addr("p"), Err("gone".to_owned())))),
        ("p:3306 is not looked at", |world| drop(world.looks.remove(&addr("p")))),
        ("the primary p:3306 does not accept writes", |world| world.writable = false),
        ("the primary p:3306 does not accept writes", |world| world.seen("p").look.settings.read_only = true),
        ("the primary p:3306 does not accept writes", |world| {
            let channel = world.seen("r1").look.channels[0].clone();
            world.seen("p").look.channels.push(channel);
        }),
        ("too few replicas acknowledge what the primary p:3306 writes", |world| {
            let mut cluster = Cluster::primary_and_replicas(1);
            cluster.semi_sync(1);
            let source = cluster.server("p").observation.semi_sync.source.clone().unwrap();
            world.seen("p").look.semi_sync.source = Some(SemiSyncSource { clients: 0, ..source });
        }),
    ];
    for (reason, change) in cases {
        assert_eq!(refusal(change), reason);
    }
}

#[test]
fn a_server_that_is_not_as_it_was_judged_is_left() {
    let cases: [(&str, Change); 14] = [
        ("x:3306 cannot be looked at: gone", |world| drop(world.looks.insert(addr("x"), Err("gone".to_owned())))),
        ("it is another version than before", |world| {
            world.seen("x").look.identity.version = "9.7.5".parse().unwrap();
        }),
        ("it is not super_read_only", |world| world.seen("x").look.settings.super_read_only = false),
        ("it is not super_read_only", |world| world.seen("x").look.settings.read_only = false),
        (
            "its binary log leaves out databases (binlog-do-db, binlog-ignore-db): what is not in it is not saved",
            |world| world.seen("x").facts.binlog_filtered = true,
        ),
        ("sessions wait there for replicas to acknowledge", |world| {
            let mut cluster = Cluster::primary_and_replicas(1);
            cluster.semi_sync(1);
            let source = cluster.server("p").observation.semi_sync.source.clone().unwrap();
            world.seen("x").look.semi_sync.source = Some(SemiSyncSource { waiting: 1, ..source });
        }),
        ("it replicates", |world| {
            let channel = world.seen("r1").look.channels[0].clone();
            world.seen("x").look.channels.push(channel);
        }),
        ("db-9 replicates from it, or reads its binary logs", |world| {
            let replica = Downstream { host: "db-9".to_owned(), port: None, server_id: None, uuid: None };
            world.seen("x").look.downstream.push(replica);
        }),
        ("r2:3306 replicates from it", |world| world.seen("r2").look.channels[0].source_uuid = Some(uuid(4))),
        ("r2:3306 replicates from it", |world| world.seen("r2").look.channels[0].source = Some(addr("x"))),
        // Two addresses, one server.
        ("p:3306 is the same server", |world| world.seen("p").look.identity.uuid = uuid(4)),
        ("r1:3306 is the same server", |world| world.seen("r1").look.identity.uuid = uuid(4)),
        ("what it has alone is not what is saved: it has become more, or less", |world| {
            let look = &mut world.seen("x").look;
            look.executed = look.executed.union(&transactions(4, 4));
        }),
        ("what it has alone is not what is saved: it has become more, or less", |world| {
            let look = &mut world.seen("p").look;
            look.executed = look.executed.union(&transactions(4, 1));
        }),
    ];
    for (reason, change) in cases {
        assert_eq!(refusal(change), reason);
    }
    let received = refusal(|world| {
        let mut channel = world.seen("r1").look.channels[0].clone();
        (channel.receiver, channel.applier_running, channel.received) = (Receiver::Stopped, false, transactions(9, 5));
        world.seen("x").look.channels.push(channel);
    });
    assert_eq!(received, "it has received transactions that nobody else is known to have");
    for replaced in [None, Some(uuid(5))] {
        let told = refusal(|world| world.replaced = replaced);
        assert_eq!(told, "the record of the failover does not say that it is the server which was replaced");
    }
    let order = refusal(|world| world.seen("x").look.at = world.seen("x").look.at.plus_ms(1000));
    assert_eq!(order, "the servers were not looked at in order");
}

#[test]
fn rights_and_certificates_that_are_missing_are_told() {
    let told = refusal(|world| assert!(world.seen("x").facts.rights.remove("CLONE_ADMIN")));
    assert!(told.starts_with("unfit: Baton's account lacks rights on x:3306: GRANT"), "{told}");
    assert!(told.contains("GRANT CLONE_ADMIN ON *.* TO 'baton'@'%'"), "{told}");
    let told = refusal(|world| {
        for name in ["p", "r1", "r2"] {
            world.seen(name).facts.rights.clear();
        }
    });
    let grant = "unfit: Baton's account lacks rights on p:3306: GRANT BACKUP_ADMIN ON *.* TO 'baton'@'%'";
    assert!(told.starts_with(grant), "{told}");
    let told = refusal(|world| world.verify = true);
    assert!(told.starts_with("unfit: x:3306 has no certificates"), "{told}");
}

#[test]
fn the_donor_is_a_replica_that_has_everything_and_nothing_of_its_own() {
    assert_eq!(donor(|_| {}), ("r1:3306".to_owned(), String::new()));
    assert_eq!(
        donor(|world| assert!(world.ackers.insert(addr("r1")))).0,
        "r2:3306",
        "who acknowledges has enough to do"
    );
    let changes: [(&str, Change); 14] = [
        ("it cannot be looked at: gone", |world| drop(world.looks.insert(addr("r1"), Err("gone".to_owned())))),
        ("it is under maintenance", |world| assert!(world.policy.maintenance.insert(addr("r1")))),
        ("it is being rebuilt", |world| assert!(world.policy.rebuilding.insert(addr("r1")))),
        ("it does not have one source", |world| world.seen("r1").look.channels.clear()),
        ("it does not follow the primary", |world| {
            let channel = &mut world.seen("r1").look.channels[0];
            (channel.source, channel.source_uuid) = (Some(addr("r2")), Some(uuid(3)));
        }),
        ("it does not replicate", |world| world.seen("r1").look.channels[0].receiver = Receiver::Connecting),
        ("it does not replicate", |world| world.seen("r1").look.channels[0].applier_running = false),
        ("it does not replicate by GTID", |world| world.seen("r1").look.channels[0].auto_position = false),
        ("its replication is filtered", |world| world.seen("r1").look.channels[0].filtered = true),
        ("its replication is delayed", |world| world.seen("r1").look.channels[0].delay_s = 1),
        ("it accepts writes", |world| world.seen("r1").look.settings.read_only = false),
        ("it has transactions of its own", |world| {
            let look = &mut world.seen("r1").look;
            look.executed = look.executed.union(&transactions(2, 1));
        }),
        ("it lags", |world| world.seen("r1").look.channels[0].seconds_behind = None),
        ("it lags", |world| world.seen("r1").look.channels[0].seconds_behind = Some(11)),
    ];
    for (reason, change) in changes {
        let (chosen, note) = donor(|world| {
            change(world);
            world.seen("r2").look.channels[0].filtered = true;
        });
        assert_eq!(chosen, "p:3306", "{reason}");
        assert!(note.contains(&format!("r1:3306: {reason}")), "{reason}: {note}");
        assert_eq!(donor(change).0, "r2:3306", "{reason}");
    }
    let alone = donor(|world| world.looks.retain(|one, _| *one == addr("p") || *one == addr("x")));
    assert_eq!(alone.1, "it is copied from the primary, because no replica can be copied: there is none");
}

#[test]
fn data_is_copied_between_servers_that_are_alike() {
    let all = |change: fn(&mut Seen)| {
        refusal(|world| {
            for name in ["p", "r1", "r2"] {
                change(world.seen(name));
            }
        })
    };
    let other = all(|seen| drop(seen.facts.alike.insert("innodb_page_size".to_owned(), "8192".to_owned())));
    assert_eq!(other, "innodb_page_size is another on p:3306");
    let blocks = all(|seen| seen.facts.blocks_ddl = true);
    assert_eq!(blocks, "p:3306 refuses changes of tables while it is copied (clone_block_ddl)");
    let other = all(|seen| seen.facts.foreign = Some("app.log".to_owned()));
    assert_eq!(other, "unfit: p:3306 has tables that CLONE does not copy, such as app.log: it copies InnoDB alone");
    let other = all(|seen| seen.look.identity.version = "9.6.0".parse().unwrap());
    assert_eq!(other, "p:3306 is MySQL 9.6.0, and its data is of no use for 9.7.4");
    let purged = all(|seen| seen.look.purged = transactions(1, 1_000_000));
    assert_eq!(purged, "the primary lacks binary logs that a copy of p:3306 would need");
    let of = |from: &str, to: &str| {
        let (from, to): (crate::core::version::Version, crate::core::version::Version) =
            (from.parse().unwrap(), to.parse().unwrap());
        let mut world = world();
        for name in ["p", "r1", "r2"] {
            world.seen(name).look.identity.version = from;
        }
        (world.seen("x").look.identity.version, world.one.version) = (to, to);
        world.plan().is_ok()
    };
    assert!(of("8.0.27", "8.0.27") && of("8.0.37", "8.0.39") && of("8.4.1", "8.4.3") && of("9.7.5", "9.7.4"));
    assert!(!of("8.0.26", "8.0.26"), "it refuses changes of tables while it is copied");
    assert!(!of("8.0.36", "8.0.37") && !of("8.0.17", "8.0.18") && !of("8.4.0", "9.0.0") && !of("5.7.44", "8.0.17"));
    // IPv6 addresses are nothing that CLONE takes.
    let mut world = world();
    let v6: ServerAddr = "[2001:db8::1]:3306".parse().unwrap();
    let replica = world.looks.remove(&addr("r1")).unwrap();
    world.looks.remove(&addr("r2"));
    world.looks.insert(v6, replica);
    assert_eq!(world.plan().unwrap().donor, addr("p"));
}
