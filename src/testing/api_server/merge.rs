//! How one document changes another: JSON merge patch (RFC 7396) and a simplified server-side apply.

use serde_json::{Map, Value};

/// Merges `patch` into `target`; null removes.
pub(super) fn merge_patch(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(target) = target.as_object_mut() else { return };
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge_patch(target.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

/// Removes from `target` what `before` applied and `now` does not mention any more.
pub(super) fn prune(target: &mut Value, before: &Value, now: &Value) {
    let (Some(target), Some(before)) = (target.as_object_mut(), before.as_object()) else { return };
    for (key, old) in before {
        match (now.get(key), target.get_mut(key)) {
            (None, Some(_)) => drop(target.remove(key)),
            (Some(new), Some(found)) if old.is_object() => prune(found, old, new),
            _ => {}
        }
    }
}
