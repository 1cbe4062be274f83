//! Stacks from compose files, and back to files (`services.md` §3.1, §14; `compose.md` §1, §12). Compiling is the
//! business of `compose`, making the services that of the orchestrator; here the two meet: variables go in, every
//! compiled service is held against the API's declarations, and what is wrong becomes a sentence with its place.

use std::collections::BTreeMap;

use remuda_compose::diff::NO_IMAGE;
use remuda_compose::export::{self, Export, Exported, Format};
use remuda_compose::{Condition, Diff, Kind, Link, Problems, Project, Question, SourceFile, Sources, questions};
use remuda_model::{
    Certificate, ComposeConfig, EnvironmentUpgrade, Service, ServiceChange, Stack, StackUpgrade, Until, Volume,
};
use remuda_orchestrator::commands::stack_files::{self, FilesError, Wanted, WantedLink, sentence};
use remuda_orchestrator::commands::{self, Context, stack_upgrade};
use remuda_orchestrator::plan::Audit;
use remuda_orchestrator::steps;
use remuda_schema::id::{Decoded, decode, encode};
use remuda_schema::input::Operation;
use remuda_schema::output::Secrets;
use remuda_schema::row::Object;
use remuda_schema::{AnyRow, ApiError, Code, Id, Resource, Row, Schema};
use remuda_store::{Query, Read, Scope, Tx};
use serde_json::{Value, json};

use crate::call::Call;
use crate::failure::Failure;
use crate::handlers::write::{Written, checked, context, shown};
use crate::lookup;
use crate::managers::check_images;
use crate::policy;
use crate::render;
use crate::zip;

/// What the two texts are called in messages and in the archive.
const DOCKER_COMPOSE: &str = "docker-compose.yml";
const RANCHER_COMPOSE: &str = "rancher-compose.yml";

/// What `up --upgrade` takes when nothing else is said.
const BATCH_SIZE: i64 = 2;
const INTERVAL_MS: i64 = 1000;

/// Most problems that a message names.
const MAX_TOLD: usize = 10;

/// Why files do not become services here.
enum Refused {
    /// For the person who wrote them.
    Files(String),
    Failure(Box<Failure>),
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Refused {
        Refused::Failure(Box::new(failure))
    }
}

impl From<FilesError> for Refused {
    fn from(error: FilesError) -> Refused {
        match error {
            FilesError::Files(text) => Refused::Files(text),
            FilesError::Command(error) => Failure::from(error).into(),
        }
    }
}

/// After a stack was made: its files become services. What is wrong with them is the stack's state, not the request's:
/// clients of the original find it there.
pub fn created(tx: &mut Tx<'_>, call: &Call, row: &mut AnyRow, context: &Context) -> Result<(), Failure> {
    if !stack_files::is_due(row) {
        return Ok(());
    }
    match make_services(tx, call, row, context) {
        Ok(()) => Ok(()),
        Err(Refused::Failure(failure)) => Err(*failure),
        Err(Refused::Files(why)) => {
            let def = call.def(Stack::TYPE).ok_or_else(|| Failure::internal("stacks are not declared"))?;
            Ok(stack_files::fail(tx, def, row, &why)?)
        }
    }
}

fn make_services(tx: &mut Tx<'_>, call: &Call, row: &AnyRow, context: &Context) -> Result<(), Refused> {
    let stack: Row<Stack> = row.typed().map_err(Failure::from)?;
    let answers = stack.environment.clone().unwrap_or_default();
    let name = stack.meta.name.clone().unwrap_or_default();
    let files = Files {
        docker_compose: stack.docker_compose.as_deref().unwrap_or_default(),
        rancher_compose: stack.rancher_compose.as_deref(),
        stack: &name,
    };
    let project = compile(files, &answers).map_err(Refused::Files)?;
    let wanted = wanted(tx, call, row, &project)?;
    make_volumes(tx, call, context, &project)?;
    tell_warnings(tx, row, &project)?;
    stack_files::create(tx, context, row, &wanted, stack.start_on_create == Some(true))?;
    Ok(())
}

