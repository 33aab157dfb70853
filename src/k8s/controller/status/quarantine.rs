//! How servers in quarantine are shown.

use super::{Exported, Progress, Shown};
use crate::{
    api::mysql_cluster::{AcknowledgedStatus, ExportState, ExportStatus, ExtraStatus, QuarantineStatus},
    core::{
        gtid::GtidSet,
        id::ServerAddr,
        status::{Acknowledged, ClusterView, Quarantined},
    },
    k8s::records::rebuild::stays,
};

/// Servers shown.
const SERVERS_MAX: usize = 16;
/// Longest set shown, in bytes.
const SET_MAX: usize = 4096;

/// All of them. What was once possible stays so: whoever leads now may not have seen why.
/// `rebuilt`: the failover whose old primary was overwritten; what it has alone now is not from before.
pub(super) fn render(
    shown: &Shown,
    view: &ClusterView,
    previous: &[QuarantineStatus],
    rebuilt: Option<&str>,
) -> Vec<QuarantineStatus> {
    let render = |one: &Quarantined| {
        let address = one.server.to_string();
        let doubted = previous.iter().find(|old| {
            old.address == address && old.record == one.record && old.acknowledged == AcknowledgedStatus::Possible
        });
        let known = |old: &QuarantineStatus| old.address == address && old.record == one.record;
        let anew = rebuilt.is_some() && rebuilt == one.record.as_deref() && !previous.iter().any(known);
        let grown = one.record.is_some() && previous.iter().any(|old| old.address == address && grew(old, one));
        let (acknowledged, reason) = match (one.acknowledged, doubted) {
            (Acknowledged::Impossible, None) if grown || anew => (AcknowledgedStatus::Possible, GREW.to_owned()),
            (Acknowledged::Impossible, None) => (AcknowledgedStatus::Impossible, one.reason.clone()),
            (Acknowledged::Impossible, Some(old)) => (AcknowledgedStatus::Possible, old.reason.clone()),
            (Acknowledged::Possible, _) => (AcknowledgedStatus::Possible, one.reason.clone()),
        };
        QuarantineStatus {
            address,
            record: one.record.clone(),
            extra: one.extra.as_ref().map(extra),
            acknowledged,
            reason,
            export: shown.exports.get(&one.server).map(export),
            rebuild: previous
                .iter()
                .find(|old| old.address == one.server.to_string() && (old.record == one.record || stays(old)))
                .and_then(|old| old.rebuild.clone()),
            instructions: shown.instructions.get(&one.server).cloned().unwrap_or_default(),
        }
    };
    let found = view.quarantined.iter().map(render);
    // Whoever leads now has not seen everything that was seen before.
    let unknown = |old: &&QuarantineStatus| {
        let addr = old.address.parse::<ServerAddr>();
        addr.is_ok_and(|addr| view.unjudged.contains(&addr) && view.quarantined.iter().all(|one| one.server != addr))
    };
    // What is being done to a server is written down until it is known how it ended.
    let rebuilding = |old: &&QuarantineStatus| {
        stays(old) && view.quarantined.iter().all(|one| one.server.to_string() != old.address)
    };
    let kept = previous.iter().filter(|old| rebuilding(old) || unknown(old)).cloned();
    let mut all: Vec<_> = found.chain(kept).collect();
    all.sort_by_key(|entry| !stays(entry));
    all.truncate(SERVERS_MAX);
    all
}

const GREW: &str = "it has transactions that it did not have when it was first looked at after it was replaced: clients \
                    may have been told that they are committed";

/// Whether an old primary has got transactions since it was looked at before.
fn grew(old: &QuarantineStatus, now: &Quarantined) -> bool {
    let before = old.extra.as_ref().and_then(|extra| extra.set.as_ref()).and_then(|set| set.parse::<GtidSet>().ok());
    let grew = before.zip(now.extra.as_ref()).is_some_and(|(before, now)| !before.contains(now));
    grew && old.record == now.record
}

fn export(one: &Exported) -> ExportStatus {
    let (state, message) = match &one.progress {
        Progress::Pending => (ExportState::Pending, None),
        Progress::Running => (ExportState::Running, None),
        Progress::Succeeded => (ExportState::Succeeded, None),
        Progress::Failed(reason) => (ExportState::Failed, Some(reason.clone())),
    };
    ExportStatus { state, job: one.job.clone(), place: one.place.clone(), message }
}

