//! Takes the steps of a plan. Everything that does not need something else happens at the same time; one service that
//! fails does not stop the others.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use futures_util::future::join_all;
use remuda_client::Resource;
use remuda_client::wait::{Change, Verdict, settled};
use remuda_compose::Condition;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::failure::{Failure, exit};
use crate::found;
use crate::plan::{Found, LinkTo, Plan, Step, Target, Work};
use crate::resolve;
use crate::session::Session;

/// So many services are made at the same time.
const AT_ONCE: usize = 8;

/// How long a command stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Until the requests are accepted, as far as one does not need the end of another.
    None,
    /// Until every transition has ended.
    Settled,
    /// And until everything is healthy.
    Healthy,
}

/// What came of it.
#[derive(Default)]
pub struct Applied {
    /// The services of the plan, as they were left.
    pub rows: BTreeMap<String, Resource>,
    pub n_upgraded: usize,
    pub failures: Vec<Failure>,
}

/// Applies a plan to a stack.
pub async fn apply(
    session: &Session,
    name: &str,
    plan: Plan,
    found: &Found,
    patience: Patience,
) -> Result<Applied, Failure> {
    let certificates = found::certificates(&session.client, plan.works.iter().map(|work| &work.service)).await?;
    let stack = match &found.stack {
        Some(stack) => stack.clone(),
        None if plan.creates_stack => create_stack(session, name).await?,
        None => return Err(Failure::new(exit::NOT_FOUND, format!("stack `{name}` is not on the server"))),
    };
    let applying = Applying { session, stack, patience, certificates };
    // Links may go to any service, so all of them exist before the first is linked.
    let rows = futures_util::stream::iter(plan.works.iter().map(|work| applying.existing(work)));
    let rows: Vec<Result<Resource, Failure>> = rows.buffered(AT_ONCE).collect().await;
    let ids: BTreeMap<&str, &str> = plan
        .works
        .iter()
        .zip(&rows)
        .filter_map(|(work, row)| Some((work.service.name.as_str(), row.as_ref().ok()?.id())))
        .collect();

    let (senders, receivers): (Vec<_>, Vec<_>) = plan.works.iter().map(|_| watch::channel(Outcome::Pending)).unzip();
    let works = plan.works.iter().zip(&rows).zip(senders).enumerate().map(|(idx, ((work, row), sender))| {
        // Those of a cycle that come later are not waited for.
        let before: Vec<_> = work
            .after
            .iter()
            .filter_map(|(name, condition)| {
                let at = plan.works[..idx].iter().position(|other| other.service.name == *name)?;
                Some((name.as_str(), *condition, receivers[at].clone()))
            })
            .collect();
        let (applying, ids) = (&applying, &ids);
        async move {
            let outcome = match row {
                Ok(row) => applying.work(work, row.clone(), before, ids).await,
                Err(failure) => Err(failure.clone()),
            };
            let said = match &outcome {
                Ok(row) => Outcome::Done(Box::new(row.clone())),
                Err(_) => Outcome::Failed,
            };
            sender.send_replace(said);
            (work, outcome)
        }
    });
    let removals = plan.removed.iter().map(|row| applying.remove(row));
    let (outcomes, removals) = futures_util::future::join(join_all(works), join_all(removals)).await;
    let mut applied = Applied::default();
    for (work, outcome) in outcomes {
        match outcome {
            Ok(row) => {
                applied.n_upgraded += usize::from(work.steps.iter().any(|step| matches!(step, Step::Upgrade(_))));
                applied.rows.insert(work.service.name.clone(), row);
            }
            Err(failure) => applied.failures.push(failure),
        }
    }
    applied.failures.extend(removals.into_iter().filter_map(Result::err));
    Ok(applied)
}

/// Makes a stack and waits until it is.
pub async fn create_stack(session: &Session, name: &str) -> Result<Resource, Failure> {
    session.progress.old(&format!("Creating stack {name}"));
    let title = format!("stack {name}");
    session.progress.say(&title, "creating", None);
    let stack = session.client.create("environments", &json!({"name": name})).await?;
    let stack = session.client.wait_settled(&stack, session.globals.timeout()).await?;
    session.progress.done(&title, "created", true);
    Ok(stack)
}

/// How far a service of the plan is.
#[derive(Clone)]
enum Outcome {
    Pending,
    Done(Box<Resource>),
    Failed,
}

struct Applying<'a> {
    session: &'a Session,
    stack: Resource,
    patience: Patience,
    /// Ids by name.
    certificates: BTreeMap<String, String>,
}

