//! Records of intermediate primaries: beside those of the primary, and in nobody's way.

use super::*;
use crate::k8s::records::history::summary;

fn relocation(number: u64, lost: &str) -> Recovery {
    let mut wanted = recovery(7, "a");
    (wanted.part, wanted.record) = (Part::IntermediatePrimary, format!("shop-relocation-{number}"));
    (wanted.cause.server, wanted.old_primary) = (addr(lost), addr(lost));
    wanted.cause.analysis = "DeadIntermediatePrimary".to_owned();
    wanted
}

#[tokio::test]
async fn a_relocation_raises_no_epoch_and_holds_back_nothing() {
    let server = server();
    let mut failover = recovery(7, "a");
    failover.phase = Phase::Succeeded;
    records(&server).begin(&failover).await.unwrap();
    let mut wanted = relocation(1, "db-3:3306");
    records(&server).begin(&wanted).await.unwrap();
    assert_eq!(epoch_of(&server), 7);
    let all_records = all(&server).await;
    let found = history(&all_records, "shop", Timestamp::now());
    assert_eq!(found.past.len(), 1);
    assert_eq!((found.unfinished, found.last.map(|last| last.record)), (None, Some("shop-7".to_owned())));
    assert_eq!((found.relocating.as_deref(), found.relocations.len()), (Some("shop-relocation-1"), 1));
    assert_eq!(found.relocations[0].left, [addr("db-4:3306"), addr("db-3:3306")]);
    assert_eq!(summary(&all_records, "shop").unwrap().record, "shop-7");
    // The next leader goes on with it and closes it.
    let mut claimed = records(&server).claim("shop-relocation-1", "b", None).await.unwrap();
    assert_eq!((claimed.executor.as_str(), claimed.part), ("b", Part::IntermediatePrimary));
    assert!(matches!(records(&server).save(&wanted).await, Err(JournalError::Lost(_))), "a leads no more");
    claimed.phase = Phase::Succeeded;
    records(&server).save(&claimed).await.unwrap();
    assert_eq!(history(&all(&server).await, "shop", Timestamp::now()).relocating, None);
    // Records of one kind do not push out those of the other.
    for number in 2..4 {
        wanted = relocation(number, "db-3:3306");
        wanted.phase = Phase::Succeeded;
        records(&server).begin(&wanted).await.unwrap();
    }
    let all_records = all(&server).await;
    let surplus: Vec<_> = surplus(&all_records, "shop", 2).iter().map(|record| record.name_any()).collect();
    assert_eq!(surplus.len(), 1, "{surplus:?}");
    assert!(surplus[0].starts_with("shop-relocation-"), "{surplus:?}");
}

#[tokio::test]
async fn in_another_reign_nothing_is_relocated() {
    let server = server();
    records(&server).begin(&recovery(8, "a")).await.unwrap();
    let late = records(&server).begin(&relocation(1, "db-3:3306")).await;
    assert!(matches!(late, Err(JournalError::Lost(_))), "{late:?}");
    assert_eq!(all(&server).await.len(), 1, "nothing was written");
}

#[tokio::test]
async fn a_name_is_for_one_lost_server() {
    let server = server();
    records(&server).begin(&recovery(7, "a")).await.unwrap();
    let journal = records(&server);
    let cluster = journal.cluster().await.unwrap();
    // Its maker died before the status.
    journal.create(&cluster, "shop-relocation-1", &relocation(1, "db-3:3306")).await.unwrap();
    let other = journal.begin(&relocation(1, "db-5:3306")).await;
    assert!(matches!(other, Err(JournalError::Lost(_))), "{other:?}");
    journal.begin(&relocation(1, "db-3:3306")).await.unwrap();
}
