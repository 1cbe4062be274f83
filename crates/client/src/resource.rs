//! One resource as the API sent it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A resource: JSON with names for what every resource has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Resource(pub Value);

impl Resource {
    /// A text field; empty when absent or null.
    pub fn text(&self, field: &str) -> &str {
        self.0.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    /// A text field, if it is set.
    pub fn maybe(&self, field: &str) -> Option<&str> {
        self.0.get(field).and_then(Value::as_str)
    }

    pub fn int(&self, field: &str) -> Option<i64> {
        self.0.get(field).and_then(Value::as_i64)
    }

    pub fn get(&self, field: &str) -> &Value {
        self.0.get(field).unwrap_or(&Value::Null)
    }

    pub fn id(&self) -> &str {
        self.text("id")
    }

    /// Wire name of the type.
    pub fn kind(&self) -> &str {
        self.text("type")
    }

    pub fn name(&self) -> &str {
        self.text("name")
    }

    pub fn state(&self) -> &str {
        self.text("state")
    }

    pub fn link(&self, name: &str) -> Option<&str> {
        self.0.get("links")?.get(name)?.as_str()
    }

    pub fn action(&self, name: &str) -> Option<&str> {
        self.0.get("actions")?.get(name)?.as_str()
    }

    /// Names of the actions offered now.
    pub fn actions(&self) -> Vec<&str> {
        let actions = self.0.get("actions").and_then(Value::as_object);
        actions.into_iter().flat_map(|map| map.keys()).map(String::as_str).collect()
    }

    /// A process is under way.
    pub fn is_transitioning(&self) -> bool {
        self.text("transitioning") == "yes"
    }

    /// The last process failed.
    pub fn has_failed(&self) -> bool {
        self.text("transitioning") == "error"
    }

    pub fn message(&self) -> Option<&str> {
        self.maybe("transitioningMessage").filter(|text| !text.is_empty())
    }

    /// Word for people: `stack` where the API says `environment`.
    pub fn word(&self) -> &str {
        match self.kind() {
            "environment" => "stack",
            "project" => "environment",
            kind => kind,
        }
    }

    /// `kind name (id)`, as messages name things.
    pub fn title(&self) -> String {
        let kind = self.word();
        match self.name() {
            "" => format!("{kind} {}", self.id()),
            name => format!("{kind} {name} ({})", self.id()),
        }
    }
}

impl From<Value> for Resource {
    fn from(value: Value) -> Resource {
        Resource(value)
    }
}
