//! How a copy goes on and ends, by what the server shows.

use super::*;

/// How it goes, by what the server says about copies and a change of it; what only it had was saved.
fn course_of(state: &str, session: Option<u64>, change: impl FnOnce(&mut World)) -> Course {
    let mut world = world();
    change(&mut world);
    let copying = Copying { state: state.to_owned(), session, took_ms: 0, error: "error 1".to_owned() };
    let primary = world.seen("p").clone();
    let before = transactions(4, 3);
    course(&world.seen("x").look, Some(&copying), (&addr("p"), &primary.look), Some(&before))
}

fn copied(world: &mut World) {
    world.seen("x").look.executed = world.seen("p").look.executed.clone();
}

#[test]
fn how_it_goes_is_found_out_from_the_server() {
    assert_eq!(course_of("In Progress", Some(7), |_| {}), Course::Copying(7));
    for state in ["In Progress", "Failed"] {
        assert_eq!(course_of(state, None, |_| {}), Course::Broken("error 1".to_owned()));
    }
    // What a server is like whose copy was broken off: it seems to have nothing of its own.
    for state in ["", "Not Started", "Completed"] {
        let empty = course_of(state, None, |world| world.seen("x").look.executed = GtidSet::default());
        assert_eq!(empty, Course::Broken("it has no data any more".to_owned()));
    }
    assert_eq!(course_of("", None, |_| {}), Course::Idle);
    assert_eq!(course_of("Not Started", None, |_| {}), Course::Idle);
    assert_eq!(course_of("Completed", None, |_| {}), Course::Idle, "that was an earlier one");
    assert_eq!(course_of("Completed", None, copied), Course::Join);
    let joined = course_of("Completed", None, |world| {
        copied(world);
        let channel = world.seen("r1").look.channels[0].clone();
        world.seen("x").look.channels.push(channel);
    });
    assert_eq!(joined, Course::Joined);
    let stopped = course_of("Completed", None, |world| {
        copied(world);
        let mut channel = world.seen("r1").look.channels[0].clone();
        channel.receiver = Receiver::Stopped;
        world.seen("x").look.channels.push(channel);
    });
    assert_eq!(stopped, Course::Join);
    let astray = course_of("Completed", None, |world| {
        copied(world);
        let look = &mut world.seen("x").look;
        look.executed = look.executed.union(&transactions(9, 1));
    });
    assert_eq!(astray, Course::Astray(transactions(9, 1)));
    let unknown = course_of("Completed", None, |world| {
        world.seen("x").look.at = world.seen("x").look.at.plus_ms(1000);
    });
    assert_eq!(unknown, Course::Unknown);
}

#[test]
fn what_needs_a_person_is_told_from_what_passes() {
    let waits = Rebuild::refused(&Refusal::Waits("not yet".to_owned()));
    assert_eq!((waits.state, waits.stuck()), (State::Waiting, false));
    let unfit = Rebuild::refused(&Refusal::Unfit("no right".to_owned()));
    assert_eq!((unfit.state, unfit.stuck()), (State::Failed, false), "nothing was done: it is looked at again");
    let begun = Rebuild { began: Some(Timestamp::UNIX_EPOCH), ..unfit.clone() };
    assert!(begun.stuck() && begun.unusable() && !unfit.unusable() && !waits.unusable());
    assert!(Rebuild { state: State::Running, ..waits }.unusable());
}
