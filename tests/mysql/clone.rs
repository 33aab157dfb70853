//! A server is overwritten with the data of another one, on real servers: what must hold, what it is like afterwards,
//! and that it becomes a replica then.

use std::{collections::BTreeMap, collections::BTreeSet, time::Duration};

use baton::{
    core::{
        id::ServerAddr,
        observation::Receiver,
        policy::Policy,
        rebuild::{Course, Plan, Refusal, Scene, Seen, course, plan},
        status::{Acknowledged, Quarantined},
        step::Action,
        time::Mono,
    },
    mysql::clone::{CloneError, Cloner},
    testing::{
        series::Series,
        servers::Server,
        snapshot::policy,
        topology::{Options, Topology, eventually},
    },
};

use super::setup::{Acts, account, clock, options};

const BUDGET_MS: u64 = 60_000;
/// Until when this process leads.
const LEADS: Mono = Mono(u64::MAX);

/// An old primary, fenced, with three rows of its own; the new one, and a replica of that.
async fn left_behind(more: &[&str]) -> Topology {
    let more = more.iter().chain(&["--plugin-load-add=mysql_clone.so"]).map(|option| (*option).to_owned()).collect();
    let mut topology =
        Topology::start(&Options { durable: false, more, ..Options::new(Series::Mysql97, 2) }).await.unwrap();
    let [old, new, other] = topology.servers.as_slice() else { panic!() };
    old.query("CREATE TABLE app.t (id INT PRIMARY KEY) ENGINE = InnoDB").await.unwrap();
    old.query("INSERT INTO app.t VALUES (1)").await.unwrap();
    for replica in [new, other] {
        topology.caught_up(replica, old).await.unwrap();
        replica.query("STOP REPLICA").await.unwrap();
    }
    for id in 100..103 {
        old.query(&format!("INSERT INTO app.t VALUES ({id})")).await.unwrap();
    }
    new.query("RESET REPLICA ALL").await.unwrap();
    new.query("SET GLOBAL read_only = OFF").await.unwrap();
    new.query("INSERT INTO app.t VALUES (2)").await.unwrap();
    let acts = Acts::new(options());
    acts.act(other.addr(), Action::Repoint { source: new.addr().clone(), semi_sync: None }).await;
    topology.caught_up(other, new).await.unwrap();
    topology.servers[0].crash().unwrap();
    topology.servers[0].restart().await.unwrap();
    topology
}

