//! A plan as people and programs read it: what `up --dry-run` and `diff` print.

use remuda_compose::hash::HASH_KEY;
use serde_json::{Value, json};

use crate::plan::{Plan, Step, Target, Work};

/// One service of a plan, in words.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    pub service: String,
    /// `unchanged`, `new`, `changed`, or `not in the file`.
    pub change: &'static str,
    /// Which parts differ: `links`, `service`, `launch config`, `sidekick log`.
    pub parts: Vec<String>,
    /// One per field.
    pub lines: Vec<String>,
    /// What will be done, in order.
    pub steps: Vec<String>,
}

impl Shown {
    pub fn json(&self) -> Value {
        json!({
            "service": self.service, "change": self.change, "parts": self.parts, "fields": self.lines,
            "steps": self.steps,
        })
    }

    /// `web: launch config, links`.
    pub fn title(&self) -> String {
        if self.parts.is_empty() {
            format!("{}: {}", self.service, self.change)
        } else {
            format!("{}: {}", self.service, self.parts.join(", "))
        }
    }
}

/// Every service of the files, then those only the server has.
pub fn shown(plan: &Plan) -> Vec<Shown> {
    let works = plan.works.iter().map(work);
    let stranger = |name: &str, steps: Vec<String>| Shown {
        service: name.to_owned(),
        change: "not in the file",
        parts: Vec::new(),
        lines: Vec::new(),
        steps,
    };
    let strangers = plan.strangers.iter().map(|row| stranger(row.name(), Vec::new()));
    let removed = plan.removed.iter().map(|row| stranger(row.name(), vec!["remove".to_owned()]));
    works.chain(strangers).chain(removed).collect()
}

fn work(work: &Work) -> Shown {
    let mut shown = Shown {
        service: work.service.name.clone(),
        change: "new",
        parts: Vec::new(),
        lines: Vec::new(),
        steps: work.steps.iter().map(step).collect(),
    };
    let Some(diff) = &work.diff else { return shown };
    shown.change = if diff.is_same() { "unchanged" } else { "changed" };
    let part = |is_there: bool, name: &str| is_there.then(|| name.to_owned());
    shown.parts.extend(part(diff.links, "links"));
    shown.parts.extend(part(diff.service, "service"));
    shown.parts.extend(part(diff.launch_config, "launch config"));
    shown.parts.extend(diff.sidekicks_changed.iter().map(|name| format!("sidekick {name}")));
    shown.parts.extend(diff.sidekicks_added.iter().map(|name| format!("new sidekick {name}")));
    shown.parts.extend(diff.sidekicks_removed.iter().map(|name| format!("sidekick {name} gone")));
    let fields = diff.fields.iter().filter(|field| !field.path.ends_with(HASH_KEY));
    shown.lines =
        fields.map(|field| format!("{}: {} -> {}", field.path, value(&field.old), value(&field.new))).collect();
    shown
}

fn value(value: &Value) -> String {
    match value {
        Value::Null => "(none)".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn step(step: &Step) -> String {
    match step {
        Step::Create(_) => "create".to_owned(),
        Step::Link(links) if links.is_empty() => "remove its links".to_owned(),
        Step::Link(links) => {
            let word = |link: &crate::plan::LinkTo| {
                let target = match &link.target {
                    Target::Id(id) => id.clone(),
                    Target::Planned(name) => name.clone(),
                };
                link.alias.as_ref().map(|alias| format!("{target} as {alias}")).unwrap_or(target)
            };
            format!("link to {}", links.iter().map(word).collect::<Vec<_>>().join(", "))
        }
        Step::Update(_) => "update".to_owned(),
        Step::Upgrade(input) => {
            let strategy = &input["inServiceStrategy"];
            let first = if strategy["startFirst"] == true { ", new ones first" } else { "" };
            format!("upgrade, {} at a time{first}", strategy["batchSize"])
        }
        Step::Finish => "finish the upgrade".to_owned(),
        Step::Rollback => "roll back the upgrade".to_owned(),
        Step::Scale(scale) => format!("scale to {scale}"),
        Step::Activate => "start".to_owned(),
        Step::Settle => "wait for what is under way".to_owned(),
        Step::Restart(_) => "restart".to_owned(),
    }
}
