//! The machine's behaviour as conversations: one line is a time in milliseconds, what happened, what the
//! machine wants next and until when it leads.
//!
//! A Lease reads `holder version duration transitions`, `-` is missing or empty.

use super::*;

const ME: &str = "me";

fn version(resource: &str) -> Version {
    Version { uid: "u".to_owned(), resource: resource.to_owned() }
}

fn lease(words: &[&str]) -> Record {
    let [holder, resource, duration, transitions] = words else { panic!("a lease has four words: {words:?}") };
    let number = |text: &&str| text.trim_end_matches('s').trim_start_matches('x').parse().ok();
    Record {
        version: version(resource),
        holder: (*holder != "-").then(|| (*holder).to_owned()),
        duration_s: number(duration),
        transitions: number(transitions),
    }
}

fn input(words: &[&str]) -> Input {
    match words {
        ["tick"] => Input::Tick,
        ["absent"] => Input::Observed(None),
        ["lease", rest @ ..] => Input::Observed(Some(lease(rest))),
        ["wrote", resource] => Input::Wrote(version(resource)),
        ["conflict"] => Input::Conflict,
        ["failed"] => Input::Failed,
        ["shutdown"] => Input::Shutdown,
        other => panic!("not an input: {other:?}"),
    }
}

fn claim_text(claim: &Claim) -> String {
    let holder = if claim.holder.is_empty() { "-" } else { &claim.holder };
    let acquired = if claim.acquired { " acquired" } else { "" };
    format!("{holder} {}s x{}{acquired}", claim.duration_s, claim.transitions)
}

fn effect_text(effect: &Effect) -> String {
    match effect {
        Effect::Get => "get".to_owned(),
        Effect::Create(claim) => format!("create {}", claim_text(claim)),
        Effect::Replace { over, claim } => format!("replace {} by {}", over.resource, claim_text(claim)),
        Effect::Sleep { ms } => format!("sleep {ms}"),
        Effect::Stop(outcome) => format!("stop {outcome:?}"),
    }
}

/// Plays a conversation with a contender `me` of the fast tier (3 s, 2 s, 0.4 s).
fn play(text: &str) {
    let mut machine = Election::new(ME, Timing::FAST);
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (happened, wanted) = line.split_once("->").expect("a line has an arrow");
        let words: Vec<&str> = happened.split_whitespace().collect();
        let now = Mono(words[0].parse().expect("a line begins with a time"));
        let effect = machine.step(now, input(&words[1..]));
        let until = machine.leader_until().map_or("follower".to_owned(), |until| format!("leads until {}", until.0));
        let wanted = wanted.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(format!("{} | {until}", effect_text(&effect)), wanted, "after: {line}\n{machine:#?}");
    }
}

#[test]
fn a_free_lease_is_taken_and_renewed_with_one_request_each() {
    play(
        "
        0    tick              -> get                              | follower
        10   lease - 1 1s x4   -> replace 1 by me 3s x5 acquired   | follower
        30   wrote 2           -> sleep 370                        | leads until 2010
        400  tick              -> replace 2 by me 3s x5            | leads until 2010
        420  wrote 3           -> sleep 380                        | leads until 2400
        ",
    );
}

#[test]
fn validity_counts_from_the_start_of_the_renewal() {
    play(
        "
        0    tick              -> get                              | follower
        300  lease - 1 1s x0   -> replace 1 by me 3s x1 acquired   | follower
        690  wrote 2           -> sleep 0                          | leads until 2300
        ",
    );
}

#[test]
fn an_answer_later_than_its_own_validity_makes_no_leader() {
    play(
        "
        0    tick              -> get                              | follower
        10   lease - 1 1s x0   -> replace 1 by me 3s x1 acquired   | follower
        2010 wrote 2           -> sleep 0                          | follower
        2010 tick              -> replace 2 by me 3s x1            | follower
        2020 wrote 3           -> sleep 390                        | leads until 4010
        ",
    );
}

#[test]
fn a_held_lease_is_taken_a_whole_duration_after_its_last_seen_change() {
    play(
        "
        0    tick              -> get                              | follower
        10   lease b 1 3s x0   -> sleep 390                        | follower
        400  tick              -> get                              | follower
        410  lease b 2 3s x0   -> sleep 390                        | follower
        3200 tick              -> get                              | follower
        3210 lease b 2 3s x0   -> sleep 200                        | follower
        3410 tick              -> get                              | follower
        3420 lease b 2 3s x0   -> replace 2 by me 3s x1 acquired   | follower
        3430 conflict          -> get                              | follower
        3440 lease c 3 3s x1   -> sleep 370                        | follower
        ",
    );
}

