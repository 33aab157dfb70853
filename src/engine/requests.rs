//! Failovers that people ask for, as last read, apart from what was done about them meanwhile.

use crate::core::{
    recovery::{Phase, Recovery},
    request::Request,
    time::Mono,
};

/// Pause after an answer that could not be written, in milliseconds.
const RETRY_MS: u64 = 1000;

/// Requests as last read, apart from what was done about them meanwhile.
#[derive(Debug, Default)]
pub(super) struct Requests {
    open: Vec<Open>,
    not_before: Mono,
}

#[derive(Debug)]
struct Open {
    request: Request,
    since: Mono,
    /// It is being answered, or was, and the records that were read do not show it yet.
    taken: bool,
}

impl Requests {
    /// Takes what was read at `now`.
    pub(super) fn read(&mut self, read: Vec<Request>, now: Mono) {
        let mut known = std::mem::take(&mut self.open);
        for request in read {
            let old = known.iter().position(|open| open.request.uid == request.uid);
            let old = old.map(|index| known.swap_remove(index));
            self.open.push(old.unwrap_or(Open { request, since: now, taken: false }));
        }
    }

    /// The oldest that nobody has taken, and for how many milliseconds it has been open.
    pub(super) fn first(&self, now: Mono) -> Option<(&Request, u64)> {
        let open = self.open.iter().find(|open| !open.taken && now >= self.not_before)?;
        Some((&open.request, now.since_ms(open.since)))
    }

    /// Takes the oldest.
    pub(super) fn take(&mut self, now: Mono) -> Option<Request> {
        let not_before = self.not_before;
        let open = self.open.iter_mut().find(|open| !open.taken && now >= not_before)?;
        open.taken = true;
        Some(open.request.clone())
    }

    /// Nothing came of answering `record`: again, after a pause.
    pub(super) fn again(&mut self, record: &str, now: Mono) {
        for open in self.open.iter_mut().filter(|open| open.request.record == record) {
            open.taken = false;
        }
        self.not_before = now.plus_ms(RETRY_MS);
    }

    /// A recovery that was begun for a request ended; `Pending`: it was not begun at all.
    pub(super) fn ended(&mut self, record: &Recovery, now: Mono) {
        if record.cause.is_forced() && record.phase == Phase::Pending {
            self.again(&record.record, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(record: &str, uid: &str) -> Request {
        Request {
            record: record.to_owned(),
            uid: uid.to_owned(),
            server: None,
            candidate: None,
            reason: "a drill".to_owned(),
            problem: None,
        }
    }

    fn first(requests: &Requests, now: u64) -> Option<(String, u64)> {
        requests.first(Mono(now)).map(|(request, open_ms)| (request.record.clone(), open_ms))
    }

    #[test]
    fn what_was_taken_is_not_taken_again_from_a_late_read() {
        let mut requests = Requests::default();
        requests.read(vec![request("a", "1"), request("b", "2")], Mono(10));
        assert_eq!(first(&requests, 15), Some(("a".to_owned(), 5)));
        assert_eq!(requests.take(Mono(15)).map(|request| request.uid), Some("1".to_owned()));
        requests.read(vec![request("a", "1"), request("b", "2")], Mono(20));
        assert_eq!(first(&requests, 30), Some(("b".to_owned(), 20)));
        requests.read(vec![request("a", "3")], Mono(40));
        assert_eq!(first(&requests, 40), Some(("a".to_owned(), 0)), "another object of the same name");
    }

    #[test]
    fn what_could_not_be_answered_comes_again_after_a_pause() {
        let mut requests = Requests::default();
        requests.read(vec![request("a", "1")], Mono(0));
        requests.take(Mono(0));
        requests.again("a", Mono(100));
        assert_eq!(first(&requests, 100), None);
        assert_eq!(first(&requests, 100 + RETRY_MS), Some(("a".to_owned(), 100 + RETRY_MS)));
    }
}