impl Applying<'_> {
    fn title(&self, name: &str) -> String {
        format!("{}/{name}", self.stack.name())
    }

    /// The row of a service, made when the plan says so.
    async fn existing(&self, work: &Work) -> Result<Resource, Failure> {
        let Some(Step::Create(body)) = work.steps.first() else {
            return work.row.clone().ok_or_else(|| {
                Failure::new(exit::NOT_FOUND, format!("service {} is not on the server", work.service.name))
            });
        };
        let name = &work.service.name;
        self.session.progress.old(&format!("Creating service {name}"));
        self.session.progress.say(&self.title(name), "creating", None);
        let mut body = body.clone();
        body["environmentId"] = self.stack.id().into();
        self.name_certificates(work, &mut body);
        let made = self.session.client.create(work.service.kind.collection(), &body).await;
        made.map_err(|error| self.failed(name, error.into()))
    }

    /// The certificates that the file names, as references.
    fn name_certificates(&self, work: &Work, body: &mut Value) {
        if let Some(id) = work.service.default_certificate.as_ref().and_then(|name| self.certificates.get(name)) {
            body["defaultCertificateId"] = json!(id);
        }
        let ids: Vec<&String> =
            work.service.certificates.iter().filter_map(|name| self.certificates.get(name)).collect();
        if !ids.is_empty() {
            body["certificateIds"] = json!(ids);
        }
    }

    fn failed(&self, name: &str, failure: Failure) -> Failure {
        self.session.progress.done(&self.title(name), &failure.message, false);
        failure
    }

    async fn work(
        &self,
        work: &Work,
        row: Resource,
        before: Vec<(&str, Condition, watch::Receiver<Outcome>)>,
        ids: &BTreeMap<&str, &str>,
    ) -> Result<Resource, Failure> {
        let name = &work.service.name;
        let steps = self.steps(work, row, before, ids).await;
        steps.map_err(|failure| self.failed(name, failure))
    }

    async fn steps(
        &self,
        work: &Work,
        mut row: Resource,
        before: Vec<(&str, Condition, watch::Receiver<Outcome>)>,
        ids: &BTreeMap<&str, &str>,
    ) -> Result<Resource, Failure> {
        let name = &work.service.name;
        let title = self.title(name);
        if let Some(Step::Create(_)) = work.steps.first() {
            row = self.session.client.wait_settled(&row, self.session.globals.timeout()).await?;
        }
        // Links do not wait for other services: they are there before anything runs.
        for step in &work.steps {
            if let Step::Link(links) = step {
                let links = links.iter().filter_map(|link| link_input(link, ids)).collect::<Vec<_>>();
                self.session.client.action(&row, "setservicelinks", &json!({"serviceLinks": links})).await?;
            }
        }
        let rest: Vec<&Step> =
            work.steps.iter().filter(|step| !matches!(step, Step::Create(_) | Step::Link(_))).collect();
        if rest.is_empty() {
            if !work.steps.is_empty() {
                self.session.progress.done(&title, row.state(), true);
            }
            return self.healthy(&title, row).await;
        }
        for (other, condition, outcome) in before {
            self.wait_for(&title, other, condition, outcome).await?;
        }
        for step in rest {
            let named;
            let step = match step {
                Step::Update(fields) => {
                    let mut fields = fields.clone();
                    self.name_certificates(work, &mut fields);
                    named = Step::Update(fields);
                    &named
                }
                step => step,
            };
            row = self.step(name, step, row).await?;
        }
        let row = self.healthy(&title, row).await?;
        self.session.progress.done(&title, row.state(), true);
        Ok(row)
    }

    /// Waits for a service this one comes after.
    async fn wait_for(
        &self,
        title: &str,
        other: &str,
        condition: Condition,
        mut outcome: watch::Receiver<Outcome>,
    ) -> Result<(), Failure> {
        let done = outcome.wait_for(|outcome| !matches!(outcome, Outcome::Pending)).await;
        let done = done.map(|outcome| outcome.clone()).unwrap_or(Outcome::Failed);
        let Outcome::Done(row) = done else {
            // A link is there whether its target runs or not; what was written as a condition must hold.
            return match condition {
                Condition::Started => Ok(()),
                _ => Err(Failure::new(exit::FAILED, format!("{title} was not started: {other} it depends on failed"))),
            };
        };
        let wanted = match condition {
            Condition::Started => return Ok(()),
            Condition::Healthy => "healthy",
            Condition::CompletedSuccessfully => "completed",
        };
        self.session.progress.say(title, "waiting", Some(&format!("for {other} to be {wanted}")));
        let judge = |row: &Resource| match (condition, row.text("healthState")) {
            (_, "started-once") | (Condition::Healthy, "healthy") => Verdict::Done,
            _ if row.has_failed() => Verdict::Failed(row.message().unwrap_or_default().to_owned()),
            _ => Verdict::NotYet,
        };
        let row = self.session.client.wait(&row, self.session.globals.timeout(), judge, |_| {}).await?;
        if condition == Condition::CompletedSuccessfully {
            for container in resolve::containers_of(&self.session.client, &row).await? {
                let code = container.int("exitCode").unwrap_or(0);
                if code != 0 {
                    let message = format!("{title} was not started: {} ended with exit code {code}", container.title());
                    return Err(Failure::new(exit::FAILED, message).hint(format!("`remuda logs {other}` shows why")));
                }
            }
        }
        Ok(())
    }

    /// One step, and the end of what it started.
    async fn step(&self, name: &str, step: &Step, row: Resource) -> Result<Resource, Failure> {
        let progress = &self.session.progress;
        let null = Value::Null;
        let scaled;
        let (change, said, goal): (Change<'_>, &str, fn(&Resource) -> Verdict) = match step {
            Step::Create(_) | Step::Link(_) => return Ok(row),
            Step::Settle if self.patience == Patience::None => return Ok(row),
            Step::Update(fields) => (Change::Update(fields), "Updating", settled),
            Step::Upgrade(input) => (Change::Action("upgrade", input), "Upgrading", upgraded),
            Step::Finish => (Change::Action("finishupgrade", &null), "Confirming", settled),
            Step::Rollback => (Change::Action("rollback", &null), "Rolling back", settled),
            Step::Scale(scale) => {
                scaled = json!({"scale": scale});
                (Change::Update(&scaled), "Setting scale", settled)
            }
            Step::Activate => (Change::Action("activate", &null), "Starting", active),
            Step::Settle => {
                let title = self.title(name);
                let watch = |row: &Resource| progress.row(&title, row);
                return Ok(self.session.client.wait(&row, self.session.globals.timeout(), settled, watch).await?);
            }
            Step::Restart(input) => (Change::Action("restart", input), "Restarting", active),
        };
        let title = self.title(name);
        match step {
            Step::Scale(scale) => progress.old(&format!("Setting scale {name}={scale}...")),
            Step::Update(_) | Step::Upgrade(_) => progress.old(&format!("{said} {name}")),
            _ => progress.old(&format!("[{name}]: {said} ")),
        }
        let limit = self.session.globals.timeout();
        let watch = |row: &Resource| progress.row(&title, row);
        progress.say(&title, &said.to_lowercase(), None);
        let sent = match step {
            // Others may have started it meanwhile, as the server does for what others link to.
            Step::Activate if self.session.client.reload(&row).await?.state() == "active" => row,
            _ => self.session.client.change(&row, change, limit, watch).await?,
        };
        if self.patience == Patience::None && !matches!(step, Step::Upgrade(_) | Step::Update(_) | Step::Finish) {
            return Ok(sent);
        }
        let row = self.session.client.wait(&sent, limit, goal, watch).await?;
        if matches!(step, Step::Activate) {
            progress.old(&format!("[{name}]: Started "));
        }
        Ok(row)
    }

    /// The same service, healthy if that is waited for.
    async fn healthy(&self, title: &str, row: Resource) -> Result<Resource, Failure> {
        if self.patience != Patience::Healthy {
            return Ok(row);
        }
        let watch = |row: &Resource| self.session.progress.row(title, row);
        Ok(self.session.client.wait(&row, self.session.globals.timeout(), healthy, watch).await?)
    }

    async fn remove(&self, row: &Resource) -> Result<(), Failure> {
        let title = self.title(row.name());
        let removed = remove(self.session, &title, row).await;
        removed.inspect_err(|failure| self.session.progress.done(&title, &failure.message, false))
    }
}