/// The texts of a stack.
#[derive(Clone, Copy)]
struct Files<'a> {
    docker_compose: &'a str,
    rancher_compose: Option<&'a str>,
    /// Its name: part of the names of volumes.
    stack: &'a str,
}

/// Compiles the texts with these answers as the only variables, and the defaults of questions after them.
fn compile(files: Files<'_>, answers: &BTreeMap<String, String>) -> Result<Project, String> {
    let source = |name: &str, text: &str| SourceFile { name: name.to_owned(), text: text.to_owned() };
    let asked = |variables| Sources {
        rancher: files.rancher_compose.map(|text| source(RANCHER_COMPOSE, text)),
        stack: Some(files.stack.to_owned()),
        ..Sources::of(source(DOCKER_COMPOSE, files.docker_compose), variables)
    };
    let given = |name: &str| answers.get(name).cloned();
    let questions = questions::of(&asked(&given));
    for question in &questions {
        check_answer(question, answers)?;
    }
    let or_default = |name: &str| {
        let default = || questions.iter().find(|question| question.variable == name)?.default.clone();
        answers.get(name).cloned().or_else(default)
    };
    let project = remuda_compose::compile(&asked(&or_default)).map_err(|problems| told(&problems))?;
    if let Some(service) = project.services.iter().find(|service| !service.builds.is_empty()) {
        return Err(format!("{}: {}: an image cannot be built from a text alone", service.place, service.name));
    }
    if let Some(secret) = project.secrets.first() {
        return Err(format!(
            "{}: a {} cannot be made from a text alone; `remuda up` sends it",
            secret.place, secret.kind
        ));
    }
    Ok(project)
}

fn check_answer(question: &Question, answers: &BTreeMap<String, String>) -> Result<(), String> {
    let answer = answers.get(&question.variable).or(question.default.as_ref()).map_or("", String::as_str);
    question.check(answer).map_err(|why| format!("the answer to `{}` will not do: {why}", question.variable))
}

/// The first problems, one a line.
fn told(Problems(problems): &Problems) -> String {
    let mut lines: Vec<String> = problems.iter().take(MAX_TOLD).map(ToString::to_string).collect();
    if problems.len() > MAX_TOLD {
        lines.push(format!("and {} more", problems.len() - MAX_TOLD));
    }
    lines.join("\n")
}

/// Volumes of drivers that keep them outside a host are resources; those that are not there are made, unless the file
/// says that they are.
fn make_volumes(tx: &mut Tx<'_>, call: &Call, context: &Context, project: &Project) -> Result<(), Refused> {
    let def = call.def(Volume::TYPE).ok_or_else(|| Failure::internal("volumes are not declared"))?;
    for volume in project.volumes.iter().filter(|volume| volume.is_resource()) {
        let named = Query::new().eq("name", volume.real_name.as_str());
        let exists = tx.count_any(def, &Scope::Account(context.account_id), &named).map_err(Failure::from)? > 0;
        if !exists && volume.external {
            return Err(Refused::Files(format!("{DOCKER_COMPOSE}: there is no volume `{}`", volume.real_name)));
        }
        if !exists {
            let fields = json!({"name": volume.real_name, "driver": volume.driver, "driverOpts": volume.driver_opts});
            let fields = fields.as_object().cloned().unwrap_or_default();
            commands::create(tx, context, def, fields).map_err(Failure::from)?;
        }
    }
    Ok(())
}

/// What the compiler has to say about files that compile goes into the log of the stack.
fn tell_warnings(tx: &mut Tx<'_>, stack: &AnyRow, project: &Project) -> Result<(), Refused> {
    for warning in project.warnings.iter().take(MAX_TOLD) {
        let meta = &stack.meta;
        let line = Audit::of(meta.account_id, "stack.compile", Stack::TYPE, meta.id, &warning.to_string());
        steps::audit(tx, &line).map_err(Failure::from)?;
    }
    Ok(())
}

/// Compiled services as the API takes them.
fn wanted(tx: &Tx<'_>, call: &Call, stack: &AnyRow, project: &Project) -> Result<Vec<Wanted>, Refused> {
    let stack_id = remuda_schema::id::encode(Stack::TABLE, stack.meta.id);
    project.services.iter().map(|service| one_wanted(tx, call, &stack_id, service)).collect()
}

