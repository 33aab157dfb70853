//! The process' clocks: one that only goes forward for decisions, the calendar for people.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use super::ports::Clock;
use crate::core::time::Mono;

/// Counts on while the machine sleeps: a process must not take the time before a suspend for the present.
/// (`std::time::Instant` stops then.) A machine whose whole hypervisor is halted cannot notice by any clock.
#[cfg(target_os = "linux")]
const FORWARD: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const FORWARD: ClockId = ClockId::Monotonic;

/// What the clock shows at first, in milliseconds: what began before this process has a time, too.
const FIRST_MS: u64 = 86_400_000;

/// The machine's clocks; [`Mono`] is the time since a day before this value was made.
#[derive(Debug, Clone)]
pub struct SystemClock {
    started: Duration,
}

impl SystemClock {
    /// One per process: times of different clocks do not compare.
    #[must_use]
    pub fn start() -> Self {
        Self { started: forward() }
    }
}

fn forward() -> Duration {
    Duration::try_from(clock_gettime(FORWARD)).unwrap_or_default()
}

fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Clock for SystemClock {
    fn now(&self) -> Mono {
        Mono(whole_ms(forward().saturating_sub(self.started)).saturating_add(FIRST_MS))
    }

    fn wall_ms(&self) -> u64 {
        whole_ms(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
    }

    async fn sleep_ms(&self, ms: u64) {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn time_passes_while_sleeping_and_while_blocked() {
        let clock = SystemClock::start();
        let before = clock.now();
        clock.sleep_ms(20).await;
        std::thread::sleep(Duration::from_millis(20));
        let passed_ms = clock.now().since_ms(before);
        assert!((39..5_000).contains(&passed_ms), "{passed_ms}");
    }

    #[test]
    fn the_wall_shows_this_century() {
        assert!(SystemClock::start().wall_ms() > 1_700_000_000_000);
    }
}