fn active(row: &Resource) -> Verdict {
    match settled(row) {
        Verdict::Done if row.state() != "active" => Verdict::Failed(format!("it is {}", row.state())),
        verdict => verdict,
    }
}

/// An upgrade ends upgraded, or confirmed by whoever was quicker.
fn upgraded(row: &Resource) -> Verdict {
    match settled(row) {
        Verdict::Done if !matches!(row.state(), "upgraded" | "active") => {
            Verdict::Failed(format!("it is {}", row.state()))
        }
        verdict => verdict,
    }
}

/// Healthy where there is something to tell it by.
pub fn healthy(row: &Resource) -> Verdict {
    match (settled(row), row.text("healthState")) {
        (Verdict::Done, "" | "healthy" | "started-once") => Verdict::Done,
        (Verdict::Done, _) => Verdict::NotYet,
        (verdict, _) => verdict,
    }
}

fn link_input(link: &LinkTo, ids: &BTreeMap<&str, &str>) -> Option<Value> {
    let id = match &link.target {
        Target::Id(id) => id.as_str(),
        Target::Planned(name) => ids.get(name.as_str())?,
    };
    let mut input = json!({"serviceId": id});
    if let Some(alias) = &link.alias {
        input["name"] = json!(alias);
    }
    if !link.ports.is_empty() {
        input["ports"] = json!(link.ports);
    }
    Some(input)
}

/// Deletes one resource and waits until it is gone.
pub async fn remove(session: &Session, title: &str, row: &Resource) -> Result<(), Failure> {
    let gone = |row: &Resource| match row.state() {
        "removed" | "purging" | "purged" => Verdict::Done,
        _ if row.has_failed() => Verdict::Failed(row.message().unwrap_or_default().to_owned()),
        _ => Verdict::NotYet,
    };
    let watch = |row: &Resource| session.progress.row(title, row);
    let limit = session.globals.timeout();
    session.progress.old(&format!("[{}]: Deleting ", row.name()));
    let row = match session.client.change(row, Change::Delete, limit, watch).await {
        Ok(row) => row,
        // Somebody was quicker, and it is gone for good.
        Err(error) if error.is_not_found() => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    match session.client.wait(&row, limit, gone, watch).await {
        Ok(_) => {}
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error.into()),
    }
    session.progress.done(title, "removed", true);
    session.progress.old(&format!("[{}]: Deleted ", row.name()));
    Ok(())
}
