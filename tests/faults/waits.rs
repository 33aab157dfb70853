//! What a scenario waits for, and what must not happen meanwhile.

use std::time::Duration;

use anyhow::bail;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::stage::{SHOP, Stage};

impl Stage {
    /// Waits until `holds`, and tells how long it took in milliseconds.
    pub async fn until(
        &self,
        what: &str,
        bound: Duration,
        holds: impl AsyncFn(&Self) -> anyhow::Result<bool>,
    ) -> anyhow::Result<u128> {
        let started = Instant::now();
        loop {
            let found = holds(self).await;
            if matches!(found, Ok(true)) {
                return Ok(started.elapsed().as_millis());
            }
            if started.elapsed() > bound {
                let why = found.err().map(|error| format!(": {error:#}")).unwrap_or_default();
                let mut state = self.kubernetes.state_of(SHOP).await;
                if let Some(record) = self.records().await?.last() {
                    state.push_str(&format!("; record {} {}", record["phase"], record["message"]));
                }
                bail!("not {what} within {} s{why}; {state}; {}", bound.as_secs(), self.logs());
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until a failover away from `old` has succeeded.
    pub async fn failed_over(&self, old: usize, bound: Duration) -> anyhow::Result<()> {
        let old = self.server(old).addr().to_string();
        let done = async |stage: &Self| {
            let records = stage.records().await?;
            let moved = records.last().is_some_and(|record| record["phase"] == "Succeeded");
            let status = stage.status().await?;
            Ok(moved && status["primary"].as_str().is_some_and(|primary| primary != old))
        };
        self.until(&format!("failed over from {old}"), bound, done).await?;
        Ok(())
    }

    /// Waits, and sees that nothing is failed over meanwhile.
    pub async fn quiet(&self, seconds: u64) -> anyhow::Result<()> {
        let before = self.records().await?;
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(seconds) {
            let records = self.records().await?;
            if records.len() != before.len() {
                bail!("a needless failover: {}; {}", records.last().unwrap_or(&Value::Null), self.logs());
            }
            sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// Waits, and sees that nobody is promoted meanwhile, whatever is tried.
    pub async fn unpromoted(&self, seconds: u64) -> anyhow::Result<()> {
        let before = self.promotions().await?;
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(seconds) {
            if self.promotions().await? != before {
                bail!("promoted although it must not be: {:?}; {}", self.records().await?.last(), self.logs());
            }
            sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    async fn promotions(&self) -> anyhow::Result<usize> {
        let promoted = |record: &&Value| {
            ["Writable", "Completing", "Succeeded"].contains(&record["phase"].as_str().unwrap_or_default())
        };
        Ok(self.records().await?.iter().filter(promoted).count())
    }
}
