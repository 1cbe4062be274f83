//! What is done to a service, told on the service (`docs/decisions/service-selections.md`): one line of the audit log per
//! pass and reason, whatever the number of containers. A line goes only with a write that makes its reason go away, so
//! that no pass tells the same again.

use remuda_model::{Container, Service};
use remuda_schema::{Resource, Row};

use crate::plan::{Audit, Step};

/// Event type of the lines.
const EVENT: &str = "service.reconcile";
/// Names in one line.
const MAX_NAMES: usize = 20;

/// What one pass has to tell: reasons in the order they came up, with the containers concerned.
#[derive(Debug, Default)]
pub struct Log {
    lines: Vec<(String, Vec<String>)>,
}

impl Log {
    pub fn say(&mut self, what: &str, container: &Row<Container>) {
        let name = container.meta.name.clone().unwrap_or_else(|| container.meta.uuid.clone());
        match self.lines.iter_mut().find(|(known, _)| known == what) {
            Some((_, names)) => names.push(name),
            None => self.lines.push((what.to_owned(), vec![name])),
        }
    }

    /// A line about the whole.
    pub fn say_plainly(&mut self, what: String) {
        self.lines.push((what, Vec::new()));
    }

    pub fn steps(self, service: &Row<Service>) -> impl Iterator<Item = Step> + use<> {
        let text = |(what, names): (String, Vec<String>)| {
            if names.is_empty() {
                return what;
            }
            let more = names.len().saturating_sub(MAX_NAMES);
            let named: Vec<String> = names.into_iter().take(MAX_NAMES).collect();
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            format!("{what}: {}{more}", named.join(", "))
        };
        let (account, service) = (service.meta.account_id, service.meta.id);
        self.lines.into_iter().map(move |line| Step::Audit(audit(account, service, &text(line))))
    }
}

/// A line about a service of that account.
pub fn audit(account: Option<i64>, service: i64, text: &str) -> Audit {
    Audit::of(account, EVENT, Service::TYPE, service, text)
}

#[cfg(test)]
mod tests {
    use remuda_model::InstanceHealthCheck;
    use remuda_model::states::*;

    use super::*;
    use crate::plan::Subject;
    use crate::testing::{Language, world};

    /// What the next pass of the service tells.
    fn told(w: &Language) -> Vec<String> {
        let id = w.service_row("web").meta.id;
        let lines = w.plan(Subject::Service(id)).steps.into_iter().filter_map(|step| match step {
            Step::Audit(line) if line.resource_type == "service" => {
                assert_eq!((line.resource_id, line.account_id.is_some()), (id, true));
                Some(line.description)
            }
            _ => None,
        });
        lines.collect()
    }

    #[test]
    fn every_change_is_told_with_its_reason() {
        let w = world().host("a").host("b").service("web", 2);
        assert_eq!(told(&w), ["Created: s_web_1, s_web_2"]);
        let w = w.settle();
        assert_eq!(told(&w), Vec::<String>::new());
        let scaled = w.change_service("web", |row| row.scale = Some(1));
        assert_eq!(told(&scaled), ["Removed because the scale is 1: s_web_2"]);
        let w = scaled.change_service("web", |row| row.scale = Some(2));
        let w = w.change_service("web", |row| {
            row.launch_config.as_mut().expect("has one").health_check = Some(InstanceHealthCheck::default());
        });
        let w = w.change_container("s_web_1", |row| row.health_state = Some(UNHEALTHY.into()));
        assert_eq!(told(&w), ["Replaced because it is unhealthy: s_web_1", "Created: s_web_1"]);
        let w = w.change_container("s_web_1", |row| row.health_state = None);
        let w = w.change_container("s_web_2", |row| {
            row.meta.enter(STOPPED);
            row.exit_code = Some(137);
        });
        assert_eq!(told(&w), ["Started again after it stopped with code 137: s_web_2"]);
        let w = w.host_state("b", REMOVING);
        assert_eq!(told(&w), ["Removed because its host is gone: s_web_2"]);
        let w = w.settle();
        assert_eq!(told(&w), Vec::<String>::new());
    }

    #[test]
    fn what_cannot_be_placed_is_told_once() {
        let w = world().service("web", 1).settle();
        assert_eq!(told(&w), Vec::<String>::new(), "it has been told when it failed");
        let w = w.change_service("web", |row| row.meta.progress.message = None);
        let expected = "Waiting for [instance:s_web_1]. Instance status: Scheduling failed: No candidates available";
        assert_eq!(told(&w), [expected]);
    }

    #[test]
    fn a_line_has_its_length() {
        let mut log = Log::default();
        let mut row = Row::new(None, RUNNING, Container::default());
        for number in 0..50 {
            row.meta.name = Some(format!("{}{number}", "x".repeat(60)));
            log.say("Created", &row);
        }
        let service = Row::new(Some(5), ACTIVE, Service::default());
        let lines: Vec<Step> = log.steps(&service).collect();
        let [Step::Audit(line)] = &lines[..] else { panic!("{lines:?}") };
        assert_eq!(line.description.len(), 1_000);
    }
}
