//! Cases for rules whose absence breaks no invariant by itself: each tells whether its rule holds.

use baton::{
    core::{analysis::analyse, observation::FailureKind, readiness::assess},
    testing::snapshot::{Cluster, addr, policy, uuid},
};

/// Each of two replicas has a transaction of the primary that the other one lacks: nobody is promoted.
pub fn two_sets_that_each_have_something() -> bool {
    let mut cluster = Cluster::primary_and_replicas(2);
    for (name, numbers) in [("r1", "1-100:102"), ("r2", "1-101")] {
        let seen = &mut cluster.server(name).observation;
        seen.executed = format!("{}:{numbers}", uuid(1)).parse().unwrap();
        seen.channels[0].received = seen.executed.clone();
    }
    cluster.server("p").observation.executed = format!("{}:1-100", uuid(1)).parse().unwrap();
    cluster.look();
    cluster.fail("p", FailureKind::Refused);
    ["r1", "r2"].into_iter().for_each(|name| cluster.lose_source(name));
    !assess(&cluster.look(), Some(&addr("p")), &policy(), None).ready
}

/// A primary that refused one look, and whose replicas lost it.
pub fn one_failed_look() -> bool {
    let mut cluster = Cluster::primary_and_replicas(2);
    cluster.look();
    cluster.advance(100);
    cluster.fail("p", FailureKind::Refused);
    ["r1", "r2"].into_iter().for_each(|name| cluster.lose_source(name));
    let snapshot = cluster.look();
    analyse(&snapshot, &policy()).iter().all(|analysis| !analysis.calls_for_failover())
}
