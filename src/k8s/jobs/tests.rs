//! What Jobs are made of, and that they are made once.

use serde_json::json;

use super::*;
use crate::testing::api_server::{ApiServer, Fault};

fn setup() -> Setup {
    Setup {
        image: "localhost/baton:dev".to_owned(),
        pull_policy: Some("IfNotPresent".to_owned()),
        pull_secrets: vec!["registry".to_owned()],
        service_account: "baton-job".to_owned(),
        cpu: "100m".to_owned(),
        memory: "64Mi".to_owned(),
        memory_limit: "256Mi".to_owned(),
    }
}

fn key() -> ClusterKey {
    ClusterKey { namespace: "prod".to_owned(), name: "shop".to_owned() }
}

fn task(key: &ClusterKey, token: bool) -> Task<'_> {
    Task {
        key,
        uid: "uid",
        name: name("uid", "shop-7", "failover"),
        record: "shop-7",
        args: vec!["job".to_owned()],
        env: vec![text("BATON_SERVER", "db-1:3306"), secret("BATON_PASSWORD", "shop", "password")],
        volumes: vec![(Volume { name: "export".to_owned(), ..Volume::default() }, "/export".to_owned(), true)],
        token,
        deadline_s: 600,
        retries: 0,
        keep_s: 3600,
    }
}

#[test]
fn a_name_is_the_same_for_everybody_and_another_for_anything_else() {
    let first = name("uid", "shop-7", "failover");
    assert_eq!(first, "shop-7-failover-3af3dc94772dc60d", "it must not change with the version");
    for other in [name("uie", "shop-7", "failover"), name("uid", "shop-8", "failover"), name("uid", "shop-7", "export")]
    {
        assert_ne!(first, other);
    }
    let long = "a.b-".repeat(60);
    let cut = name("uid", &long, "failover");
    assert!(cut.len() <= 63 && !cut.contains('.') && !cut.contains("--"), "{cut}");
    assert_ne!(cut, name("uid", &format!("{long}x"), "failover"));
}

#[test]
fn a_pod_is_confined_and_has_a_token_only_where_it_needs_one() {
    let key = key();
    let wanted = |token| job(&setup(), &task(&key, token));
    let pod = |token| wanted(token).spec.unwrap().template.spec.unwrap();
    assert_eq!(pod(false).automount_service_account_token, Some(false));
    assert_eq!(pod(true).automount_service_account_token, Some(true));
    insta::assert_yaml_snapshot!(serde_json::to_value(wanted(true)).unwrap());
}

#[test]
fn its_end_is_told_from_its_failure() {
    let job = |status: serde_json::Value| -> Job { serde_json::from_value(json!({ "status": status })).unwrap() };
    let condition = |kind: &str| json!({ "conditions": [{ "type": kind, "status": "True", "message": "why" }] });
    for (status, wanted) in [
        (json!({}), Outcome::Pending),
        (json!({ "active": 1 }), Outcome::Running),
        (condition("FailureTarget"), Outcome::Pending),
        (condition("Complete"), Outcome::Succeeded),
        (condition("Failed"), Outcome::Failed("why".to_owned())),
    ] {
        assert_eq!(outcome(&job(status.clone())), wanted, "{status}");
    }
}

#[tokio::test]
async fn a_job_is_created_once() {
    let server = ApiServer::new();
    let (jobs, key) = (Jobs::new(&server.client(), setup()), key());
    assert_eq!(jobs.ensure(&task(&key, true)).await.unwrap(), Outcome::Pending);
    assert_eq!(jobs.ensure(&task(&key, true)).await.unwrap(), Outcome::Pending);
    assert_eq!(server.writes().len(), 1);
    jobs.create(&task(&key, true)).await.unwrap();
    assert!(server.object("jobs", "prod", &name("uid", "shop-7", "failover")).is_some());
    server.set_faults(|_| Some(Fault::Refuse(403)));
    assert!(jobs.create(&task(&key, true)).await.unwrap_err().is_forbidden());
}

#[tokio::test]
async fn a_job_of_the_name_that_does_something_else_proves_nothing() {
    let changes: [fn(&mut Job); 5] = [
        |job| job.metadata.owner_references = None,
        |job| job.metadata.owner_references.as_mut().unwrap()[0].uid = "other".to_owned(),
        |job| pod_of(job).containers[0].args = Some(vec!["version".to_owned()]),
        |job| pod_of(job).containers[0].env = None,
        |job| pod_of(job).volumes.as_mut().unwrap()[0].name = "other".to_owned(),
    ];
    for (index, change) in changes.into_iter().enumerate() {
        let server = ApiServer::new();
        let (jobs, key) = (Jobs::new(&server.client(), setup()), key());
        let mut other = job(&setup(), &task(&key, true));
        other.status =
            Some(serde_json::from_value(json!({ "conditions": [{ "type": "Complete", "status": "True" }] })).unwrap());
        server.put("jobs", &serde_json::to_value(&other).unwrap());
        let same = Task { env: vec![text("BATON_RECORD", "")], ..task(&key, true) };
        let mut stored = job(&setup(), &same);
        stored.status = other.status.clone();
        pod_of(&mut stored).containers[0].env.as_mut().unwrap()[1].value = None;
        server.put("jobs", &serde_json::to_value(&stored).unwrap());
        assert_eq!(jobs.ensure(&same).await.unwrap(), Outcome::Succeeded, "an empty value is left out");
        server.put("jobs", &serde_json::to_value(&other).unwrap());
        assert_eq!(jobs.ensure(&task(&key, true)).await.unwrap(), Outcome::Succeeded);
        change(&mut other);
        server.put("jobs", &serde_json::to_value(&other).unwrap());
        let found = jobs.ensure(&task(&key, true)).await.unwrap();
        assert!(matches!(&found, Outcome::Failed(_)), "{index}: {found:?}");
    }
}

fn pod_of(job: &mut Job) -> &mut PodSpec {
    job.spec.as_mut().unwrap().template.spec.as_mut().unwrap()
}
