//! How transactions travel: receivers that connect, receive, fall silent; acknowledgements; appliers.

use baton::core::{gtid::GtidSet, observation::Receiver};

use super::{
    fleet::{CONNECT_RETRY_MS, Event, Fleet, NET_TIMEOUT_MS},
    server::{Channel, Power},
};

/// Error of a receiver that cannot connect.
const NO_CONNECTION: u32 = 2003;
/// Error of a receiver whose source refuses its clients.
const OFFLINE: u32 = 3032;

impl Fleet {
    fn channel(&mut self, index: usize) -> Option<&mut Channel> {
        self.servers[index].channel.as_mut()
    }

    /// What a server has is on its way to its replicas.
    pub fn spread(&mut self, source: usize) {
        self.replicas_of(source).into_iter().for_each(|replica| self.hear(replica));
    }

    /// What its source has is on its way to a replica.
    pub fn hear(&mut self, replica: usize) {
        let delay_ms = self.random.between(1, 3);
        let live = self.live(replica);
        if let Some(channel) = self.channel(replica).filter(|channel| live && !channel.delivering) {
            channel.delivering = true;
            self.after(delay_ms, Event::Deliver(replica));
        }
    }

    pub fn deliver(&mut self, replica: usize) {
        let live = self.live(replica);
        let Some(channel) = self.channel(replica) else { return };
        channel.delivering = false;
        if !live {
            return;
        }
        let (source, acks) = (channel.source, channel.acks);
        let log = self.servers[source].log();
        let executed = self.servers[replica].executed.clone();
        let Some(channel) = self.channel(replica) else { return };
        let new = log.subtract(&executed).subtract(&channel.received);
        if !new.is_empty() {
            channel.received = channel.received.union(&new);
            channel.position += 1;
        }
        let have = channel.received.union(&executed);
        // Kinder than a real one, which never acknowledges what it had before it connected: the next commit does.
        if acks && self.servers[source].waiting.iter().any(|commit| !commit.acked_by.contains(&replica)) {
            let delay_ms = self.random.between(1, 3);
            self.after(delay_ms, Event::Ack { from: replica, to: source, set: have });
        }
        self.apply_soon(replica);
    }

    /// An acknowledgement arrives, however the receiver that sent it is by now.
    pub fn acknowledge(&mut self, from: usize, to: usize, set: GtidSet) {
        if !self.arrives(from, to) {
            return;
        }
        match self.servers[to].power {
            Power::Dead => {}
            // It is read when the process runs again.
            Power::Frozen => self.after(5, Event::Ack { from, to, set }),
            Power::Running => {
                for commit in self.servers[to].waiting.iter_mut().filter(|commit| set.contains(&commit.set)) {
                    commit.acked_by.insert(from);
                }
                self.release(to);
                // What was committed is there for replicas that are replicas of replicas, too.
                self.spread(to);
            }
        }
    }

    pub fn apply_soon(&mut self, replica: usize) {
        let server = &self.servers[replica];
        let lag_ms = server.lag_ms;
        let Some(channel) = server.channel.as_ref().filter(|channel| channel.applier && !channel.applying) else {
            return;
        };
        if !server.runs() || server.executed.contains(&channel.received) {
            return;
        }
        let set = channel.received.clone();
        let delay_ms = lag_ms + self.random.between(0, 3);
        if let Some(channel) = self.channel(replica) {
            channel.applying = true;
            self.after(delay_ms, Event::Apply(replica, set));
        }
    }

    pub fn apply(&mut self, replica: usize, set: &GtidSet) {
        let stalled = self.stalls(replica);
        let server = &mut self.servers[replica];
        let Some(channel) = &mut server.channel else { return };
        channel.applying = false;
        // What is not in the relay log any more was thrown away with it.
        let set = set.subtract(&set.subtract(&channel.received));
        if server.power != Power::Running || !channel.applier || stalled {
            return;
        }
        if server.poisoned {
            (channel.applier, channel.applier_error) = (false, true);
            return;
        }
        server.executed = server.executed.union(&set);
        self.apply_soon(replica);
        self.spread(replica);
    }