fn one_wanted(tx: &Tx<'_>, call: &Call, stack_id: &str, service: &remuda_compose::Service) -> Result<Wanted, Refused> {
    let refuse = |what: String| Refused::Files(format!("{}: {}: {what}", service.place, service.name));
    let resource = service.kind.resource();
    let (Some(schema), Some(def)) = (call.schemas.get(resource), call.def(resource)) else {
        return Err(refuse(format!("this server has no {resource} yet")));
    };
    let body = service.body(stack_id);
    let mut body = body.as_object().cloned().unwrap_or_default();
    name_certificates(tx, call, service, &mut body)?;
    let fields = match checked(tx, call, schema.name, Operation::Create, &body) {
        Err(Failure::Api(error)) => return Err(refuse(sentence(&error))),
        fields => fields?,
    };
    check_images(call, &fields).map_err(|error| refuse(sentence(&error)))?;
    let links = service.links.iter().map(|link| WantedLink {
        stack: link.stack.clone(),
        target: link.target.clone(),
        alias: link.alias.clone(),
        ports: link.ports.clone(),
    });
    let linked = service.links.iter().filter(|link| link.stack.is_none());
    let linked = linked.map(|link| (link.target.clone(), Until::Active));
    let depends = service.depends_on.iter().map(|edge| {
        let until = match edge.condition {
            Condition::Started => Until::Active,
            Condition::Healthy => Until::Healthy,
            Condition::CompletedSuccessfully => Until::Completed,
        };
        (edge.target.clone(), until)
    });
    Ok(Wanted {
        def,
        name: service.name.clone(),
        fields,
        links: links.collect(),
        after: depends.chain(linked).collect(),
        place: service.place.clone(),
    })
}

/// Certificates of a load balancer by name become references.
fn name_certificates(
    tx: &Tx<'_>,
    call: &Call,
    service: &remuda_compose::Service,
    body: &mut Object,
) -> Result<(), Refused> {
    let named = service.default_certificate.iter().chain(&service.certificates);
    let Some(def) = call.def(Certificate::TYPE).filter(|_| named.clone().next().is_some()) else { return Ok(()) };
    let id = |name: &String| -> Result<Value, Refused> {
        let query = Query::new().eq("name", name.as_str());
        let found =
            tx.list_any(def, &policy::scope(&call.principal, Certificate::TABLE), &query).map_err(Failure::from)?;
        let found = found.iter().find(|row| row.meta.is_live());
        let missing =
            || Refused::Files(format!("{}: {}: Failed to find certificate {name}", service.place, service.name));
        found.map(|row| encode(Certificate::TABLE, row.meta.id).into()).ok_or_else(missing)
    };
    if let Some(name) = &service.default_certificate {
        body.insert("defaultCertificateId".to_owned(), id(name)?);
    }
    if !service.certificates.is_empty() {
        let ids: Vec<Value> = service.certificates.iter().map(id).collect::<Result<_, _>>()?;
        body.insert("certificateIds".to_owned(), ids.into());
    }
    Ok(())
}

/// `upgrade`: what the new files change is found out at once, so that wrong files are refused and change nothing. New
/// services are made here; what changes in the others is the stack's to do.
pub fn upgrade(
    tx: &mut Tx<'_>,
    call: &Call,
    schema: &'static Schema,
    row: &AnyRow,
    input: &Object,
) -> Result<Written, Failure> {
    stack_upgrade::check_offered(row, "upgrade")?;
    let context = Context { account_id: row.meta.account_id.unwrap_or_default(), ..context(call) };
    let stack: Row<Stack> = row.typed()?;
    let pending = match &stack.docker_compose {
        None => None,
        Some(_) => match pending_upgrade(tx, call, row, &stack, input, &context) {
            Ok(pending) => Some(pending),
            Err(Refused::Failure(failure)) => return Err(*failure),
            Err(Refused::Files(why)) => {
                return Err(ApiError::field(Code::InvalidFormat, "dockerCompose").because(why).into());
            }
        },
    };
    let row = stack_upgrade::begin(tx, &context, row.clone(), pending)?;
    shown(call, schema, &row, 202, Secrets::Shown)
}

