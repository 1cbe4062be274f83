//! `healthcheck`: the engine's own check of a container (`compose.md` §13).

use serde_json::json;

use crate::context::Context;
use crate::convert::Draft;
use crate::node::{Node, shown};
use crate::problem::hint;
use crate::values;

/// The engine's own check.
pub fn healthcheck(context: &mut Context<'_>, draft: &mut Draft, value: &Node, path: &str) {
    if value.part("disable").as_deref() == Some("true") {
        return draft.put("healthCmd", Some(json!(["NONE"])));
    }
    for (key, node) in value.members() {
        let seconds = |found: Option<i64>| found.map(|ms| json!((ms + 999) / 1000));
        match key.name.as_str() {
            "test" => {
                let test = match node.scalar() {
                    Some(line) => Some(json!(["CMD-SHELL", line])),
                    None => context.take(path, values::list(node)),
                };
                draft.has_engine_check = test.as_ref().is_some_and(|test| test[0] != "NONE");
                draft.put("healthCmd", test);
            }
            "interval" | "timeout" => {
                let read = context.take(path, values::duration_ms(node)).flatten();
                draft.put(if key.name == "interval" { "healthInterval" } else { "healthTimeout" }, seconds(read));
            }
            "retries" => {
                let retries = context.take(path, values::int(node));
                draft.put("healthRetries", retries);
            }
            "start_period" | "start_interval" => {
                context.warn(
                    key.place,
                    path,
                    format!("`{}` has no effect: {}", key.name, "containers here have no such setting"),
                );
            }
            "disable" => {}
            name if name.starts_with("x-") => {}
            name => {
                let near = hint(name, ["test", "interval", "timeout", "retries", "disable"]);
                context.problem(key.place, path, format!("`{}` is no key of a healthcheck{near}", shown(name)));
            }
        }
    }
}