#[test]
fn a_frozen_standby_looks_again_before_it_takes_over() {
    play(
        "
        0     tick             -> get                              | follower
        10    lease b 1 3s x0  -> sleep 390                        | follower
        90000 tick             -> get                              | follower
        90010 lease b 99 3s x0 -> sleep 390                        | follower
        ",
    );
}

#[test]
fn a_longer_duration_of_the_holder_is_waited_for_but_not_a_shorter_one_nor_nonsense() {
    for (duration, wait_ms) in [("15s", 15_000), ("1s", 3_000), ("-", 3_000), ("-7s", 3_000), ("2147483647s", 600_000)]
    {
        let mut machine = Election::new(ME, Timing::FAST);
        let mut look = |now| {
            machine.step(Mono(now), Input::Tick);
            machine.step(Mono(now), Input::Observed(Some(lease(&["b", "1", duration, "-"]))))
        };
        look(0);
        assert!(matches!(look(wait_ms - 1), Effect::Sleep { ms: 1 }), "{duration}");
        let taken = look(wait_ms);
        assert_eq!(effect_text(&taken), "replace 1 by me 3s x1 acquired", "{duration}");
    }
}

#[test]
fn a_lease_without_holder_that_nobody_released_is_waited_for() {
    play(
        "
        0    tick              -> get                              | follower
        0    lease - 1 - -     -> sleep 400                        | follower
        400  tick              -> get                              | follower
        400  lease - 2 3s x-3  -> sleep 400                        | follower
        3400 tick              -> get                              | follower
        3400 lease - 2 3s x-3  -> replace 2 by me 3s x1 acquired   | follower
        ",
    );
}

#[test]
fn an_absent_lease_is_created_without_a_holder_and_waited_for() {
    play(
        "
        0    tick              -> get                              | follower
        0    absent            -> create - 3s x0                   | follower
        10   wrote 1           -> sleep 390                        | follower
        400  tick              -> get                              | follower
        400  lease - 1 3s x0   -> sleep 400                        | follower
        3010 tick              -> get                              | follower
        3010 lease - 1 3s x0   -> replace 1 by me 3s x1 acquired   | follower
        3020 wrote 2           -> sleep 390                        | leads until 5010
        ",
    );
}

#[test]
fn a_lease_that_another_created_first_is_waited_for() {
    play(
        "
        0    tick              -> get                              | follower
        0    absent            -> create - 3s x0                   | follower
        10   conflict          -> get                              | follower
        20   lease - 1 3s x0   -> sleep 380                        | follower
        ",
    );
}

#[test]
fn a_leader_takes_a_deleted_lease_again_within_its_validity() {
    play(
        "
        0    tick              -> get                              | follower
        0    lease - 1 1s x0   -> replace 1 by me 3s x1 acquired   | follower
        0    wrote 2           -> sleep 400                        | leads until 2000
        400  tick              -> replace 2 by me 3s x1            | leads until 2000
        410  conflict          -> get                              | leads until 2000
        420  absent            -> create - 3s x0                   | leads until 2000
        430  wrote 9           -> replace 9 by me 3s x1 acquired   | leads until 2000
        440  wrote 10          -> sleep 360                        | leads until 2430
        ",
    );
}

#[test]
fn after_an_unanswered_write_the_lease_is_read_first() {
    play(
        "
        0    tick              -> get                              | follower
        0    lease - 1 1s x0   -> replace 1 by me 3s x1 acquired   | follower
        400  failed            -> sleep 0                          | follower
        400  tick              -> get                              | follower
        410  lease me 2 3s x1  -> replace 2 by me 3s x1            | follower
        420  wrote 3           -> sleep 380                        | leads until 2410
        800  tick              -> replace 3 by me 3s x1            | leads until 2410
        1200 failed            -> sleep 0                          | leads until 2410
        1200 tick              -> get                              | leads until 2410
        1210 lease me 3 3s x1  -> replace 3 by me 3s x1            | leads until 2410
        1220 conflict          -> get                              | leads until 2410
        1230 lease me 4 3s x1  -> replace 4 by me 3s x1            | leads until 2410
        1240 wrote 5           -> sleep 360                        | leads until 3230
        ",
    );
}

#[test]
fn a_tick_in_the_middle_of_a_write_leaves_its_outcome_unknown() {
    play(
        "
        0    tick              -> get                              | follower
        0    lease - 1 1s x0   -> replace 1 by me 3s x1 acquired   | follower
        0    wrote 2           -> sleep 400                        | leads until 2000
        400  tick              -> replace 2 by me 3s x1            | leads until 2000
        400  tick              -> get                              | leads until 2000
        ",
    );
}