fn pending_upgrade(
    tx: &mut Tx<'_>,
    call: &Call,
    row: &AnyRow,
    stack: &Row<Stack>,
    input: &Object,
    context: &Context,
) -> Result<StackUpgrade, Refused> {
    let wish: EnvironmentUpgrade = serde_json::from_value(Value::Object(input.clone()))
        .map_err(|error| Failure::from(ApiError::new(Code::InvalidFormat).because(error.to_string())))?;
    let given = |text: &Option<String>| text.clone().filter(|text| !text.trim().is_empty());
    let (docker, rancher) = match given(&wish.docker_compose) {
        Some(docker) => (docker, given(&wish.rancher_compose)),
        // New answers to the same files.
        None => {
            let own = stack.rancher_compose.clone();
            (stack.docker_compose.clone().unwrap_or_default(), given(&wish.rancher_compose).or(own))
        }
    };
    let mut environment = stack.environment.clone().unwrap_or_default();
    environment.extend(wish.environment.unwrap_or_default());
    let name = stack.meta.name.clone().unwrap_or_default();
    let files = Files { docker_compose: &docker, rancher_compose: rancher.as_deref(), stack: &name };
    let project = compile(files, &environment).map_err(Refused::Files)?;
    let wanted = wanted(tx, call, row, &project)?;
    let present = lookup::children(tx, call, "service", "environmentId", [row.meta.id])?;
    let present = |name: &str| {
        let is_same = |row: &&AnyRow| {
            row.meta.is_live() && row.meta.name.as_deref().is_some_and(|of| of.eq_ignore_ascii_case(name))
        };
        present.iter().find(is_same)
    };
    make_volumes(tx, call, context, &project)?;
    tell_warnings(tx, row, &project)?;
    let missing: Vec<Wanted> = wanted.iter().filter(|service| present(&service.name).is_none()).cloned().collect();
    let made = stack_files::create(tx, context, row, &missing, true)?;
    let kept: Vec<(&AnyRow, &Wanted)> =
        wanted.iter().filter_map(|service| Some((present(&service.name)?, service))).collect();
    kept.iter().try_for_each(|(_, service)| stack_files::check(context, service))?;
    stack_files::write_links(tx, context, row, &kept)?;
    let mut changes = Vec::new();
    for (idx, service) in project.services.iter().enumerate() {
        let Some(row) = present(&service.name) else { continue };
        // In the order of the files, so that no two wait for each other.
        let before = &wanted[..idx];
        let after = wanted[idx].after.iter().filter(|(name, _)| before.iter().any(|other| other.name == *name));
        let after = after.filter_map(|(name, _)| Some(Id::new(present(name)?.meta.id))).collect();
        changes.extend(change(tx, call, service, row, after)?);
    }
    let mut services: Vec<Id<Service>> = changes.iter().map(|change| change.service).collect();
    services.extend(made);
    Ok(StackUpgrade { external_id: wish.external_id, environment, changes, services, retry_at: None })
}

/// What the file changes in a service that is there; nothing for most.
fn change(
    tx: &Tx<'_>,
    call: &Call,
    service: &remuda_compose::Service,
    row: &AnyRow,
    after: Vec<Id<Service>>,
) -> Result<Option<ServiceChange>, Refused> {
    let refuse = |what: String| Refused::Files(format!("{}: {}: {what}", service.place, service.name));
    let resource = service.kind.resource();
    if row.meta.kind != resource {
        return Err(refuse(format!("it is a {} already, and cannot become a {resource}", row.meta.kind)));
    }
    let schema = call.schemas.get(resource).ok_or_else(|| Failure::internal(format!("`{resource}` is not visible")))?;
    let shown = render::resource(call, schema, row, Secrets::Masked)?.to_value();
    let diff = remuda_compose::diff(service, &shown);
    let mut body = Object::new();
    if diff.service {
        body.extend(service.api.iter().filter(|(name, _)| *name != "scale").map(|(k, v)| (k.clone(), v.clone())));
        name_certificates(tx, call, service, &mut body)?;
    }
    let scale = service.declared_scale.filter(|scale| shown["scale"].as_i64() != Some(*scale));
    body.extend(scale.map(|scale| ("scale".to_owned(), Value::from(scale))));
    let api = |error: Failure| match error {
        Failure::Api(error) => refuse(sentence(&error)),
        failure => failure.into(),
    };
    let fields = checked(tx, call, schema.name, Operation::Update, &body).map_err(api)?;
    let upgrade = diff.needs_upgrade().then(|| upgrade_input(service, &diff));
    let upgrade = upgrade.map(|input| checked(tx, call, "serviceUpgrade", Operation::Create, &input).map_err(api));
    let upgrade = upgrade.transpose()?;
    let is_change = !fields.is_empty() || upgrade.is_some();
    Ok(is_change.then(|| ServiceChange { service: Id::new(row.meta.id), after, fields, upgrade }))
}

