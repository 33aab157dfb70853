//! Servers whose certificates are no good any more: alive, and nobody is to replace them for that.

use std::{path::PathBuf, time::Duration};

use anyhow::ensure;
use baton::testing::{folder::Folder, process::run};
use jiff::Timestamp;
use serde_json::json;
use tokio::time::sleep;

use super::{
    judge::{Expect, Report},
    primary::CRASH_MS,
    scenario::{Scenario, scenario},
    stage::{PATIENCE, Setup, Stage},
};

/// How long a certificate is good that expires in a scenario.
const VALID: Duration = Duration::from_secs(5);

/// What is wrong with the certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    Expired,
    Name,
}

pub fn scenarios() -> Vec<Scenario> {
    let one = "the primary's certificate";
    let (told, then) = ("no failover, and Ready says TlsMismatch", "then it dies, and is replaced");
    vec![
        scenario("F50-tls-expired", 120, &format!("{one} expires: {told}; {then}, by TLS as before"), |name| {
            primary(name, Wrong::Expired)
        }),
        scenario(
            "F50-tls-name",
            120,
            &format!("{one} is for another name: {told}; {then}, by TLS as before"),
            |name| primary(name, Wrong::Name),
        ),
        scenario(
            "F50-tls-all",
            120,
            "the certificates of all servers expire, then the primary dies: nobody is promoted unseen; with new ones it is replaced",
            all,
        ),
    ]
}

/// An authority and what it certifies.
struct Authority(Folder);

impl Authority {
    fn new() -> anyhow::Result<Self> {
        let authority = Self(Folder::new()?);
        authority.openssl("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ca -keyout @ca-key.pem -out @ca.pem")?;
        authority.openssl("req -newkey rsa:2048 -nodes -subj /CN=server -keyout @key.pem -out @request.pem")?;
        let own = "[ca]\ndefault_ca=own\n[own]\ndatabase=@index\nnew_certs_dir=@\ndefault_md=sha256\nrand_serial=1\n\
                   unique_subject=no\npolicy=any\n[any]\ncommonName=supplied\n";
        let folder = authority.0.path().display().to_string();
        std::fs::write(authority.file("own.cnf"), own.replace('@', &format!("{folder}/")))?;
        std::fs::write(authority.file("index"), "")?;
        Ok(authority)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// `@` stands for the folder.
    fn openssl(&self, words: &str) -> anyhow::Result<()> {
        let word = |word: &str| match word.strip_prefix('@') {
            Some(name) => self.file(name).display().to_string(),
            None => word.to_owned(),
        };
        let words: Vec<_> = words.split(' ').map(word).collect();
        run("openssl", &words.iter().map(String::as_str).collect::<Vec<_>>())?;
        Ok(())
    }

    /// A server's certificate, at the same place as the one before it. One that expires is good for [`VALID`]: no server
    /// would load it after that.
    fn certify(&self, host: &str, wrong: Option<Wrong>) -> anyhow::Result<()> {
        let valid = if wrong == Some(Wrong::Expired) { VALID } else { Duration::from_secs(86_400) };
        let name = if wrong == Some(Wrong::Name) { "203.0.113.1" } else { host };
        std::fs::write(self.file("names"), format!("subjectAltName=IP:{name}"))?;
        let at = |time: Timestamp| time.strftime("%y%m%d%H%M%SZ").to_string();
        let (from, until) = (at(Timestamp::now() - Duration::from_secs(60)), at(Timestamp::now() + valid));
        self.openssl(&format!(
            "ca -batch -notext -config @own.cnf -cert @ca.pem -keyfile @ca-key.pem -startdate {from} -enddate {until} \
             -extfile @names -in @request.pem -out @{host}.pem"
        ))
    }

    fn options(&self, host: &str) -> [(&'static str, String); 3] {
        let file = |name: &str| self.file(name).display().to_string();
        [("ca", file("ca.pem")), ("cert", file(&format!("{host}.pem"))), ("key", file("key.pem"))]
    }
}

/// Everybody uses TLS and checks who the other is: replicas, and Baton.
async fn verified(name: &str) -> anyhow::Result<(Stage, Authority)> {
    let (mut stage, authority) = (Stage::new(name, Setup::default()).await?, Authority::new()?);
    let servers = 0..stage.topology.servers.len();
    for index in servers.clone() {
        let host = stage.server(index).addr().host().to_owned();
        authority.certify(&host, None)?;
        let options = authority.options(&host);
        for (option, file) in &options {
            stage.sql(index, &[&format!("SET GLOBAL ssl_{option} = '{file}'")]).await?;
        }
        // When it starts anew.
        stage.server_mut(index).add_options(options.map(|(option, file)| format!("--ssl-{option}={file}")));
        // Who resumes a session does not ask for the certificate again.
        stage.sql(index, &["SET GLOBAL ssl_session_cache_mode = OFF", "ALTER INSTANCE RELOAD TLS"]).await?;
    }
    let file = authority.file("ca.pem");
    let tls = format!(
        "CHANGE REPLICATION SOURCE TO SOURCE_SSL = 1, SOURCE_SSL_VERIFY_SERVER_CERT = 1, SOURCE_SSL_CA = '{}'",
        file.display()
    );
    for index in [1, 2] {
        stage.sql(index, &["STOP REPLICA", &tls, "START REPLICA"]).await?;
    }
    let data = json!({ "ca.crt": std::fs::read_to_string(file)? });
    let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "ca" }, "stringData": data });
    stage.kubernetes.apply("Secret", secret).await?;
    stage.configure(&json!({ "tls": { "mode": "VerifyIdentity", "caSecretName": "ca" } })).await?;
    sleep(Duration::from_secs(2)).await;
    for index in servers.clone() {
        hang_up(&stage, index).await?;
    }
    stage.ready().await?;
    for index in servers {
        let plain = stage.server(index).value(&sessions("= 'TCP/IP'")).await?;
        let encrypted = stage.server(index).value(&sessions("= 'SSL/TLS'")).await?;
        // Ours, which asks, is not encrypted.
        ensure!(plain == "1" && encrypted != "0", "{plain} plain sessions, {encrypted} by TLS");
    }
    Ok((stage, authority))
}