    /// The source side of semi-sync on a replica stalls its applier when nobody acknowledges there (M10).
    pub fn stalls(&self, replica: usize) -> bool {
        self.ackers(replica).len() < self.servers[replica].waits_for()
    }

    pub fn start_applier(&mut self, replica: usize) {
        if let Some(channel) = self.channel(replica) {
            (channel.applier, channel.applier_error) = (true, false);
            self.apply_soon(replica);
        }
    }

    /// A receiver begins to connect, unless it runs.
    pub fn start_receiver(&mut self, replica: usize) {
        self.servers[replica].idle = false;
        if let Some(channel) = self.channel(replica).filter(|channel| channel.receiver == Receiver::Stopped) {
            channel.receiver = Receiver::Connecting;
            channel.generation += 1;
            channel.attempts = 0;
            let generation = channel.generation;
            self.after(1, Event::Connect(replica, generation));
        }
    }

    pub fn stop_receiver(&mut self, replica: usize) {
        if let Some(channel) = self.channel(replica) {
            channel.receiver = Receiver::Stopped;
            channel.generation += 1;
            channel.receiver_error = None;
        }
        self.settle();
    }

    pub fn connect(&mut self, replica: usize, generation: u64) {
        let acks = self.servers[replica].replica_side;
        let runs = self.servers[replica].power;
        let Some(channel) = self.channel(replica) else { return };
        if channel.generation != generation || channel.receiver != Receiver::Connecting {
            return;
        }
        let source = channel.source;
        if runs != Power::Running {
            self.after(CONNECT_RETRY_MS, Event::Connect(replica, generation));
            return;
        }
        let there = self.servers[source].runs() && self.arrives(source, replica) && self.arrives(replica, source);
        let offline = self.servers[source].offline;
        let Some(channel) = self.channel(replica) else { return };
        if there && !offline {
            (channel.receiver, channel.met, channel.acks) = (Receiver::Running, true, acks);
            (channel.receiver_error, channel.beats) = (None, channel.beats + 1);
            channel.generation += 1;
            self.settle();
            self.hear(replica);
        } else {
            channel.attempts += 1;
            let code = if there { OFFLINE } else { NO_CONNECTION };
            channel.receiver_error = Some((code, channel.attempts));
            self.after(CONNECT_RETRY_MS, Event::Connect(replica, generation));
        }
    }

    /// A receiver lost its connection and says so.
    pub fn disconnect(&mut self, replica: usize) {
        if let Some(channel) = self.channel(replica).filter(|channel| channel.receiver == Receiver::Running) {
            channel.receiver = Receiver::Connecting;
            channel.generation += 1;
            channel.attempts = 0;
            let generation = channel.generation;
            self.after(1, Event::Connect(replica, generation));
        }
    }

    pub fn fall_silent(&mut self, replica: usize, generation: u64) {
        let now = self.now;
        let quiet = self.channel(replica).is_some_and(|channel| {
            let quiet = channel.live_since.is_none() && now >= channel.quiet_since + NET_TIMEOUT_MS;
            quiet && channel.generation == generation
        });
        if quiet && self.servers[replica].runs() {
            self.disconnect(replica);
        }
    }

    /// Works out anew who hears whom, after anything that may have changed it.
    pub fn settle(&mut self) {
        for replica in 0..self.servers.len() {
            let (live, now, heartbeat_ms) = (self.live(replica), self.now, self.heartbeat_ms);
            let runs = self.servers[replica].runs();
            let Some(channel) = self.channel(replica) else { continue };
            let (source, generation) = (channel.source, channel.generation);
            match (channel.live_since, live) {
                (None, true) => channel.live_since = Some(now),
                (Some(since), false) => {
                    channel.beats += (now - since) / heartbeat_ms;
                    channel.live_since = None;
                    channel.quiet_since = now;
                    self.after(NET_TIMEOUT_MS, Event::Silence(replica, generation));
                }
                _ => {}
            }
            let reset = self.servers[source].power == Power::Dead && self.arrives(source, replica);
            if reset && runs {
                self.disconnect(replica);
            }
        }
    }
}
