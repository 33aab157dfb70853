//! One failover under load: a topology, writers, a fault, and what the writers saw of it. Whoever
//! repairs the cluster meanwhile (the operator, or a few lines in a test) is the caller's business.

use std::{fmt, str::FromStr, time::Duration};

use serde::Serialize;

use super::{
    history::{Gap, History, Verdict, ms},
    network::Cut,
    servers::{FixtureError, Server},
    topology::{Options, Topology},
    writers::{Config, WriterError, Writers, check},
};
use crate::core::id::ServerAddr;

/// Rows that must be acknowledged before the fault.
const WARM_UP_ROWS: u64 = 200;
/// How long that may take.
const WARM_UP_DEADLINE: Duration = Duration::from_secs(20);

/// What happens to the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Fault {
    /// SIGKILL: the process is gone, the kernel closes its connections.
    Kill,
    /// SIGSTOP: the process hangs, connections stay open.
    Stop,
    /// Its link drops everything, both ways.
    Cut,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kill => "kill",
            Self::Stop => "stop",
            Self::Cut => "cut",
        })
    }
}

impl FromStr for Fault {
    type Err = FixtureError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unfit = || FixtureError::Unfit(format!("no fault is named {text:?}: one of kill, stop, cut"));
        [Self::Kill, Self::Stop, Self::Cut].into_iter().find(|fault| fault.to_string() == text).ok_or_else(unfit)
    }
}

/// Why a trial gave no result.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// The servers.
    #[error("the servers failed the trial")]
    Fixture(#[from] FixtureError),
    /// The writers.
    #[error("the writers failed the trial")]
    Writer(#[from] WriterError),
    /// The writers could not write before the fault.
    #[error("fewer than {WARM_UP_ROWS} rows within {} s before the fault", WARM_UP_DEADLINE.as_secs())]
    Cold,
    /// Nobody took writes after the fault.
    #[error("no server took writes within {seconds} s after the fault")]
    NotWritable {
        /// The bound.
        seconds: u64,
    },
}

/// A topology with writers on it.
#[derive(Debug)]
pub struct Trial {
    /// The servers; the first is the primary.
    pub topology: Topology,
    config: Config,
    writers: Writers,
    strike: Option<Strike>,
}

/// The fault that happened.
#[derive(Debug, Clone)]
struct Strike {
    server: ServerAddr,
    at_us: u64,
}

/// What the writers saw.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// From the last acknowledgement of the old primary to the first of the new one.
    pub gap: Gap,
    /// From the fault to the first acknowledgement of the new one.
    pub after_fault_ms: f64,
    /// How often the acknowledging server changed; more than once is a fault of its own.
    pub changes: usize,
    /// The new primary's rows compared with what was acknowledged.
    pub verdict: Verdict,
}

impl Trial {
    /// Starts writers on a running topology and waits until they have written.
    ///
    /// # Errors
    /// When they cannot write.
    pub async fn begin(topology: Topology, config: Config) -> Result<Self, TrialError> {
        let writers = Writers::start(config.clone()).await?;
        if !writers.acknowledged(WARM_UP_ROWS, WARM_UP_DEADLINE).await {
            return Err(TrialError::Cold);
        }
        Ok(Self { topology, config, writers, strike: None })
    }

    /// Starts a topology and writers with defaults on it.
    ///
    /// # Errors
    /// When either does not come up.
    pub async fn start(options: &Options) -> Result<Self, TrialError> {
        let topology = Topology::start(options).await?;
        let config = Config::new(topology.addresses());
        Self::begin(topology, config).await
    }

    /// Does `fault` to the first server.
    ///
    /// # Errors
    /// When it cannot be done; a cut needs servers in a network.
    pub fn strike(&mut self, fault: Fault) -> Result<(), FixtureError> {
        let Some(primary) = self.topology.servers.first_mut() else { return Ok(()) };
        let at_us = self.writers.mark(&fault.to_string());
        self.strike = Some(Strike { server: primary.addr().clone(), at_us });
        apply(primary, fault)
    }

    /// Waits until another server takes writes, lets the writers go on for half a second, and compares.
    ///
    /// # Errors
    /// When nobody takes writes within `bound`, or the rows cannot be read.
    pub async fn finish(self, bound: Duration) -> Result<(Report, Topology), TrialError> {
        let not_writable = TrialError::NotWritable { seconds: bound.as_secs() };
        let Some(strike) = self.strike else { return Err(not_writable) };
        let old = strike.server.to_string();
        if self.writers.written_elsewhere(&old, strike.at_us, bound).await.is_none() {
            return Err(not_writable);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        let history = self.writers.stop().await;
        let Some(gap) = history.gaps().into_iter().find(|gap| gap.from == old) else { return Err(not_writable) };
        let verdict = verdict(&self.config, &self.topology, &history).await?;
        let after_fault_ms = ms(gap.first_us.saturating_sub(strike.at_us));
        let changes = history.gaps().len();
        Ok((Report { gap, after_fault_ms, changes, verdict }, self.topology))
    }
}

/// Compares on the server that acknowledged last.
async fn verdict(config: &Config, topology: &Topology, history: &History) -> Result<Verdict, TrialError> {
    let last = history.reigns().last().and_then(|reign| history.servers.get(usize::from(reign.server)).cloned());
    let server = topology.servers.iter().find(|server| Some(server.addr().to_string()) == last);
    let unfit = || FixtureError::Unfit("the last writable server is none of the topology's".to_owned());
    Ok(check(config, server.ok_or_else(unfit)?.addr(), history).await?)
}

fn apply(primary: &mut Server, fault: Fault) -> Result<(), FixtureError> {
    match fault {
        Fault::Kill => primary.crash()?,
        Fault::Stop => primary.freeze()?,
        Fault::Cut => {
            let unfit = || FixtureError::Unfit("a cut needs servers in a network".to_owned());
            primary.host().ok_or_else(unfit)?.cut(Cut::Both)?;
        }
    }
    Ok(())
}
