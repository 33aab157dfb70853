//! Every effect on the world, and in which play the leader is killed (F31) and frozen (F32) before and after it. The
//! list is held against the program: its types, its ports, what its failovers ask for, and what their records say.

use baton::core::recovery::Recovery;
use serde_json::Value;

/// What happens to the cluster in which the leader fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Play {
    /// The primary is killed.
    Dead,
    /// The same, and no replica has applied what it received.
    Backlog,
    /// The same, where Baton keeps semi-sync.
    Kept,
    /// The same, and the old primary is back.
    Rejoin,
    /// The same as `Dead`, and an acker dies while receivers are stopped: too few are left to fence.
    Blocked,
    /// The same with W=2 of 3 ackers: enough to fence, too few to acknowledge.
    Short,
    /// The same as `Blocked`, and the primary, which was cut off, is back: all is as before.
    Back,
    /// The primary is killed, and while receivers are stopped every replica gets a transaction of its own.
    Errant,
    /// A person replaces a living primary.
    Forced,
    /// The same, asynchronous.
    ForcedAsync,
    /// A Job is to carry the failover out, and its pod never starts.
    Job,
    /// The primary and the leader that began die; it is the next leader that fails.
    TakeOver,
}

/// Where the leader fails at an effect.
#[derive(Debug, Clone, Copy)]
pub enum At {
    /// There.
    In(Play),
    /// Nowhere: no failover asks for it.
    NotAsked,
    /// Nowhere, for this reason.
    Never(&'static str),
}

/// All effects, by their names at [`passing`](../../src/app/strike.rs).
pub const EFFECTS: [(&str, At); 37] = [
    ("Begin", At::In(Play::Dead)),
    ("TakeOver", At::In(Play::TakeOver)),
    ("Refuse", At::Never("it answers a request of a person, of which nobody has begun anything")),
    ("StartJob", At::In(Play::Job)),
    ("Leave", At::In(Play::Job)),
    ("Withdraw", At::In(Play::Dead)),
    ("Route", At::In(Play::Dead)),
    ("Members", At::In(Play::Rejoin)),
    ("Save:Pending", At::Never("Begin writes that; the next write is of a later phase")),
    ("Save:Fencing", At::In(Play::Blocked)),
    ("Save:Choosing", At::In(Play::Short)),
    ("Save:Promoting", At::In(Play::Dead)),
    ("Save:Writable", At::In(Play::Dead)),
    ("Save:Completing", At::NotAsked),
    ("Save:Succeeded", At::In(Play::Dead)),
    ("Save:Failed", At::In(Play::Back)),
    ("Save:Refused", At::In(Play::Errant)),
    ("Look", At::NotAsked),
    ("StopReceiver", At::In(Play::Dead)),
    ("StartReceiver", At::In(Play::Back)),
    ("RestartReceiver", At::NotAsked),
    ("StartApplier", At::In(Play::Backlog)),
    ("WaitApplied", At::In(Play::Backlog)),
    ("Fence", At::In(Play::Forced)),
    ("SetReadOnly", At::In(Play::ForcedAsync)),
    ("SemiSyncSource", At::In(Play::Dead)),
    ("LosslessSemiSync", At::In(Play::Kept)),
    ("Acknowledge", At::In(Play::Rejoin)),
    ("LoadSemiSync", At::NotAsked),
    ("AllowConnections", At::NotAsked),
    ("SemiSyncReplica", At::NotAsked),
    ("Claim", At::In(Play::Dead)),
    ("WriteEpoch", At::In(Play::Dead)),
    ("Unfence", At::In(Play::Dead)),
    ("ForgetSource", At::In(Play::Dead)),
    ("Repoint", At::In(Play::Dead)),
    ("EnforceReplicationSettings", At::NotAsked),
];

fn asked(effect: &str) -> bool {
    EFFECTS.iter().any(|(name, at)| *name == effect && matches!(at, At::In(_)))
}

/// What a record says was done, and the list says never is.
pub fn unlisted(record: &Value) -> Vec<String> {
    let steps = record["steps"].as_array().into_iter().flatten().filter_map(|step| step["step"].as_str());
    let phase = record["phase"].as_str().map(|phase| format!("Save:{phase}"));
    let done = steps.filter(|step| *step != Recovery::LEFT).map(str::to_owned).chain(phase);
    done.filter(|effect| !asked(effect)).collect()
}

mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use baton::core::{
        recovery::{Phase, machine::Effect},
        step::Action,
    };
    use serde::{
        Deserialize, Deserializer,
        de::{Error, Visitor, value},
    };
    use serde_json::json;

    use super::*;

    const PORTS: &str = include_str!("../../src/engine/ports.rs");
    const WORLD: &str = include_str!("../../src/app/world.rs");