#[test]
fn without_answers_leadership_ends_at_its_time_and_for_good() {
    play(
        "
        0    tick              -> get                              | follower
        0    lease - 1 1s x0   -> replace 1 by me 3s x1 acquired   | follower
        0    wrote 2           -> sleep 400                        | leads until 2000
        400  tick              -> replace 2 by me 3s x1            | leads until 2000
        1700 failed            -> sleep 0                          | leads until 2000
        1700 tick              -> get                              | leads until 2000
        1701 failed            -> sleep 299                        | leads until 2000
        2000 tick              -> stop Lost(Validity)              | follower
        2010 lease - 3 1s x1   -> stop NotHeld                     | follower
        ",
    );
}

#[test]
fn a_leader_that_wakes_too_late_has_lost_even_if_its_renewal_succeeded() {
    play(
        "
        0    tick              -> get                              | follower
        0    lease - 1 1s x0   -> replace 1 by me 3s x1 acquired   | follower
        0    wrote 2           -> sleep 400                        | leads until 2000
        1900 tick              -> replace 2 by me 3s x1            | leads until 2000
        2000 wrote 3           -> stop Lost(Validity)              | follower
        ",
    );
}

#[test]
fn a_leader_that_reads_another_holder_has_lost() {
    play(
        "
        0    tick              -> get                                       | follower
        0    lease - 1 1s x0   -> replace 1 by me 3s x1 acquired            | follower
        0    wrote 2           -> sleep 400                                 | leads until 2000
        400  tick              -> replace 2 by me 3s x1                     | leads until 2000
        410  conflict          -> get                                       | leads until 2000
        420  lease b 3 3s x2   -> stop Lost(Taken { holder: Some(\"b\") }) | follower
        ",
    );
}

#[test]
fn a_server_that_refuses_every_write_is_asked_once_per_period() {
    play(
        "
        0    tick              -> get                              | follower
        0    lease - 1 1s x0   -> replace 1 by me 3s x1 acquired   | follower
        0    conflict          -> get                              | follower
        0    lease - 1 1s x0   -> replace 1 by me 3s x1 acquired   | follower
        0    conflict          -> sleep 400                        | follower
        400  tick              -> get                              | follower
        ",
    );
}

#[test]
fn an_orderly_stop_gives_the_lease_up_with_one_request() {
    play(
        "
        0    tick              -> get                              | follower
        0    lease - 1 1s x0   -> replace 1 by me 3s x1 acquired   | follower
        0    wrote 2           -> sleep 400                        | leads until 2000
        100  shutdown          -> replace 2 by - 1s x1             | follower
        110  wrote 3           -> stop Released                    | follower
        ",
    );
}

#[test]
fn an_orderly_stop_in_the_middle_of_a_renewal_looks_first() {
    play(
        "
        0    tick              -> get                              | follower
        0    lease - 1 1s x0   -> replace 1 by me 3s x1 acquired   | follower
        10   shutdown          -> get                              | follower
        20   lease me 2 3s x1  -> replace 2 by - 1s x1             | follower
        420  failed            -> sleep 0                          | follower
        420  tick              -> get                              | follower
        430  lease - 3 1s x1   -> stop NotHeld                     | follower
        ",
    );
}

#[test]
fn giving_up_takes_no_longer_than_the_renew_deadline() {
    play(
        "
        0    tick              -> get                              | follower
        0    lease - 1 1s x0   -> replace 1 by me 3s x1 acquired   | follower
        0    wrote 2           -> sleep 400                        | leads until 2000
        100  shutdown          -> replace 2 by - 1s x1             | follower
        500  failed            -> sleep 0                          | follower
        500  tick              -> get                              | follower
        2100 failed            -> stop Unreleased                  | follower
        ",
    );
}

#[test]
fn a_standby_stops_at_once() {
    play(
        "
        0    tick              -> get                              | follower
        10   lease b 1 3s x0   -> sleep 390                        | follower
        20   shutdown          -> stop NotHeld                     | follower
        ",
    );
}

#[test]
fn an_earlier_process_of_the_same_pod_is_somebody_else() {
    play(
        "
        0    tick                -> get                              | follower
        0    lease me_0 1 3s x7  -> sleep 400                        | follower
        3000 tick                -> get                              | follower
        3000 lease me_0 1 3s x7  -> replace 1 by me 3s x8 acquired   | follower
        ",
    );
}
