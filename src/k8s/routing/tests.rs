//! Service and slices over the fake API server: where clients are led, and when nobody is.

use serde_json::{Value, json};

use super::*;
use crate::testing::api_server::{ApiServer, Fault, Verb};

fn key() -> ClusterKey {
    ClusterKey { namespace: "default".to_owned(), name: "shop".to_owned() }
}

fn addr(text: &str) -> ServerAddr {
    text.parse().unwrap()
}

fn routing(server: &ApiServer) -> Routing {
    routing_of(server, "uid-1")
}

/// Of the cluster object with this UID.
fn routing_of(server: &ApiServer, uid: &str) -> Routing {
    Routing::new(&server.client(), key(), uid, Wish { service: "shop-primary".to_owned(), port: 3306 })
}

/// Where the slices lead: `address:port` of each endpoint.
fn led(server: &ApiServer) -> Vec<String> {
    let mut found = Vec::new();
    for name in ["shop-primary-baton", "shop-primary-baton-ipv6"] {
        let slice = server.object("endpointslices", "default", name).unwrap_or(Value::Null);
        for endpoint in slice["endpoints"].as_array().into_iter().flatten() {
            found.push(format!("{} {}", endpoint["addresses"][0].as_str().unwrap(), slice["ports"][0]["port"]));
        }
    }
    found
}

#[tokio::test]
async fn clients_are_led_to_the_primary_by_one_write() {
    let server = ApiServer::new();
    let routing = routing(&server);
    routing.ensure().await.unwrap();
    routing.publish(Some(&addr("10.0.0.1:3306"))).await.unwrap();
    let before = server.writes().len();
    routing.publish(Some(&addr("10.0.0.2:3307"))).await.unwrap();
    assert_eq!(led(&server), ["10.0.0.2 3307"]);
    assert_eq!(server.writes().len() - before, 1);
    routing.withdraw().await.unwrap();
    assert_eq!(led(&server), Vec::<String>::new());
    let slice = server.object("endpointslices", "default", "shop-primary-baton").unwrap();
    assert_eq!(slice["metadata"]["labels"]["kubernetes.io/service-name"], "shop-primary");
    assert_eq!(slice["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"], "mysql.baton.dev");
    assert_eq!(slice["metadata"]["ownerReferences"][0]["uid"], "uid-1");
    let service = server.object("services", "default", "shop-primary").unwrap();
    assert_eq!(service["spec"]["selector"], Value::Null);
    assert_eq!(service["metadata"]["labels"]["mysql.baton.dev/role"], "primary");
}

#[tokio::test]
async fn what_is_there_is_not_written_again() {
    let server = ApiServer::new();
    let first = routing(&server);
    first.ensure().await.unwrap();
    first.publish(Some(&addr("10.0.0.1:3306"))).await.unwrap();
    let before = server.writes().len();
    first.publish(Some(&addr("10.0.0.1:3306"))).await.unwrap();
    let restarted = routing(&server);
    restarted.ensure().await.unwrap();
    restarted.publish(Some(&addr("10.0.0.1:3306"))).await.unwrap();
    assert_eq!(server.writes().len(), before);
}

#[tokio::test]
async fn a_leader_that_did_not_look_first_still_leads_everybody_away() {
    let server = ApiServer::new();
    routing(&server).publish(Some(&addr("10.0.0.1:3306"))).await.unwrap();
    routing(&server).withdraw().await.unwrap();
    assert_eq!(led(&server), Vec::<String>::new());
}

#[tokio::test]
async fn never_two_servers_across_address_families() {
    let server = ApiServer::new();
    let routing = routing(&server);
    routing.publish(Some(&addr("10.0.0.1:3306"))).await.unwrap();
    server.set_faults(|call| (call.verb == Verb::Patch && call.name.ends_with("-baton")).then_some(Fault::Refuse(503)));
    routing.publish(Some(&addr("[2001:db8::1]:3306"))).await.unwrap_err();
    assert_eq!(led(&server), ["10.0.0.1 3306"], "the old one is led away from first");
    server.clear_faults();
    routing.publish(Some(&addr("[2001:db8::1]:3306"))).await.unwrap();
    assert_eq!(led(&server), ["2001:db8::1 3306"]);
    let slice = server.object("endpointslices", "default", "shop-primary-baton-ipv6").unwrap();
    assert_eq!(slice["addressType"], "IPv6");
}