/// Input of the service's own `upgrade`: the launch configs that differ.
fn upgrade_input(service: &remuda_compose::Service, diff: &Diff) -> Object {
    let own = service.api.get("secondaryLaunchConfigs").and_then(Value::as_array).into_iter().flatten();
    let differs = |config: &&Value| {
        let name = config["name"].as_str().unwrap_or_default();
        diff.sidekicks_changed.iter().chain(&diff.sidekicks_added).any(|changed| changed == name)
    };
    let gone = diff.sidekicks_removed.iter().map(|name| json!({"name": name, "imageUuid": NO_IMAGE}));
    let sidekicks: Vec<Value> = own.filter(differs).cloned().chain(gone).collect();
    let mut strategy = json!({
        "batchSize": service.upgrade_strategy.batch_size.unwrap_or(BATCH_SIZE),
        "intervalMillis": service.upgrade_strategy.interval_ms.unwrap_or(INTERVAL_MS),
        "startFirst": service.upgrade_strategy.start_first.unwrap_or(false),
    });
    if diff.launch_config {
        strategy["launchConfig"] = service.api.get("launchConfig").cloned().unwrap_or_default();
    }
    if !sidekicks.is_empty() {
        strategy["secondaryLaunchConfigs"] = sidekicks.into();
    }
    Object::from_iter([("inServiceStrategy".to_owned(), strategy)])
}

/// `exportconfig`: services as files.
pub fn export_config(
    tx: &Tx<'_>,
    call: &Call,
    schema: &'static Schema,
    row: &AnyRow,
    input: &Object,
) -> Result<Written, Failure> {
    let named: Vec<i64> =
        input.get("serviceIds").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_i64).collect();
    let Export { docker_compose, rancher_compose } = files_of(tx, call, row, &named)?;
    let answer =
        ComposeConfig { docker_compose_config: Some(docker_compose), rancher_compose_config: Some(rancher_compose) };
    let answer = serde_json::to_value(answer).map_err(|error| Failure::internal(error.to_string()))?;
    let document = answer.as_object().map(|answer| render::value(call, "composeConfig", answer));
    Ok(Written { status: 200, document, resource_type: schema.name, resource_id: Some(row.meta.id) })
}

/// The file behind the link `composeConfig`: the two texts in one archive.
pub fn archive(read: &Read<'_>, call: &Call, row: &AnyRow) -> Result<Vec<u8>, Failure> {
    let files = files_of(read, call, row, &[])?;
    Ok(zip::archive(&[
        (DOCKER_COMPOSE, files.docker_compose.as_bytes()),
        (RANCHER_COMPOSE, files.rancher_compose.as_bytes()),
    ]))
}