/// Looks at all servers; the new primary is the second one and is looked at last.
async fn looks(topology: &Topology, as_account: &str) -> BTreeMap<ServerAddr, Result<Seen, String>> {
    let (now, options) = (clock(), with(as_account));
    let mut all = BTreeMap::new();
    for index in [0, 2, 1] {
        let addr = topology.servers[index].addr();
        let seen = Cloner::connect(addr, &options, &now).await.unwrap().seen().await.unwrap();
        all.insert(addr.clone(), Ok(seen));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    all
}

fn wish() -> Policy {
    let mut policy = policy();
    policy.failover.rebuild = true;
    policy
}

async fn planned(topology: &Topology, as_account: &str) -> Result<Plan, Refusal> {
    let looks = looks(topology, as_account).await;
    let [old, new] = [0, 1].map(|index| topology.servers[index].addr().clone());
    let [seen, primary] = [&old, &new].map(|addr| looks[addr].clone().unwrap().look);
    let one = Quarantined {
        server: old,
        version: seen.identity.version,
        record: Some("shop-7".to_owned()),
        extra: Some(seen.executed.subtract(&primary.executed)),
        acknowledged: Acknowledged::Impossible,
        reason: String::new(),
    };
    let (policy, ackers) = (wish(), BTreeSet::new());
    plan(&Scene {
        policy: &policy,
        one: &one,
        replaced: Some((&seen.identity.uuid, &primary.executed)),
        saved: true,
        rebuilt: false,
        account: true,
        open: None,
        primary: Some((&new, true)),
        ackers: &ackers,
        looks: &looks,
        verify: false,
    })
}

fn with(user: &str) -> baton::mysql::options::Options {
    baton::mysql::options::Options { operator: account(user), ..options() }
}

async fn cloner(server: &Server) -> Cloner {
    Cloner::connect(server.addr(), &options(), &clock()).await.unwrap()
}

async fn course_of(topology: &Topology, plan: &Plan) -> Course {
    let [old, new] = [0, 1].map(|index| &topology.servers[index]);
    let now = clock();
    let mut recipient = Cloner::connect(old.addr(), &options(), &now).await.unwrap();
    let (seen, copying) = (recipient.look().await.unwrap(), recipient.copying().await.unwrap());
    tokio::time::sleep(Duration::from_millis(5)).await;
    let primary = Cloner::connect(new.addr(), &options(), &now).await.unwrap().look().await.unwrap();
    course(&seen, copying.as_ref(), (new.addr(), &primary), Some(&plan.extra))
}

#[tokio::test]
async fn an_old_primary_gets_the_data_of_a_replica_and_follows_the_primary() {
    let mut topology = left_behind(&["--skip-replica-start=ON"]).await;
    let plan = planned(&topology, "baton").await.unwrap();
    assert_eq!((&plan.donor, plan.note.as_str(), plan.extra.count()), (topology.servers[2].addr(), "", 3), "{plan:?}");
    assert_eq!(course_of(&topology, &plan).await, Course::Idle);

    let uuid = topology.servers[0].value("SELECT @@server_uuid").await.unwrap();
    let result = cloner(&topology.servers[0]).await.overwrite(&plan, &options(), LEADS, BUDGET_MS).await;
    assert_eq!(result, Err(CloneError::NotRestarted));
    let ended = async || Ok(topology.servers[0].query("SELECT 1").await.is_err());
    eventually("mysqld goes down", Duration::from_secs(20), ended).await.unwrap();
    topology.servers[0].restart().await.unwrap();
    let old = &topology.servers[0];
    assert_eq!(old.value("SELECT @@server_uuid").await.unwrap(), uuid);
    assert_eq!(old.value("SELECT @@super_read_only").await.unwrap(), "1", "as its configuration says");
    assert_eq!(old.value("SELECT GROUP_CONCAT(id) FROM app.t").await.unwrap(), "1,2");
    assert_eq!(course_of(&topology, &plan).await, Course::Join);

    // The channel is the donor's, and stopped.
    let acts = Acts::new(options());
    let seen =
        acts.act(old.addr(), Action::Repoint { source: topology.servers[1].addr().clone(), semi_sync: None }).await;
    assert_eq!(seen.channels.len(), 1);
    topology.servers[1].query("INSERT INTO app.t VALUES (3)").await.unwrap();
    topology.caught_up(old, &topology.servers[1]).await.unwrap();
    assert_eq!(old.value("SELECT GROUP_CONCAT(id) FROM app.t").await.unwrap(), "1,2,3");
    let running = acts.act(old.addr(), Action::Look).await;
    assert_eq!(running.channels[0].receiver, Receiver::Running);
    assert_eq!(course_of(&topology, &plan).await, Course::Joined);
    // Whoever comes late with the same plan does nothing.
    let late = cloner(old).await.overwrite(&plan, &options(), LEADS, BUDGET_MS).await;
    assert!(matches!(late, Err(CloneError::Refused(_))), "{late:?}");
    assert_eq!(old.value("SELECT GROUP_CONCAT(id) FROM app.t").await.unwrap(), "1,2,3");
}

const UNTOUCHED: &str = "SELECT CONCAT_WS('-', @@super_read_only, @@offline_mode, (SELECT VARIABLE_SOURCE FROM \
                         performance_schema.variables_info WHERE VARIABLE_NAME = 'super_read_only'))";

/// What the server itself asks before it discards anything.
#[tokio::test]
async fn nothing_is_discarded_when_the_server_is_not_as_it_was() {
    let topology = left_behind(&[]).await;
    let plan = planned(&topology, "baton").await.unwrap();
    let old = &topology.servers[0];
    let refused = async |plan: &Plan, until: Mono, what: &str| {
        let result = cloner(old).await.overwrite(plan, &options(), until, BUDGET_MS).await;
        assert!(matches!(result, Err(CloneError::Refused(_))), "{what}: {result:?}");
        assert_eq!(old.value("SELECT COUNT(*) FROM app.t WHERE id >= 100").await.unwrap(), "3", "{what}");
        // Neither closed to clients nor opened to administrators, not for a moment.
        assert_eq!(old.value(UNTOUCHED).await.unwrap(), "1-0-COMMAND_LINE", "{what}");
    };
    let history = "UPDATE performance_schema.setup_consumers SET ENABLED = 'YES' WHERE NAME LIKE 'events_statements_%'";
    old.query(history).await.unwrap();
    refused(&Plan { uuid: "another".to_owned(), ..plan.clone() }, LEADS, "another server has its address").await;
    refused(&plan, Mono(0), "too late").await;
    let more = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1".parse().unwrap();
    refused(&Plan { extra: plan.extra.union(&more), ..plan.clone() }, LEADS, "it lacks what is saved").await;
    let mut holder = old.connect(baton::testing::servers::Account::Baton).await.unwrap();
    mysql_async::prelude::Queryable::query_drop(&mut holder, "DO GET_LOCK('baton.rebuild', 0)").await.unwrap();
    refused(&plan, LEADS, "another operator is at it").await;
    mysql_async::prelude::Queryable::query_drop(&mut holder, "DO RELEASE_ALL_LOCKS(); DO GET_LOCK('baton.claim', 0)")
        .await
        .unwrap();
    refused(&plan, LEADS, "it is about to become the primary").await;
    drop(holder);
    let fewer = plan.extra.subtract(&plan.extra);
    let allowed = plan.allowed.subtract(&plan.extra);
    refused(&Plan { extra: fewer, allowed, ..plan.clone() }, LEADS, "it has become more").await;
    // The address leads to the new primary by now: that one is not closed.
    let new = &topology.servers[1];
    let result = cloner(new).await.overwrite(&plan, &options(), LEADS, BUDGET_MS).await;
    assert!(matches!(result, Err(CloneError::Refused(_))), "{result:?}");
    let open = "SELECT CONCAT_WS('-', @@read_only, @@super_read_only, @@offline_mode)";
    assert_eq!(new.value(open).await.unwrap(), "0-0-0");
    // A replica has it: that one goes on.
    let replica = &topology.servers[2];
    let result = cloner(replica).await.overwrite(&plan, &options(), LEADS, BUDGET_MS).await;
    assert!(matches!(result, Err(CloneError::Refused(_))), "{result:?}");
    let running = "SELECT SERVICE_STATE FROM performance_schema.replication_connection_status";
    assert_eq!(replica.value(running).await.unwrap(), "ON");
    // A person has opened it meanwhile, and closed it again.
    old.query("SET GLOBAL super_read_only = OFF").await.unwrap();
    for closed in ["OFF", "ON"] {
        old.query(&format!("SET GLOBAL super_read_only = {closed}")).await.unwrap();
        let result = cloner(old).await.overwrite(&plan, &options(), LEADS, BUDGET_MS).await;
        assert!(matches!(result, Err(CloneError::Refused(_))), "{result:?}");
        let is = old.value("SELECT CONCAT_WS('-', @@super_read_only, @@offline_mode)").await.unwrap();
        assert_eq!(is, if closed == "ON" { "1-0" } else { "0-0" });
    }
    let Err(Refusal::Doubt(reason)) = planned(&topology, "baton").await else { panic!() };
    assert!(reason.starts_with("its own configuration does not prove"), "{reason}");
    let told = "SELECT GROUP_CONCAT(SQL_TEXT) FROM performance_schema.events_statements_history_long \
                WHERE SQL_TEXT LIKE 'SET @baton_rebuild%'";
    let told = old.value(told).await.unwrap();
    assert!(told.contains("IS_USED_LOCK") && !told.contains("IDENTIFIED BY 'baton'"), "{told}");
}

/// The documented account cannot; with what it is told to be given, it can.
#[tokio::test]
async fn rights_that_are_missing_are_told_exactly() {
    let mut topology = left_behind(&[]).await;
    for statement in super::grants::statements(Series::Mysql97) {
        topology.servers[1].query(&statement).await.unwrap();
    }
    topology.caught_up(&topology.servers[2], &topology.servers[1]).await.unwrap();
    let on_old = |texts: &[&str]| {
        let all = ["SET SESSION sql_log_bin = OFF", "SET GLOBAL super_read_only = OFF"].iter().chain(texts);
        all.chain(&["SET GLOBAL super_read_only = ON"]).copied().collect::<Vec<_>>().join("; ")
    };
    let created = super::grants::statements(Series::Mysql97);
    let created: Vec<_> = created.iter().map(String::as_str).collect();
    topology.servers[0].query(&on_old(&created)).await.unwrap();
    topology.servers[0].crash().unwrap();
    topology.servers[0].restart().await.unwrap();
    // Without the right nothing is discarded, and the server is closed again and lets clients in.
    let (whole, least) = (planned(&topology, "baton").await.unwrap(), with("least"));
    let recipient = Cloner::connect(topology.servers[0].addr(), &least, &clock()).await.unwrap();
    let result = recipient.overwrite(&whole, &least, LEADS, BUDGET_MS).await;
    assert!(matches!(result, Err(CloneError::Refused(_))), "{result:?}");
    let old = &topology.servers[0];
    assert_eq!(old.value(UNTOUCHED).await.unwrap(), "1-0-DYNAMIC");
    assert_eq!(old.value("SELECT COUNT(*) FROM app.t WHERE id >= 100").await.unwrap(), "3");
    topology.servers[0].crash().unwrap();
    topology.servers[0].restart().await.unwrap();
    let Err(Refusal::Unfit(reason)) = planned(&topology, "least").await else { panic!() };
    let grant = "GRANT CLONE_ADMIN ON *.* TO 'least'@'%'";
    assert!(reason.contains(grant) && reason.contains("before the failover"), "{reason}");
    topology.servers[0].query(&on_old(&[grant])).await.unwrap();
    topology.servers[0].crash().unwrap();
    topology.servers[0].restart().await.unwrap();
    let told = planned(&topology, "least").await;
    let Err(Refusal::Unfit(reason)) = told else { panic!("{told:?}") };
    assert!(reason.contains("GRANT BACKUP_ADMIN ON *.* TO 'least'@'%'; on the primary"), "{reason}");
    let documented = super::grants::block("-- rebuild");
    for statement in &documented {
        topology.servers[1].query(statement).await.unwrap();
    }
    let documented: Vec<_> = documented.iter().map(String::as_str).collect();
    topology.servers[0].query(&on_old(&documented)).await.unwrap();
    topology.servers[0].crash().unwrap();
    topology.servers[0].restart().await.unwrap();
    topology.caught_up(&topology.servers[2], &topology.servers[1]).await.unwrap();
    let plan = planned(&topology, "least").await.unwrap();
    let recipient = Cloner::connect(topology.servers[0].addr(), &least, &clock()).await.unwrap();
    let result = recipient.overwrite(&plan, &least, LEADS, BUDGET_MS).await;
    assert_eq!(result, Err(CloneError::NotRestarted));
    let ended = async || Ok(topology.servers[0].query("SELECT 1").await.is_err());
    eventually("mysqld goes down", Duration::from_secs(20), ended).await.unwrap();
    topology.servers[0].restart().await.unwrap();
    // Without skip_replica_start it goes on as the donor did.
    let joined = async || Ok(course_of(&topology, &plan).await == Course::Joined);
    eventually("it replicates", Duration::from_secs(20), joined).await.unwrap();
}
