//! One writer: which address it tries next, and what it makes of every answer.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use mysql_async::{Conn, Error, prelude::Queryable};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{
    Shared,
    table::{bounded, options},
};
use crate::{
    core::id::ServerAddr,
    testing::history::{Attempt, Outcome, RowId},
};

/// How long an address whose connection failed is left for last, as client libraries do. Writers differ
/// by [`AVOIDED_STEP_US`], so that they do not all wait for a hanging server at the same time.
const AVOIDED_US: u64 = 2_000_000;
/// See [`AVOIDED_US`].
const AVOIDED_STEP_US: u64 = 150_000;
/// Rest after an address that does not take writes.
const RETRY_PAUSE: Duration = Duration::from_millis(25);
/// Errors of a server that surely committed nothing: read-only (1290, 1792, 1836), offline (3032),
/// denied (1044, 1045, 1142, 1227), unknown database or table (1049, 1146), connections used up (1040, 1203).
const REFUSALS: [u16; 13] = [1040, 1044, 1045, 1049, 1142, 1146, 1203, 1227, 1290, 1792, 1836, 3032, 3118];

/// One writer's connection: the session, and the server behind it.
struct Session {
    conn: Conn,
    server: u16,
}

/// One writer: the next row, and what it knows about addresses.
struct Writer {
    shared: Arc<Shared>,
    id: u32,
    seq: u64,
    /// Index of the address in use or tried next.
    current: usize,
    /// Until when each address is left for last, in microseconds of the run.
    avoided_until_us: Vec<u64>,
}

pub(super) async fn write(shared: Arc<Shared>, id: u32) {
    let avoided_until_us = vec![0; shared.config.addresses.len()];
    let mut writer = Writer { shared, id, seq: 0, current: 0, avoided_until_us };
    let stop = writer.shared.stop.clone();
    let mut due = Instant::now();
    while !stop.is_cancelled() {
        match writer.open().await {
            Some(session) => writer.insert_until_failure(session, &mut due).await,
            None => writer.avoid_current(),
        }
        writer.advance();
        sleep(RETRY_PAUSE).await;
    }
}

impl Writer {
    async fn insert_until_failure(&mut self, mut session: Session, due: &mut Instant) {
        while !self.shared.stop.is_cancelled() {
            if let Some(pause) = Duration::from_secs(1).checked_div(self.shared.config.rate) {
                *due = (*due + pause).max(Instant::now());
                sleep_until(*due).await;
            }
            match self.insert(&mut session).await {
                Outcome::Acknowledged => {}
                Outcome::Refused(_) => return,
                Outcome::Unknown => return self.avoid_current(),
            }
        }
    }

    fn address(&self) -> Option<ServerAddr> {
        self.shared.config.addresses.get(self.current).cloned()
    }

    /// Opens a session at the current address and asks who answers there.
    async fn open(&mut self) -> Option<Session> {
        let config = &self.shared.config;
        let addr = self.address()?;
        let work = async {
            let mut conn = Conn::new(options(config, &addr)).await?;
            let names: Option<(Option<String>, String, u16)> =
                conn.query_first("SELECT @@report_host, @@hostname, @@port").await?;
            Ok((conn, names))
        };
        let (conn, names) = bounded(&addr, config.connect_timeout, work).await.ok()?;
        let (report, host, port) = names?;
        let name = format!("{}:{port}", report.filter(|name| !name.is_empty()).unwrap_or(host));
        Some(Session { conn, server: self.number_of(&name) })
    }

    fn number_of(&self, name: &str) -> u16 {
        let mut history = self.shared.lock();
        let position = history.servers.iter().position(|known| known == name).unwrap_or_else(|| {
            history.servers.push(name.to_owned());
            history.servers.len() - 1
        });
        u16::try_from(position).unwrap_or(u16::MAX)
    }

    /// Inserts the next row and remembers the outcome.
    async fn insert(&mut self, session: &mut Session) -> Outcome {
        self.seq += 1;
        let row = RowId { writer: self.id, seq: self.seq };
        let config = &self.shared.config;
        let values = format!("({}, {}, {})", config.run, row.writer, row.seq);
        let statement = format!("INSERT INTO {}.writes (run, writer, seq) VALUES {values}", config.database);
        let start_us = self.shared.now_us();
        let outcome = match timeout(config.read_timeout, session.conn.query_drop(statement)).await {
            Ok(Ok(())) => Outcome::Acknowledged,
            Ok(Err(Error::Server(error))) if REFUSALS.contains(&error.code) => Outcome::Refused(error.code),
            Ok(Err(_)) | Err(_) => Outcome::Unknown,
        };
        let end_us = self.shared.now_us();
        self.shared.record(Attempt { row, server: session.server, start_us, end_us, outcome });
        outcome
    }

    fn avoid_current(&mut self) {
        let until_us = self.shared.now_us() + AVOIDED_US + u64::from(self.id) * AVOIDED_STEP_US;
        if let Some(entry) = self.avoided_until_us.get_mut(self.current) {
            *entry = until_us;
        }
    }

    fn advance(&mut self) {
        let next = next_address(&self.avoided_until_us, self.current, self.shared.now_us());
        self.current = self.shared.stuck.lock().unwrap_or_else(PoisonError::into_inner).unwrap_or(next);
    }
}

/// The next address in turn that is not avoided now, else the one that is avoided for the shortest time.
fn next_address(avoided_until_us: &[u64], current: usize, now_us: u64) -> usize {
    let count = avoided_until_us.len().max(1);
    let in_turn = (1..=count).map(|step| (current + step) % count);
    let until_us = |index: usize| avoided_until_us.get(index).copied().unwrap_or_default();
    in_turn.min_by_key(|index| until_us(*index).max(now_us)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_tried_in_turn_and_failed_ones_last() {
        assert_eq!(next_address(&[0, 0, 0], 0, 5), 1);
        assert_eq!(next_address(&[0, 0, 0], 2, 5), 0);
        assert_eq!(next_address(&[9, 0, 0], 2, 5), 1);
        assert_eq!(next_address(&[9, 0, 0], 2, 10), 0);
        assert_eq!(next_address(&[9, 8, 7], 0, 5), 2);
        assert_eq!(next_address(&[9], 0, 5), 0);
        assert_eq!(next_address(&[], 0, 5), 0);
    }
}