/// The files of a stack's services: of these, or of all.
fn files_of(read: &Read<'_>, call: &Call, stack: &AnyRow, named: &[i64]) -> Result<Export, Failure> {
    let Some(schema) = call.schemas.get("service") else { return Ok(Export::default()) };
    let mut rows = lookup::children(read, call, "service", "environmentId", [stack.meta.id])?;
    rows.retain(|row| row.meta.removed.is_none() && row.meta.state != "removed");
    if let Some(stranger) = named.iter().find(|id| rows.iter().all(|row| row.meta.id != **id)) {
        let id = call.public_id(schema, *stranger);
        return Err(ApiError::field(Code::InvalidReference, "serviceIds")
            .because(format!("{id} is no service of the stack"))
            .into());
    }
    rows.retain(|row| named.is_empty() || named.contains(&row.meta.id));
    rows.sort_by_key(|row| row.meta.name.clone());
    let links = links_of(read, call, stack, &rows)?;
    let shown = rows
        .iter()
        .map(|row| Ok((row.meta.id, render::resource(call, schema, row, Secrets::Masked)?.to_value())))
        .collect::<Result<Vec<_>, Failure>>()?;
    let certificates = certificate_names(read, call, &rows)?;
    let exported: Vec<Exported<'_>> = shown
        .iter()
        .filter_map(|(id, api)| {
            let kind = Kind::of(api["type"].as_str().unwrap_or_default())?;
            let links = links.get(id).cloned().unwrap_or_default();
            let named = |id: &Value| certificates.get(&number_of(id)?).cloned();
            let more = api["certificateIds"].as_array().into_iter().flatten();
            Some(Exported {
                kind,
                api: Some(api),
                links,
                default_certificate: named(&api["defaultCertificateId"]),
                certificates: more.filter_map(named).collect(),
            })
        })
        .collect();
    Ok(export::export(&exported, Format::V1, "\r\n"))
}

/// Names of the certificates that those services use, by number.
fn certificate_names(read: &Read<'_>, call: &Call, rows: &[AnyRow]) -> Result<BTreeMap<i64, String>, Failure> {
    let more = rows.iter().flat_map(|row| row.get("certificateIds").as_array().cloned().unwrap_or_default());
    let ids: Vec<i64> = more
        .chain(rows.iter().map(|row| row.get("defaultCertificateId").clone()))
        .filter_map(|id| id.as_i64())
        .collect();
    if ids.is_empty() {
        return Ok(BTreeMap::new());
    }
    let found = lookup::by_numbers(read, call, Certificate::TYPE, ids)?;
    Ok(found.into_iter().filter_map(|(id, row)| Some((id, row.meta.name?))).collect())
}

fn number_of(id: &Value) -> Option<i64> {
    match decode(id.as_str()?)? {
        Decoded::Number(number) => Some(number),
        _ => None,
    }
}

/// Links by the number of the service that has them, targets by name.
fn links_of(
    read: &Read<'_>,
    call: &Call,
    stack: &AnyRow,
    services: &[AnyRow],
) -> Result<BTreeMap<i64, Vec<Link>>, Failure> {
    let of = services.iter().map(|row| row.meta.id);
    let maps = lookup::connections(read, call, "serviceConsumeMap", "serviceId", of)?;
    let target = |map: &AnyRow| map.get("consumedServiceId").as_i64();
    let targets = lookup::by_numbers(read, call, "service", maps.iter().filter_map(target))?;
    let of_stack = |row: &AnyRow| row.get("environmentId").as_i64();
    let stacks = lookup::by_numbers(read, call, Stack::TYPE, targets.values().filter_map(of_stack))?;
    let mut links: BTreeMap<i64, Vec<Link>> = BTreeMap::new();
    for map in maps.iter().filter(|map| map.get("bySelector") != Value::Bool(true)) {
        let (Some(from), Some(to)) = (map.get("serviceId").as_i64(), target(map).and_then(|id| targets.get(&id)))
        else {
            continue;
        };
        let home = of_stack(to).filter(|id| *id != stack.meta.id);
        let home = match home.map(|id| stacks.get(&id).and_then(|row| row.meta.name.clone())) {
            Some(None) => continue,
            Some(name) => name,
            None => None,
        };
        let Some(target) = to.meta.name.clone() else { continue };
        let alias = map.meta.name.clone();
        let rules = map.get("ports");
        let rules = rules.as_array().into_iter().flatten().filter_map(Value::as_str);
        let ports = rules.map(str::to_owned).collect();
        links.entry(from).or_default().push(Link { target, stack: home, alias, ports });
    }
    Ok(links)
}
