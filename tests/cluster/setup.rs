//! The cluster of the test, with the custom resources installed.

use baton::api::crds;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, Config, ResourceExt,
    api::{Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
    runtime::{conditions::is_crd_established, wait::await_condition},
};
use std::time::Duration;

/// A client of the cluster that `KUBECONFIG` names; never the ambient one.
pub async fn client() -> Client {
    let path = std::env::var("KUBECONFIG").expect(
        "KUBECONFIG is not set: start a control plane with `dev/kubernetes/up.sh --control-plane` and run \
         `dev/kubernetes/enter.sh cargo test --test cluster`",
    );
    let kubeconfig = Kubeconfig::read_from(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

/// Installs the custom resource definitions of this version and waits until they are served.
pub async fn with_resources() -> Client {
    let client = client().await;
    let api = Api::<CustomResourceDefinition>::all(client.clone());
    for crd in crds::definitions().unwrap() {
        let name = crd.name_any();
        let apply = PatchParams::apply("baton-test").force();
        api.patch(&name, &apply, &Patch::Apply(&crd)).await.unwrap();
        let established = await_condition(api.clone(), &name, is_crd_established());
        tokio::time::timeout(Duration::from_secs(20), established).await.expect("established within 20 s").unwrap();
    }
    client
}
