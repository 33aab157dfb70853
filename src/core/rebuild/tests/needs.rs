//! What must be there before, and what nobody can make up for later.

use super::*;

/// No server is opened for that: neither the one that is overwritten nor the one that is copied.
#[test]
fn the_plugin_must_be_there() {
    let told = refusal(|world| world.seen("x").facts.plugin = false);
    assert!(told.starts_with("unfit: x:3306 has not loaded the plugin clone: set plugin-load-add"), "{told}");
    assert_eq!(donor(|world| world.seen("r1").facts.plugin = false).0, "r2:3306");
    let told = refusal(|world| {
        for name in ["p", "r1", "r2"] {
            world.seen(name).facts.plugin = false;
        }
    });
    assert!(told.starts_with("unfit: p:3306 has not loaded the plugin clone"), "{told}");
    assert!(told.contains("INSTALL PLUGIN clone SONAME 'mysql_clone.so'"), "{told}");
}

/// It may have taken writes since it was replaced and closed again since, and nothing else tells of it.
#[test]
fn a_server_that_was_not_closed_from_its_start_on_is_in_doubt() {
    let told = refusal(|world| world.seen("x").facts.closed_since_start = false);
    assert!(told.starts_with("doubt: its own configuration does not prove that it refused writes"), "{told}");
    // It was a replica of the new primary since.
    let told = refusal(|world| world.promoted = transactions(1, 1));
    assert!(told.starts_with("doubt: it has got transactions since it was replaced"), "{told}");
}

#[test]
fn a_copy_of_the_primary_needs_an_account_to_replicate_with() {
    let alone = |world: &mut World| world.looks.retain(|one, _| *one == addr("p") || *one == addr("x"));
    assert_eq!(donor(alone).0, "p:3306");
    let told = refusal(|world| {
        alone(world);
        world.account = false;
    });
    let reason =
        "no replica can be copied (there is none), and a copy of the primary needs replication-username in the Secret";
    assert_eq!(told, reason);
    assert_eq!(donor(|world| world.account = false).0, "r1:3306", "a replica's channel is copied with it");
}
