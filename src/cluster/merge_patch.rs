//! The difference of two statuses as a merge patch (RFC 7386). Pure.

use serde_json::{Map, Value};

use crate::api::VerificationStatus;

/// The merge patch (RFC 7386) that makes one status of another; nothing if they are equal.
pub(super) fn merge_patch(before: &VerificationStatus, after: &VerificationStatus) -> Option<Value> {
    let (Ok(before), Ok(after)) = (serde_json::to_value(before), serde_json::to_value(after)) else {
        return None;
    };
    difference(&before, &after)
}

fn difference(before: &Value, after: &Value) -> Option<Value> {
    let (Value::Object(old), Value::Object(new)) = (before, after) else {
        return (before != after).then(|| after.clone());
    };
    let mut patch = Map::new();
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    for (key, value) in new {
        let changed = old.get(key).map_or_else(|| Some(value.clone()), |old| difference(old, value));
        if let Some(changed) = changed {
            patch.insert(key.clone(), changed);
        }
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// RFC 7386, section 2.
    fn merge(target: &mut Value, patch: &Value) {
        let Value::Object(changes) = patch else {
            *target = patch.clone();
            return;
        };
        if !target.is_object() {
            *target = json!({});
        }
        for (key, change) in changes {
            let object = target.as_object_mut().unwrap();
            if change.is_null() {
                object.remove(key);
            } else {
                merge(object.entry(key.clone()).or_insert(Value::Null), change);
            }
        }
    }

    fn status() -> impl Strategy<Value = VerificationStatus> {
        let word = proptest::option::of("[a-z]{1,4}");
        let progress = proptest::collection::btree_map("[a-c]", "[a-c]", 0..3);
        (word.clone(), word, progress, proptest::option::of(0..9_i64)).prop_map(
            |(id, raw, progress, generation)| VerificationStatus {
                verification_id: id,
                portal_status: raw,
                progress,
                observed_generation: generation,
                ..VerificationStatus::default()
            },
        )
    }

    proptest! {
        #[test]
        fn a_patch_makes_one_status_of_the_other(before in status(), after in status()) {
            let mut patched = serde_json::to_value(&before).unwrap();
            if let Some(patch) = merge_patch(&before, &after) {
                merge(&mut patched, &patch);
            }
            prop_assert_eq!(patched, serde_json::to_value(&after).unwrap());
        }

        #[test]
        fn an_equal_status_is_not_written(status in status()) {
            prop_assert_eq!(merge_patch(&status, &status), None);
        }
    }
}