fn extra(set: &GtidSet) -> ExtraStatus {
    let text = set.to_string();
    ExtraStatus { count: i64::try_from(set.count()).unwrap_or(i64::MAX), set: (text.len() <= SET_MAX).then_some(text) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::k8s::controller::status::tests::{shown as everything, view};

    fn render(shown: &Shown, view: &ClusterView, previous: &[QuarantineStatus]) -> Vec<QuarantineStatus> {
        super::render(shown, view, previous, None)
    }

    fn with(quarantined: Vec<Quarantined>) -> ClusterView {
        ClusterView { quarantined, ..view() }
    }

    fn one(acknowledged: Acknowledged, set: &str) -> Quarantined {
        Quarantined {
            server: "db-1:3306".parse().unwrap(),
            version: "9.7.4".parse().unwrap(),
            record: Some("shop-7".to_owned()),
            extra: Some(set.parse().unwrap()),
            acknowledged,
            reason: format!("{acknowledged:?}"),
        }
    }

    #[test]
    fn doubt_outlives_whoever_saw_the_reason() {
        const SET: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562:101-103";
        let shown = |acknowledged, previous: &[QuarantineStatus]| {
            render(&everything(), &with(vec![one(acknowledged, SET)]), previous).remove(0)
        };
        let sure = shown(Acknowledged::Impossible, &[]);
        assert_eq!(sure.extra.clone().map(|extra| (extra.count, extra.set)), Some((3, Some(SET.to_owned()))));
        let doubted = shown(Acknowledged::Possible, &[sure]);
        assert_eq!((doubted.acknowledged, doubted.reason.as_str()), (AcknowledgedStatus::Possible, "Possible"));
        assert_eq!(shown(Acknowledged::Impossible, std::slice::from_ref(&doubted)), doubted);
        const MORE: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562:101-104";
        let mut growing = vec![one(Acknowledged::Impossible, SET)];
        let first = render(&everything(), &with(growing.clone()), &[]);
        growing[0].extra = Some("3e11fa47-71ca-11e1-9e33-c80aa9429562:102".parse().unwrap());
        let fewer = render(&everything(), &with(growing.clone()), &first);
        assert_eq!(fewer[0].acknowledged, AcknowledgedStatus::Impossible, "the primary got some");
        growing[0].extra = Some(MORE.parse().unwrap());
        let more = render(&everything(), &with(growing.clone()), &first);
        assert_eq!((more[0].acknowledged, more[0].reason.as_str()), (AcknowledgedStatus::Possible, GREW));
        assert_eq!(render(&everything(), &with(growing), &more)[0].reason, GREW, "and it stays");
        let found = with(vec![one(Acknowledged::Impossible, SET)]);
        let again = super::render(&everything(), &found, &[], Some("shop-7")).remove(0);
        assert_eq!(again.acknowledged, AcknowledgedStatus::Possible, "it was overwritten since");
        assert_eq!(super::render(&everything(), &found, &first, Some("shop-7")), first, "it is about to be");
        assert_eq!(super::render(&everything(), &found, &[], Some("shop-6")), first);
        let other = QuarantineStatus { record: Some("shop-8".to_owned()), ..doubted };
        assert_eq!(shown(Acknowledged::Impossible, &[other]).acknowledged, AcknowledgedStatus::Impossible);
    }

    #[test]
    fn what_is_saved_is_shown_with_its_place() {
        let mut shown = everything();
        let exported = |progress| Exported { job: "j".to_owned(), place: "claim/f.binlog".to_owned(), progress };
        let mut state = |progress| {
            shown.exports.insert("db-1:3306".parse().unwrap(), exported(progress));
            let one = one(Acknowledged::Possible, "3e11fa47-71ca-11e1-9e33-c80aa9429562:1");
            render(&shown, &with(vec![one]), &[]).remove(0).export.map(|export| (export.state, export.message))
        };
        assert_eq!(state(Progress::Succeeded), Some((ExportState::Succeeded, None)));
        let failed = Progress::Failed("why".to_owned());
        assert_eq!(state(failed), Some((ExportState::Failed, Some("why".to_owned()))));
    }

    #[test]
    fn what_is_not_known_yet_stays_as_it_was() {
        let one = one(Acknowledged::Possible, "3e11fa47-71ca-11e1-9e33-c80aa9429562:1");
        let addr = one.server.clone();
        let before = render(&everything(), &with(vec![one]), &[]);
        let mut view = with(Vec::new());
        view.unjudged.insert(addr);
        assert_eq!(render(&everything(), &view, &before), before);
        assert_eq!(render(&everything(), &with(Vec::new()), &before), Vec::new(), "it is known: all is well again");
    }

    #[test]
    fn what_is_written_about_rebuilding_stays_and_until_it_ended_its_entry_too() {
        use crate::api::mysql_cluster::{RebuildState, RebuildStatus};
        let found = || with(vec![one(Acknowledged::Impossible, "3e11fa47-71ca-11e1-9e33-c80aa9429562:1")]);
        let began = |state, began| {
            let mut entry = render(&everything(), &found(), &[]).remove(0);
            let began = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH))
                .filter(|_| began);
            entry.rebuild =
                Some(RebuildStatus { state, donor: None, server_uuid: None, extra: None, began, message: None });
            entry
        };
        for (state, begun, stays) in [
            (RebuildState::Waiting, false, false),
            (RebuildState::Failed, false, false),
            (RebuildState::Running, true, true),
            (RebuildState::Failed, true, true),
        ] {
            let before = [began(state, begun)];
            assert_eq!(render(&everything(), &found(), &before), before, "{state:?}");
            let gone = render(&everything(), &with(Vec::new()), &before);
            assert_eq!(gone.len(), usize::from(stays), "{state:?}: a server whose data is gone has nothing of its own");
        }
        let many = |server: u16| Quarantined {
            server: format!("db-{server}:3306").parse().unwrap(),
            ..found().quarantined[0].clone()
        };
        let view = with((10..40).map(many).collect());
        let before = [began(RebuildState::Running, true)];
        assert!(render(&everything(), &view, &before).contains(&before[0]), "however many others there are");
    }

    #[test]
    fn what_is_shown_is_bounded() {
        let runs: String = (1..9000).map(|number| format!(":{}", number * 2)).collect();
        let long = one(Acknowledged::Possible, &format!("3e11fa47-71ca-11e1-9e33-c80aa9429562{runs}"));
        let shown = render(&everything(), &with(vec![long; 100]), &[]);
        assert_eq!(shown.len(), SERVERS_MAX);
        assert_eq!(shown[0].extra, Some(ExtraStatus { count: 8999, set: None }));
    }
}