    /// Takes the names of an enum's variants instead of a value.
    struct Names<'a>(&'a mut &'static [&'static str]);

    impl<'de> Deserializer<'de> for Names<'_> {
        type Error = value::Error;

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
            Err(Error::custom("no enum"))
        }

        fn deserialize_enum<V: Visitor<'de>>(
            self,
            _: &'static str,
            variants: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, Self::Error> {
            *self.0 = variants;
            Err(Error::custom("names only"))
        }

        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
            unit_struct newtype_struct seq tuple tuple_struct map struct identifier ignored_any
        }
    }

    fn variants<T: for<'de> Deserialize<'de>>() -> &'static [&'static str] {
        let mut names: &[&str] = &[];
        assert!(T::deserialize(Names(&mut names)).is_err() && !names.is_empty());
        names
    }

    /// The port that an effect of the machine goes through.
    fn port(effect: &Effect) -> Option<&'static str> {
        Some(match effect {
            Effect::Begin => "begin",
            Effect::Save => "save",
            Effect::Route(_) => "route",
            Effect::Act(..) => "act",
            Effect::StartJob => "start_job",
            Effect::Leave => "leave",
            Effect::Finish => return None,
        })
    }

    /// Methods of the ports that change something: what is awaited, and no rest and no mere reading.
    fn ports() -> BTreeSet<&'static str> {
        let methods = PORTS.split("    fn ").skip(1).filter(|method| {
            let head = method.split(['{', ';']).next().unwrap_or_default();
            head.contains("-> impl Future") && !head.starts_with("sleep_ms") && !head.starts_with("history")
        });
        methods.filter_map(|method| method.split('(').next()).collect()
    }

    /// Names in quotes that a port passes with.
    fn passed(method: &str) -> Vec<&'static str> {
        let body = WORLD.split(&format!("async fn {method}(")).nth(1).unwrap_or_default();
        let body = body.split("\n    }\n").next().unwrap_or_default();
        assert!(body.contains("passing("), "{method} passes no point");
        body.split('"')
            .skip(1)
            .step_by(2)
            .filter(|name| name.starts_with(|first: char| first.is_ascii_uppercase()))
            .collect()
    }

    #[test]
    fn every_effect_is_listed() {
        let mut effects: BTreeSet<String> = variants::<Action>().iter().map(|&name| name.to_owned()).collect();
        for method in ports() {
            for name in passed(method) {
                match name.strip_suffix("{:?}") {
                    Some(save) => effects.extend(variants::<Phase>().iter().map(|phase| format!("{save}{phase}"))),
                    None => drop(effects.insert(name.to_owned())),
                }
            }
        }
        let listed: BTreeSet<String> = EFFECTS.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(listed.len(), EFFECTS.len(), "one is listed twice");
        let missing: Vec<_> = effects.symmetric_difference(&listed).collect();
        assert!(missing.is_empty(), "effects without a place in the list, or places without an effect: {missing:?}");
    }

    #[test]
    fn every_effect_of_a_failover_goes_through_a_port() {
        let act = Effect::Act("a:1".parse().unwrap(), Action::Look, 1);
        for effect in [Effect::Begin, Effect::Save, Effect::Route(None), act, Effect::StartJob, Effect::Leave] {
            assert!(port(&effect).is_some_and(|port| ports().contains(port)), "{effect:?}");
        }
        assert_eq!(port(&Effect::Finish), None);
    }

    /// What no failover asks for is not to be found where failovers are made.
    #[test]
    fn what_is_not_asked_for_is_not_in_the_sources() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/core/recovery");
        let sources = fs::read_dir(folder).unwrap().map(|file| fs::read_to_string(file.unwrap().path()).unwrap());
        let sources: String = sources.map(|text| text.split("#[cfg(test)]").next().unwrap().to_owned()).collect();
        let names = |what: &str| {
            sources.split(what).skip(1).any(|rest| !rest.starts_with(|next: char| next.is_ascii_alphanumeric()))
        };
        assert!(names("Action::Claim") && names("Phase::Writable") && !names("Action::SemiSync"));
        for (effect, at) in EFFECTS {
            let name = effect.strip_prefix("Save:").map(|phase| format!("Phase::{phase}"));
            let name = name.unwrap_or_else(|| format!("Action::{effect}"));
            assert!(!matches!(at, At::NotAsked) || !names(&name), "{effect} is asked for, and has no play");
            assert!(!matches!(at, At::Never("")), "{effect}: no reason");
        }
    }

    #[test]
    fn a_record_shows_what_the_list_has_not() {
        let record = |step: &str| json!({ "phase": "Succeeded", "steps": [{ "step": "Claim" }, { "step": step }] });
        assert!(unlisted(&record("Fence")).is_empty() && unlisted(&record(Recovery::LEFT)).is_empty());
        assert_eq!(unlisted(&record("LoadSemiSync")), ["LoadSemiSync"]);
        assert_eq!(unlisted(&json!({ "phase": "Completing" })), ["Save:Completing"]);
    }
}
