//! Whether what happened explains itself: why clients cannot write, within seconds (I6), and why what was done or left
//! undone was (I11).

use std::time::Duration;

use anyhow::ensure;
use baton::testing::history::History;
use serde_json::Value;
use tokio::time::Instant;

use super::stage::Stage;

/// How late a machine that is busy says why clients cannot write.
const LATE: Duration = Duration::from_secs(1);

impl Stage {
    /// Sees that pauses of writes since the fault are explained within `told_s`, and conditions and records at all.
    pub async fn explained(&self, history: &History, told_s: Option<u64>) -> anyhow::Result<()> {
        let at = |us: u64| self.since.1 + Duration::from_micros(us.saturating_sub(self.since.0));
        let pauses = if told_s.is_some() { history.pauses(self.since.0) } else { Vec::new() };
        let (bound, told) = (Duration::from_secs(told_s.unwrap_or_default()), self.told());
        for (start, end) in pauses.into_iter().map(|(start_us, end_us)| (at(start_us), at(end_us))) {
            let paused_ms = (end - start).as_millis();
            ensure!(
                in_time(start, end, bound, &told),
                "nobody could write for {paused_ms} ms, and Ready does not say why"
            );
        }
        let status = self.status().await?;
        for condition in status["conditions"].as_array().into_iter().flatten() {
            ensure!(explains(condition), "a condition without a reason: {condition}");
        }
        for record in self.objects().await? {
            let missing = unexplained(&record);
            ensure!(missing.is_empty(), "a record that does not explain itself: {}: {record}", missing.join(", "));
        }
        Ok(())
    }

    /// Since when it is said that clients cannot write, or that something is wrong, and since when it is not.
    fn told(&self) -> Vec<(Instant, bool)> {
        let told = self.written().into_iter().filter(|one| one.call.resource == "mysqlclusters").filter_map(|one| {
            let ready =
                one.body["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == "Ready")?;
            Some((one.at, (ready["status"] != "True" || ready["reason"] == "Degraded") && says(&ready["message"])))
        });
        told.collect()
    }
}

/// Whether a pause is short, or was explained in time; `told`: since when it is, or is not.
fn in_time(start: Instant, end: Instant, bound: Duration, told: &[(Instant, bool)]) -> bool {
    let until = start + bound + LATE;
    let before = told.iter().rfind(|(at, _)| *at <= start).is_some_and(|(_, told)| *told);
    end <= until || before || told.iter().any(|(at, told)| *told && *at >= start && *at <= until)
}

fn says(text: &Value) -> bool {
    text.as_str().is_some_and(|text| !text.trim().is_empty())
}

/// Whether a condition has a reason, and a message unless all is well.
fn explains(condition: &Value) -> bool {
    let well = if condition["type"] == "Reconciling" || condition["type"] == "Stalled" { "False" } else { "True" };
    says(&condition["reason"]) && (condition["status"] == well || says(&condition["message"]))
}

/// What a record lacks: what caused it, what was seen, why each server was chosen or not, why it ended so.
fn unexplained(record: &Value) -> Vec<&'static str> {
    let (cause, status) = (&record["spec"]["cause"], &record["status"]);
    let all =
        |list: &str, field: &str| status[list].as_array().is_none_or(|list| list.iter().all(|one| says(&one[field])));
    let phase = |phase: &str| status["phase"] == phase;
    let forced = cause["analysis"] == "Forced";
    let seen = status["evidence"].as_array().is_some_and(|seen| !seen.is_empty()) && all("evidence", "saw");
    let chosen = || {
        let chosen = |one: &&Value| one["verdict"] == "Chosen";
        let chosen: Vec<_> = status["candidates"].as_array().into_iter().flatten().filter(chosen).collect();
        chosen.len() == 1 && chosen[0]["server"] == status["newPrimary"]
    };
    let reopened = status["newPrimary"] == status["oldPrimary"] || status["newPrimary"].is_null();
    let failed = status["steps"].as_array().into_iter().flatten().filter(|step| step["outcome"] == "Failed");
    [
        (says(&cause["analysis"]), "the cause"),
        (if forced { says(&cause["reason"]) } else { seen }, "what was seen"),
        (all("candidates", "reason"), "why a server was chosen or not"),
        (!phase("Succeeded") || reopened || chosen(), "who was chosen"),
        (!(phase("Failed") || phase("Refused")) || says(&status["message"]), "why it ended so"),
        (failed.into_iter().all(|step| says(&step["reason"])), "why a step failed"),
    ]
    .into_iter()
    .filter_map(|(holds, what)| (!holds).then_some(what))
    .collect()
}

mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_long_pause_is_explained_in_time() {
        let now = Instant::now();
        let after = |ms: u64| now + Duration::from_millis(ms);
        let in_time = |start, end, told: &[_]| in_time(start, end, Duration::from_secs(5), told);
        assert!(in_time(now, after(5900), &[]), "it is short");
        assert!(!in_time(now, after(9000), &[(after(7000), true)]), "it is said too late");
        assert!(in_time(now, after(9000), &[(after(4000), true), (after(4100), false)]));
        assert!(in_time(after(100), after(9000), &[(now, true)]), "it is said already");
        assert!(!in_time(after(100), after(9000), &[(now, true), (after(50), false)]));
    }

    #[test]
    fn a_condition_has_a_reason_and_a_message_when_it_is_bad() {
        assert!(explains(&json!({ "status": "True", "reason": "Healthy", "message": "" })));
        assert!(!explains(&json!({ "status": "False", "reason": "Blocked", "message": " " })));
        assert!(!explains(&json!({ "status": "True", "reason": "" })));
        let stalled = |status: &str| json!({ "type": "Stalled", "status": status, "reason": "Idle", "message": "" });
        assert!(explains(&stalled("False")) && !explains(&stalled("True")));
    }

    #[test]
    fn a_record_says_why() {
        let record = json!({
            "spec": { "cause": { "analysis": "DeadPrimary", "server": "a:1" } },
            "status": {
                "phase": "Succeeded", "oldPrimary": "a:1", "newPrimary": "b:1",
                "evidence": [{ "server": "b:1", "saw": "it lost its source" }],
                "candidates": [{ "server": "b:1", "verdict": "Chosen", "reason": "it has the most" }],
                "steps": [{ "step": "Claim", "outcome": "Done" }],
            },
        });
        assert!(unexplained(&record).is_empty());
        for (place, value, lacks) in [
            ("/spec/cause/analysis", json!(""), "the cause"),
            ("/status/evidence", json!([]), "what was seen"),
            ("/status/candidates/0/reason", json!(""), "why a server was chosen or not"),
            ("/status/candidates/0/verdict", json!("Eligible"), "who was chosen"),
            ("/status/phase", json!("Refused"), "why it ended so"),
            ("/status/steps/0/outcome", json!("Failed"), "why a step failed"),
        ] {
            let mut record = record.clone();
            *record.pointer_mut(place).unwrap() = value;
            assert_eq!(unexplained(&record), [lacks]);
        }
        let mut forced = record;
        forced["spec"]["cause"] = json!({ "analysis": "Forced", "reason": "maintenance" });
        forced["status"]["evidence"] = json!([]);
        assert!(unexplained(&forced).is_empty());
    }
}
