//! The examples of `tests/api` against the real API server: schema, CEL rules and their cost.

use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams},
    core::GroupVersionKind,
};
use serde_json::Value;

use super::{
    setup,
    support::{By, accepted, refused},
};

fn api(client: &Client, object: &Value) -> Api<DynamicObject> {
    let gvk = GroupVersionKind::gvk(baton::api::GROUP, baton::api::VERSION, object["kind"].as_str().unwrap());
    Api::namespaced_with(client.clone(), "default", &ApiResource::from_gvk(&gvk))
}

/// Asks the API server to create the object without keeping it.
async fn try_create(client: &Client, object: &Value) -> Result<DynamicObject, String> {
    let params = PostParams { dry_run: true, ..PostParams::default() };
    let typed = serde_json::from_value(object.clone()).unwrap();
    api(client, object).create(&params, &typed).await.map_err(|error| error.to_string())
}

/// The same by server-side apply, unknown fields being an error.
async fn try_apply(client: &Client, object: &Value) -> Result<DynamicObject, String> {
    let params = PatchParams { dry_run: true, ..PatchParams::apply("baton-test").validation_strict() };
    let name = object["metadata"]["name"].as_str().unwrap();
    api(client, object).patch(name, &params, &Patch::Apply(object)).await.map_err(|error| error.to_string())
}

/// Creates the first object, asks to replace it by the second, and removes it.
async fn try_update(client: &Client, old: &Value, new: &Value) -> Result<DynamicObject, String> {
    let api = api(client, old);
    let created = api.create(&PostParams::default(), &serde_json::from_value(old.clone()).unwrap()).await.unwrap();
    let name = created.metadata.name.clone().unwrap();
    let mut typed: DynamicObject = serde_json::from_value(new.clone()).unwrap();
    typed.metadata.resource_version = created.metadata.resource_version;
    let result = api.replace(&name, &PostParams { dry_run: true, ..PostParams::default() }, &typed).await;
    api.delete(&name, &kube::api::DeleteParams::default()).await.unwrap();
    result.map_err(|error| error.to_string())
}

#[tokio::test]
async fn refused_examples_are_refused_with_their_message() {
    let client = setup::with_resources().await;
    for example in refused() {
        let outcomes = match (example.by, example.objects.as_slice()) {
            (By::Update, [old, new]) => vec![try_update(&client, old, new).await],
            _ => {
                let mut outcomes = Vec::new();
                for object in &example.objects {
                    outcomes.push(try_create(&client, object).await);
                }
                outcomes
            }
        };
        for outcome in outcomes {
            let message = outcome.expect_err(&example.file);
            assert!(message.contains(&example.message), "{}: {message}", example.file);
        }
    }
}

#[tokio::test]
async fn accepted_examples_are_accepted() {
    let client = setup::with_resources().await;
    for example in accepted() {
        for object in &example.objects {
            try_apply(&client, object).await.unwrap_or_else(|error| panic!("{}: {error}", example.file));
        }
    }
}

#[tokio::test]
async fn defaults_are_filled_in_by_the_api_server() {
    let client = setup::with_resources().await;
    let smallest = accepted().into_iter().find(|example| example.file == "smallest.yaml").unwrap();
    let created = try_create(&client, &smallest.objects[0]).await.unwrap();
    let spec = &created.data["spec"];
    assert_eq!(spec["port"], 3306);
    assert_eq!(spec["servers"][0]["port"], 3306);
    assert_eq!(spec["failover"]["blockPeriod"], "1h");
    assert_eq!(spec["tls"]["mode"], "Preferred");
    let typed: baton::api::MysqlClusterSpec = serde_json::from_value(spec.clone()).unwrap();
    assert_eq!(&serde_json::to_value(typed).unwrap(), spec, "the types and the schema have the same defaults");
}
