//! A recovery, told as it goes: `grep` for one `recovery` reads as its story.

use crate::{
    core::{
        id::{ClusterKey, ServerAddr},
        recovery::{Outcome, Part, Phase, Recovery},
    },
    telemetry::{
        event::{Event, EventType, KubernetesEvent},
        metrics::{Metrics, RecoveryOutcome, phase_name},
    },
};

/// A recovery entered a phase.
#[derive(Debug, Clone, Copy)]
pub struct RecoveryPhase<'a> {
    /// The cluster.
    pub cluster: &'a ClusterKey,
    /// Name of the record object.
    pub record: &'a str,
    /// The record, already in the new phase.
    pub recovery: &'a Recovery,
    /// The phase it left and the time it spent there in milliseconds; `None`: it just began.
    pub left: Option<(Phase, u64)>,
    /// Time since the first sign of the failure, in milliseconds.
    pub at_ms: u64,
}

impl RecoveryPhase<'_> {
    /// What a person needs to know, without a figure: it is the note of an Event too.
    fn sentence(&self) -> String {
        match self.recovery.part {
            Part::Primary if self.recovery.cause.reopens() => self.of_reopening(),
            Part::Primary => self.of_primary(),
            Part::IntermediatePrimary => self.of_intermediate(),
        }
    }

    fn of_intermediate(&self) -> String {
        let record = self.recovery;
        let (old, cause) = (&record.old_primary, &record.cause.analysis);
        let but = if record.message.is_empty() { String::new() } else { format!("; {}", record.message) };
        match (record.phase, &record.new_primary) {
            (Phase::Pending, _) => format!("the replicas of {old} are given another source: {cause} of {old}"),
            (Phase::Succeeded, Some(new)) => format!("replicas of {old} follow {new}{but}"),
            (Phase::Succeeded, None) => format!("no replica follows {old} any more{but}"),
            (Phase::Failed | Phase::Refused, _) => format!("no replica of {old} could be moved{but}"),
            _ => format!("moving the replicas of {old}"),
        }
    }

    fn of_reopening(&self) -> String {
        let Recovery { phase, old_primary: primary, message, .. } = self.recovery;
        match phase {
            Phase::Succeeded => format!("{primary} accepts writes again"),
            Phase::Failed | Phase::Refused => format!("{primary} could not be made writable: {message}"),
            _ => format!("{primary} refuses writes and nobody has more: it is made writable"),
        }
    }

    fn of_primary(&self) -> String {
        let record = self.recovery;
        let (old, cause) = (&record.old_primary, &record.cause.analysis);
        let new = record.new_primary.as_ref().map_or_else(|| "the new primary".to_owned(), ToString::to_string);
        match record.phase {
            Phase::Pending => format!("failover of {old} begins: {cause} of {}", record.cause.server),
            Phase::Fencing => format!("stopping receivers so that {old} can acknowledge nothing"),
            Phase::Choosing => format!("{old} can acknowledge nothing any more; choosing a new primary"),
            Phase::Promoting => format!("promoting {new}"),
            Phase::Writable => format!("{new} is writable"),
            Phase::Completing => format!("bringing the other servers in line with {new}"),
            Phase::Succeeded => format!("failover from {old} to {new} is complete"),
            Phase::Failed => format!("failover of {old} failed: {}", record.message),
            Phase::Refused => format!("failover of {old} refused: {}", record.message),
        }
    }
}

impl Event for RecoveryPhase<'_> {
    fn emit(&self, metrics: &Metrics) {
        let Self { cluster, record: recovery, left, at_ms, .. } = self;
        let (epoch, phase) = (self.recovery.epoch.0, self.recovery.phase);
        if let Some((phase, took_ms)) = left {
            metrics.recovery_phase(*phase, *took_ms);
        }
        if let Some(outcome) = RecoveryOutcome::of(phase) {
            metrics.recovered(cluster, outcome);
        }
        let (name, sentence) = (phase_name(phase), self.sentence());
        match phase {
            Phase::Failed | Phase::Refused => {
                tracing::error!(%cluster, epoch, recovery, phase = name, at_ms, "{cluster}: {sentence}");
            }
            _ => tracing::info!(%cluster, epoch, recovery, phase = name, at_ms, "{cluster}: {sentence}"),
        }
    }

    fn kubernetes(&self) -> Vec<KubernetesEvent> {
        let type_ = match self.recovery.phase {
            Phase::Pending | Phase::Failed | Phase::Refused => EventType::Warning,
            _ => EventType::Normal,
        };
        let action = match self.recovery.part {
            Part::Primary if self.recovery.cause.reopens() => "Reopening",
            Part::Primary => "Failover",
            Part::IntermediatePrimary => "Relocation",
        };
        let reason = format!("{action}{}", phase_name(self.recovery.phase));
        vec![KubernetesEvent::new(type_, &reason, action, &self.sentence())]
    }
}

/// A recovery did something to a server.
#[derive(Debug, Clone, Copy)]
pub struct StepTaken<'a> {
    /// The cluster.
    pub cluster: &'a ClusterKey,
    /// Name of the record object.
    pub record: &'a str,
    /// Number of the reign it begins.
    pub epoch: u64,
    /// What was done: an action's name.
    pub step: &'a str,
    /// On which server.
    pub server: &'a ServerAddr,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// How it ended.
    pub outcome: &'a Outcome,
}

impl Event for StepTaken<'_> {
    fn emit(&self, metrics: &Metrics) {
        let Self { cluster, record: recovery, epoch, step, server, took_ms, .. } = self;
        metrics.recovery_step(step, *took_ms);
        match self.outcome {
            Outcome::Done => {
                tracing::info!(%cluster, epoch, recovery, step, %server, took_ms, "{cluster}: {step} on {server} done in {took_ms} ms");
            }
            Outcome::Failed(error) => {
                tracing::warn!(%cluster, epoch, recovery, step, %server, took_ms, error, "{cluster}: {step} on {server} failed: {error}");
            }
        }
    }
}