fn sessions(kind: &str) -> String {
    format!(
        "SELECT COUNT(*) FROM performance_schema.threads WHERE PROCESSLIST_USER = 'baton' AND CONNECTION_TYPE {kind}"
    )
}

/// Ends Baton's sessions: each is to be made anew.
async fn hang_up(stage: &Stage, index: usize) -> anyhow::Result<()> {
    let list =
        "SELECT GROUP_CONCAT(id) FROM information_schema.processlist WHERE user = 'baton' AND id <> CONNECTION_ID()";
    let ids = stage.server(index).value(list).await?;
    for id in ids.split(',').filter(|id| !id.is_empty()) {
        // One may have ended by itself.
        let _ended = stage.server(index).query(&format!("KILL {id}")).await;
    }
    Ok(())
}

/// Gives servers another certificate, and lets Baton see it once it is no good.
async fn present(stage: &Stage, authority: &Authority, servers: &[usize], wrong: Wrong) -> anyhow::Result<()> {
    for index in servers {
        authority.certify(stage.server(*index).addr().host(), Some(wrong))?;
        stage.sql(*index, &["ALTER INSTANCE RELOAD TLS"]).await?;
    }
    sleep(VALID + Duration::from_secs(1)).await;
    for index in servers {
        hang_up(stage, *index).await?;
    }
    Ok(())
}

/// Waits until it is said what is wrong with the primary.
async fn told(stage: &Stage) -> anyhow::Result<u128> {
    let told = async |stage: &Stage| {
        let (status, reason, _) = stage.condition("Ready").await?;
        Ok(status == "False" && reason == "TlsMismatch")
    };
    stage.until("told that TLS fails", PATIENCE, told).await
}

/// Sees that every replica that is left still checks who its source is.
async fn still_checked(stage: &Stage) -> anyhow::Result<()> {
    let status = "SELECT CONCAT_WS(' ', SSL_ALLOWED, SSL_VERIFY_SERVER_CERTIFICATE) \
                  FROM performance_schema.replication_connection_configuration";
    let primary = stage.primary().await?;
    for index in [1, 2].into_iter().filter(|index| *index != primary) {
        let found = stage.server(index).value(status).await?;
        ensure!(found == "YES YES", "TLS of the channel of server {index} is {found:?}");
    }
    Ok(())
}

async fn primary(name: String, wrong: Wrong) -> anyhow::Result<Report> {
    let (mut stage, authority) = verified(&name).await?;
    present(&stage, &authority, &[0], wrong).await?;
    let told_ms = told(&stage).await?;
    let (.., message) = stage.condition("Ready").await?;
    stage.quiet(8).await?;
    stage.writes_go_on().await?;
    let (.., now) = stage.condition("Ready").await?;
    ensure!(now == message, "told in other words each time: {message}; {now}");
    stage.strike("kill");
    stage.server_mut(0).crash()?;
    stage.failed_over(0, PATIENCE).await?;
    still_checked(&stage).await?;
    authority.certify(stage.server(0).addr().host(), None)?;
    stage.bring_back(0).await?;
    let report = stage.judge(Expect { pause_ms: Some(CRASH_MS), ..Expect::default() }).await?;
    Ok(report.noting(format!("told after {told_ms} ms: {}", message.replace('|', "/"))))
}

async fn all(name: String) -> anyhow::Result<Report> {
    let (mut stage, authority) = verified(&name).await?;
    present(&stage, &authority, &[0, 1, 2], Wrong::Expired).await?;
    let told_ms = told(&stage).await?;
    stage.quiet(5).await?;
    stage.writes_go_on().await?;
    stage.strike("kill");
    stage.server_mut(0).crash()?;
    stage.unpromoted(5).await?;
    for index in [0, 1, 2] {
        authority.certify(stage.server(index).addr().host(), None)?;
    }
    for index in [1, 2] {
        stage.sql(index, &["ALTER INSTANCE RELOAD TLS"]).await?;
    }
    stage.failed_over(0, PATIENCE).await?;
    still_checked(&stage).await?;
    stage.bring_back(0).await?;
    let report = stage.judge(Expect::default()).await?;
    Ok(report.noting(format!("told after {told_ms} ms; 5 s of the pause without a good certificate")))
}