#[tokio::test]
async fn a_host_name_leads_to_nobody_and_says_so() {
    let server = ApiServer::new();
    let routing = routing(&server);
    routing.publish(Some(&addr("10.0.0.1:3306"))).await.unwrap();
    let error = routing.publish(Some(&addr("db-1.example:3306"))).await.unwrap_err();
    assert_eq!(error.category(), "RoutingUnavailable");
    assert_eq!(led(&server), Vec::<String>::new());
}

#[tokio::test]
async fn a_write_with_an_unclear_end_is_repeated() {
    let server = ApiServer::new();
    let routing = routing(&server);
    server.set_faults(|call| (call.verb == Verb::Patch).then_some(Fault::DoneBut(504)));
    routing.publish(Some(&addr("10.0.0.1:3306"))).await.unwrap_err();
    server.clear_faults();
    routing.publish(None).await.unwrap();
    assert_eq!(led(&server), Vec::<String>::new());
}

#[tokio::test]
async fn a_service_of_somebody_else_is_left_alone() {
    let owner = |uid: &str| json!([{ "apiVersion": "v1", "kind": "MysqlCluster", "name": "o", "uid": uid, "controller": true }]);
    for (owners, selector) in
        [(json!([]), Value::Null), (owner("uid-2"), Value::Null), (owner("uid-1"), json!({ "app": "shop" }))]
    {
        let server = ApiServer::new();
        let foreign = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": { "name": "shop-primary", "namespace": "default", "ownerReferences": owners },
            "spec": { "selector": selector, "ports": [{ "port": 80 }] },
        });
        let before = server.put("services", &foreign);
        let error = routing(&server).ensure().await.unwrap_err();
        assert_eq!(error.category(), "ServiceNotOurs", "{error}");
        let error = routing(&server).publish(Some(&addr("10.0.0.1:3306"))).await.unwrap_err();
        assert_eq!(error.category(), "ServiceNotOurs", "{error}");
        assert_eq!(server.object("services", "default", "shop-primary").unwrap(), before);
        assert_eq!(server.writes().len(), 0);
    }
}

#[tokio::test]
async fn a_changed_port_is_applied() {
    let server = ApiServer::new();
    routing(&server).ensure().await.unwrap();
    let wish = Wish { service: "shop-primary".to_owned(), port: 3399 };
    Routing::new(&server.client(), key(), "uid-1", wish).ensure().await.unwrap();
    assert_eq!(server.object("services", "default", "shop-primary").unwrap()["spec"]["ports"][0]["port"], 3399);
}

#[tokio::test]
async fn what_a_failover_has_overtaken_is_not_published() {
    let server = ApiServer::new();
    let routing = routing(&server);
    routing.ensure().await.unwrap();
    let (old, new) = (addr("10.0.0.1:3306"), addr("10.0.0.2:3306"));
    routing.publish(Some(&new)).await.unwrap();
    assert!(!routing.publish_if(Some(&old), || false).await.unwrap(), "it says that it was not done");
    assert_eq!(led(&server), ["10.0.0.2 3306"]);
}

/// What a deleted cluster of the same name left is collected with it, however right it looks.
#[tokio::test]
async fn the_slice_of_a_deleted_cluster_is_not_relied_upon() {
    let server = ApiServer::new();
    let before = routing(&server);
    before.ensure().await.unwrap();
    before.publish(Some(&addr("10.0.0.1:3306"))).await.unwrap();
    server.remove("services", "default", "shop-primary");
    let after = routing_of(&server, "uid-2");
    after.ensure().await.unwrap();
    after.publish(Some(&addr("10.0.0.1:3306"))).await.unwrap();
    let slice = server.object("endpointslices", "default", "shop-primary-baton").unwrap();
    assert_eq!(slice["metadata"]["ownerReferences"][0]["uid"], "uid-2");
}
