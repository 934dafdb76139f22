//! What has changed between two documents of one form.

use serde_json::{Map, Value};

/// The parts of `next` that differ from `last`, in tables of the same keys part by part, else whole. `None` when
/// [`merge`] could not tell a part from a whole.
pub(super) fn changes(last: &Value, next: &Value) -> Option<Value> {
    let (Value::Object(last), Value::Object(new)) = (last, next) else {
        return Some(next.clone());
    };
    if !last.keys().eq(new.keys()) {
        let is_part = !last.is_empty() && new.keys().all(|key| last.contains_key(key));
        return (!is_part).then(|| next.clone());
    }
    let mut changed = Map::new();
    for ((key, last), next) in last.iter().zip(new.values()) {
        if last != next {
            changed.insert(key.clone(), changes(last, next)?);
        }
    }
    Some(Value::Object(changed))
}

/// Puts changes into the document that they were made from.
pub(super) fn merge(document: &mut Value, changes: Value) {
    match (document, changes) {
        (Value::Object(table), Value::Object(changes))
            if changes.keys().all(|key| table.contains_key(key)) =>
        {
            for (key, change) in changes {
                if let Some(value) = table.get_mut(&key) {
                    merge(value, change);
                }
            }
        }
        (document, whole) => *document = whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn only_what_differs_is_told() {
        let last =
            json!({"at": {"s": 1, "ms": 5}, "read": {"Ok": {"beat": 1, "state": "Running"}}});
        let next =
            json!({"at": {"s": 2, "ms": 5}, "read": {"Ok": {"beat": 2, "state": "Running"}}});
        let told = changes(&last, &next).unwrap();
        assert_eq!(told, json!({"at": {"s": 2}, "read": {"Ok": {"beat": 2}}}));
    }

    #[test]
    fn a_value_that_became_an_error_is_told_whole() {
        let last = json!({"read": {"Ok": {"beat": 1}}});
        let next = json!({"read": {"Err": {"Late": {"deadline_ms": 500}}}});
        let mut document = last.clone();
        merge(&mut document, changes(&last, &next).unwrap());
        assert_eq!(document, next);
    }

    fn document() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![Just(Value::Null), (0..3u8).prop_map(|number| json!(number))];
        leaf.prop_recursive(3, 16, 3, |inner| {
            prop::collection::btree_map("[abc]", inner, 0..3).prop_map(|table| json!(table))
        })
    }

    proptest! {
        #[test]
        fn what_was_told_makes_the_next_of_the_last_or_nothing_was(last in document(), next in document()) {
            if let Some(told) = changes(&last, &next) {
                let mut merged = last;
                merge(&mut merged, told);
                prop_assert_eq!(merged, next);
            }
        }
    }
}
