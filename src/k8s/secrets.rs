//! Reads the Secrets that a cluster names: by name, in its own namespace, never by listing.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt};
use secrecy::SecretString;

use super::{
    deadline::call,
    validate::{self, Invalid},
};
use crate::{
    api::mysql_cluster::{DiscoverFrom, MysqlCluster},
    mysql::options::{Account, Options, Tls},
};

/// Longest wait for a connection to a MySQL server, in milliseconds.
const CONNECT_MS: u64 = 1000;

/// How to reach the servers of a cluster, from its Secrets. `before`: the options so far, whose account
/// is tried once more when the Secret changed.
///
/// # Errors
/// [`Invalid::Secret`] with what is missing.
pub async fn options(client: &Client, cluster: &MysqlCluster, before: Option<&Options>) -> Result<Options, Invalid> {
    let namespace = cluster.namespace().unwrap_or_default();
    let api: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    let name = &cluster.spec.credentials.secret_name;
    let secret = read(&api, name).await?;
    let operator = Account { user: text(&secret, name, "username")?, password: password(&secret, name, "password")? };
    let replication = match text(&secret, name, "replication-username") {
        Ok(user) => Some(Account { user, password: password(&secret, name, "replication-password")? }),
        Err(_) => None,
    };
    let changed = |old: &&Options| !same(&old.operator, &operator);
    let operator_before = before.filter(changed).map(|old| old.operator.clone());
    Ok(Options {
        operator_before: operator_before.or_else(|| before.and_then(|old| old.operator_before.clone())),
        operator,
        replication,
        tls: tls(&api, cluster).await?,
        queries: validate::queries(&cluster.spec),
        read_replica_hosts: cluster.spec.discovery.from == DiscoverFrom::ReplicaHosts,
        connect_ms: CONNECT_MS,
    })
}

/// Whether two options reach servers in the same way.
#[must_use]
pub fn same_options(a: &Options, b: &Options) -> bool {
    let replication = match (&a.replication, &b.replication) {
        (Some(a), Some(b)) => same(a, b),
        (a, b) => a.is_none() == b.is_none(),
    };
    let tls = a.tls.mode == b.tls.mode && a.tls.ca == b.tls.ca && a.tls.client == b.tls.client;
    same(&a.operator, &b.operator)
        && replication
        && tls
        && a.queries == b.queries
        && a.read_replica_hosts == b.read_replica_hosts
}

fn same(a: &Account, b: &Account) -> bool {
    use secrecy::ExposeSecret;
    a.user == b.user && a.password.expose_secret() == b.password.expose_secret()
}

async fn read(api: &Api<Secret>, name: &str) -> Result<Secret, Invalid> {
    let found = call("read a Secret", api.get_opt(name)).await;
    let found = found.map_err(|error| Invalid::Secret(format!("Secret {name} cannot be read: {error}")))?;
    found.ok_or_else(|| Invalid::Secret(format!("Secret {name} does not exist")))
}

fn bytes<'a>(secret: &'a Secret, name: &str, key: &str) -> Result<&'a [u8], Invalid> {
    let data = secret.data.as_ref().and_then(|data| data.get(key));
    data.map(|data| data.0.as_slice()).ok_or_else(|| Invalid::Secret(format!("Secret {name} has no key {key}")))
}

fn text(secret: &Secret, name: &str, key: &str) -> Result<String, Invalid> {
    let text = std::str::from_utf8(bytes(secret, name, key)?);
    text.map(str::to_owned).map_err(|_| Invalid::Secret(format!("key {key} of Secret {name} is no text")))
}

fn password(secret: &Secret, name: &str, key: &str) -> Result<SecretString, Invalid> {
    text(secret, name, key).map(SecretString::from)
}

/// The driver reads certificates from files: they go to a folder of this process, named by content.
async fn tls(api: &Api<Secret>, cluster: &MysqlCluster) -> Result<Tls, Invalid> {
    let spec = &cluster.spec.tls;
    let folder = std::env::temp_dir().join(format!("baton-{}", std::process::id()));
    let keep = |secret: &Secret, name: &str, key: &str| {
        let bytes = bytes(secret, name, key)?;
        store(&folder, bytes)
            .map_err(|error| Invalid::Secret(format!("cannot keep key {key} of Secret {name}: {error}")))
    };
    let ca = match &spec.ca_secret_name {
        Some(name) => Some(keep(&read(api, name).await?, name, "ca.crt")?),
        None => None,
    };
    let client = match &spec.client_secret_name {
        Some(name) => {
            let secret = read(api, name).await?;
            Some((keep(&secret, name, "tls.crt")?, keep(&secret, name, "tls.key")?))
        }
        None => None,
    };
    Ok(Tls::new(validate::tls_mode(spec.mode), ca, client))
}

fn store(folder: &Path, content: &[u8]) -> io::Result<PathBuf> {
    use std::hash::{DefaultHasher, Hash, Hasher};
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    let path = folder.join(format!("{:016x}.pem", hasher.finish()));
    if !folder.is_dir() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    if !path.exists() {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        io::Write::write_all(&mut file, content)?;
    }
    Ok(path)
}
