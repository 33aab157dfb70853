//! The examples of `tests/api` against the generated definitions: what they say is refused is refused
//! with that message, what they say is accepted is accepted. `tests/cluster` runs the same files
//! against a real API server, schema included; here the CEL rules are evaluated in this process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

#[path = "support/examples.rs"]
mod examples;

use std::collections::BTreeMap;

use baton::api::crds;
use examples::{By, Example, accepted, refused};
use kube::core::cel::{Validator, apply_defaults};
use serde_json::Value;

/// Schemas by kind.
fn schemas() -> BTreeMap<String, Value> {
    let definitions = crds::definitions().unwrap();
    let schema = |crd: &serde_json::Value| crd.pointer("/spec/versions/0/schema/openAPIV3Schema").unwrap().clone();
    let of = |crd| {
        serde_json::to_value(crd).map(|crd| (crd["spec"]["names"]["kind"].as_str().unwrap().to_owned(), schema(&crd)))
    };
    definitions.iter().map(|crd| of(crd).unwrap()).collect()
}

/// Messages of the rules that `object` breaks; `old`: it replaces this one.
fn broken(object: &Value, old: Option<&Value>) -> Vec<String> {
    let schemas = schemas();
    let schema = &schemas[object["kind"].as_str().unwrap()];
    let (object, old) = (apply_defaults(schema, object), old.map(|old| apply_defaults(schema, old)));
    let errors = Validator::new().validate(schema, &object, old.as_ref()).err();
    errors.map(|errors| errors.as_slice().iter().map(ToString::to_string).collect()).unwrap_or_default()
}

fn check_refused(example: &Example) {
    let says = |errors: &[String]| errors.iter().any(|error| error.contains(&example.message));
    match example.by {
        By::Schema => {}
        By::Rule => {
            for object in &example.objects {
                let errors = broken(object, None);
                assert!(says(&errors), "{}: {errors:?}\n{object:#}", example.file);
            }
        }
        By::Update => {
            let [old, new] = example.objects.as_slice() else { panic!("{}: needs two objects", example.file) };
            assert_eq!(broken(new, None), Vec::<String>::new(), "{}", example.file);
            assert_eq!(broken(old, Some(old)), Vec::<String>::new(), "{}", example.file);
            let errors = broken(new, Some(old));
            assert!(says(&errors), "{}: {errors:?}", example.file);
        }
    }
}

#[test]
fn refused_examples_are_refused_with_their_message() {
    refused().iter().for_each(check_refused);
}

#[test]
fn accepted_examples_are_accepted() {
    for example in accepted() {
        for object in &example.objects {
            assert_eq!(broken(object, None), Vec::<String>::new(), "{}", example.file);
        }
    }
}

/// All rules in a schema, with their messages.
fn rules(schema: &Value, found: &mut Vec<String>) {
    match schema {
        Value::Object(object) => {
            let own = object.get("x-kubernetes-validations").and_then(Value::as_array);
            found.extend(own.into_iter().flatten().map(|rule| rule["message"].as_str().expect("a message").to_owned()));
            object.values().for_each(|value| rules(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| rules(item, found)),
        _ => {}
    }
}

#[test]
fn every_rule_has_a_message_and_a_refused_example() {
    let mut found = Vec::new();
    schemas().values().for_each(|schema| rules(schema, &mut found));
    assert!(found.len() > 20, "{found:?}");
    let examples = refused();
    let shown = |message: &str| examples.iter().any(|example| message.contains(&example.message));
    let missing: Vec<_> = found.iter().filter(|message| !shown(message)).collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

/// The messages of the rules that are evaluated on `object`: those of every part of it that is there.
fn evaluated(schema: &Value, object: &Value, found: &mut Vec<String>) {
    let own = schema.get("x-kubernetes-validations").and_then(Value::as_array);
    found.extend(own.into_iter().flatten().map(|rule| rule["message"].as_str().expect("a message").to_owned()));
    match object {
        Value::Object(fields) => {
            for (name, value) in fields {
                let of_field = schema.pointer(&format!("/properties/{name}"));
                of_field
                    .or(schema.get("additionalProperties"))
                    .into_iter()
                    .for_each(|part| evaluated(part, value, found));
            }
        }
        Value::Array(items) => {
            let of_item = schema.get("items");
            items.iter().for_each(|item| of_item.into_iter().for_each(|part| evaluated(part, item, found)));
        }
        _ => {}
    }
}

#[test]
fn every_rule_lets_an_accepted_example_pass() {
    let schemas = schemas();
    let (mut all, mut passed) = (Vec::new(), Vec::new());
    schemas.values().for_each(|schema| rules(schema, &mut all));
    for object in accepted().iter().flat_map(|example| &example.objects) {
        let schema = &schemas[object["kind"].as_str().unwrap()];
        evaluated(schema, &apply_defaults(schema, object), &mut passed);
    }
    // Hooks are refused as a whole for now, so nothing in them can be accepted.
    let unserved = |message: &&String| message.starts_with("a hook must");
    let missing: Vec<_> = all.iter().filter(|rule| !passed.contains(rule)).filter(|rule| !unserved(rule)).collect();
    assert!(missing.is_empty(), "{missing:#?}");
}