/// The operator goes on with a recovery that it had left to a Job.
#[derive(Debug, Clone, Copy)]
pub struct TakenBack<'a> {
    /// The cluster.
    pub cluster: &'a ClusterKey,
    /// Name of the record object.
    pub record: &'a str,
    /// Number of the reign it begins.
    pub epoch: u64,
    /// What became of the Job, as a sentence.
    pub reason: &'a str,
}

impl Event for TakenBack<'_> {
    fn emit(&self, _: &Metrics) {
        let Self { cluster, record: recovery, epoch, reason } = self;
        tracing::warn!(%cluster, epoch, recovery, "{cluster}: the operator goes on with {recovery} by itself: {reason}");
    }

    fn kubernetes(&self) -> Vec<KubernetesEvent> {
        let note = format!("the operator goes on by itself: {}", self.reason);
        vec![KubernetesEvent::new(EventType::Warning, "JobReplaced", "Failover", &note)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{telemetry::logging::tests::Lines, testing::record};

    fn recovery(phase: Phase) -> Recovery {
        Recovery {
            record: "shop-5".to_owned(),
            phase,
            new_primary: Some("db-2:3306".parse().unwrap()),
            message: "no candidate".to_owned(),
            ..record::recovery(5, "baton-0", &"db-1:3306".parse().unwrap())
        }
    }

    #[test]
    fn a_recovery_reads_as_a_story_and_its_phases_are_measured() {
        let metrics = Metrics::new("1").unwrap();
        let cluster = ClusterKey { namespace: "prod".to_owned(), name: "shop".to_owned() };
        let story = [
            (Phase::Pending, None, 90),
            (Phase::Fencing, Some((Phase::Pending, 20)), 110),
            (Phase::Writable, Some((Phase::Promoting, 60)), 400),
            (Phase::Succeeded, Some((Phase::Completing, 2000)), 2500),
        ];
        let lines = Lines::of("info", |_| {
            for (phase, left, at_ms) in story {
                let recovery = recovery(phase);
                RecoveryPhase { cluster: &cluster, record: "shop-5", recovery: &recovery, left, at_ms }.emit(&metrics);
            }
        });
        let messages: Vec<_> = lines.iter().map(|line| line["message"].as_str().unwrap()).collect();
        assert_eq!(
            messages,
            [
                "prod/shop: failover of db-1:3306 begins: DeadPrimary of db-1:3306",
                "prod/shop: stopping receivers so that db-1:3306 can acknowledge nothing",
                "prod/shop: db-2:3306 is writable",
                "prod/shop: failover from db-1:3306 to db-2:3306 is complete",
            ]
        );
        assert!(lines.iter().all(|line| line["recovery"] == "shop-5" && line["epoch"] == 5));
        let text = metrics.text().unwrap();
        assert!(text.contains(r#"baton_recovery_phase_seconds_sum{phase="Promoting"} 0.06"#), "{text}");
        assert!(text.contains(r#"baton_recoveries_total{cluster="prod/shop",outcome="succeeded"} 1"#), "{text}");
    }

    #[test]
    fn each_phase_is_an_event_of_its_own_and_failures_warn() {
        let cluster = ClusterKey { namespace: "prod".to_owned(), name: "shop".to_owned() };
        let published = |phase| {
            let recovery = recovery(phase);
            let event =
                RecoveryPhase { cluster: &cluster, record: "shop-5", recovery: &recovery, left: None, at_ms: 1 };
            event.kubernetes().remove(0)
        };
        let failed = published(Phase::Failed);
        assert_eq!((failed.type_, failed.reason.as_str()), (EventType::Warning, "FailoverFailed"));
        assert_eq!(failed.note, "failover of db-1:3306 failed: no candidate");
        assert_eq!(published(Phase::Writable).type_, EventType::Normal);
    }

    #[test]
    fn an_intermediate_primary_has_words_of_its_own() {
        let cluster = ClusterKey { namespace: "prod".to_owned(), name: "shop".to_owned() };
        let mut recovery = recovery(Phase::Succeeded);
        (recovery.part, recovery.message) =
            (Part::IntermediatePrimary, "not moved: db-4:3306 (it does not answer)".to_owned());
        let record = "shop-relocation-1";
        let event = RecoveryPhase { cluster: &cluster, record, recovery: &recovery, left: None, at_ms: 1 };
        let event = event.kubernetes().remove(0);
        assert_eq!(event.reason, "RelocationSucceeded");
        assert_eq!(event.note, "replicas of db-1:3306 follow db-2:3306; not moved: db-4:3306 (it does not answer)");
    }

    #[test]
    fn a_failed_step_says_why() {
        let metrics = Metrics::new("1").unwrap();
        let cluster = ClusterKey { namespace: "prod".to_owned(), name: "shop".to_owned() };
        let server = "db-2:3306".parse().unwrap();
        let outcome = Outcome::Failed("no answer within 200 ms".to_owned());
        let step = StepTaken {
            cluster: &cluster,
            record: "shop-5",
            epoch: 5,
            step: "StopReceiver",
            server: &server,
            took_ms: 200,
            outcome: &outcome,
        };
        let lines = Lines::of("info", |_| step.emit(&metrics));
        assert_eq!(lines[0]["message"], "prod/shop: StopReceiver on db-2:3306 failed: no answer within 200 ms");
        assert!(metrics.text().unwrap().contains(r#"baton_recovery_step_seconds_count{step="StopReceiver"} 1"#));
    }
}
