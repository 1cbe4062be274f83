//! `config`: what compose files say when everything is resolved. Nothing is sent.

use remuda_compose::export::{Export, Exported, Format as Form, export};
use remuda_compose::{Condition, Service, order};
use serde_json::{Map, Value, json};

use crate::commands::images::When;
use crate::contexts;
use crate::failure::{Failure, exit};
use crate::globals::{Globals, ProjectOptions};
use crate::output::{Format, Out};
use crate::progress::Progress;
use crate::project::{self, Project};
use crate::session;

/// Print what compose files say.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  remuda config\n  remuda config --services\n  remuda config --explain\n  remuda config -o api        # the objects that `up` sends\n\nSee also: diff, up --dry-run"
)]
pub struct Args {
    #[command(flatten)]
    pub project: ProjectOptions,
    /// Print the names of the services only
    #[arg(long, group = "what")]
    services: bool,
    /// Print the images only
    #[arg(long, group = "what")]
    images: bool,
    /// Print the variables the files use, with their values
    #[arg(long, group = "what")]
    variables: bool,
    /// Print the hash of each service and of each of its launch configs
    #[arg(long, group = "what")]
    hash: bool,
    /// Say in words what each service is, what it waits for and where it is written
    #[arg(long, group = "what")]
    explain: bool,
}

pub async fn run(globals: &Globals, args: &Args) -> Result<u8, Failure> {
    let out = session::out(globals);
    let mut project = project::load(globals, &Progress::new(globals.progress))?;
    if args.hash || args.images || out.format == Format::Api {
        contexts::name(&mut project.compiled.services, When::Missing).await?;
    }
    let services = &project.compiled.services;
    if args.services {
        services.iter().try_for_each(|service| out.line(&service.name))?;
    } else if args.images {
        services.iter().flat_map(|service| &service.images).try_for_each(|image| out.line(image))?;
    } else if args.variables {
        for (name, value) in &project.compiled.variables {
            out.line(&value.as_ref().map_or_else(|| name.clone(), |value| format!("{name}={value}")))?;
        }
    } else if args.hash {
        for service in services {
            out.line(&format!("{} {}", service.name, service.hash))?;
            for (config, hash) in &service.lc_hashes {
                out.line(&format!("{}/{config} {hash}", service.name))?;
            }
        }
    } else if args.explain {
        out.text(&explained(&project))?;
    } else {
        print(&out, &project)?;
    }
    Ok(exit::DONE)
}

fn print(out: &Out, project: &Project) -> Result<(), Failure> {
    if out.format == Format::Api {
        return out.object(&objects(project));
    }
    let yaml = resolved(&project.compiled.services).docker_compose;
    if matches!(out.format, Format::Json | Format::Jsonl) {
        let value: Value =
            serde_saphyr::from_str(&yaml).map_err(|error| Failure::new(exit::FAILED, error.to_string()))?;
        return out.object(&value);
    }
    out.text(&yaml)
}

/// One file of today that says the same.
fn resolved(services: &[Service]) -> Export {
    let objects: Vec<Value> = services.iter().map(|service| Value::Object(service.api.clone())).collect();
    let exported = services.iter().zip(&objects).map(|(service, api)| Exported {
        kind: service.kind,
        api: Some(api),
        links: service.links.clone(),
        default_certificate: service.default_certificate.clone(),
        certificates: service.certificates.clone(),
    });
    export(&exported.collect::<Vec<_>>(), Form::Compose, "\n")
}

/// What `up` sends: inputs of services without their stack, links by name.
fn objects(project: &Project) -> Value {
    let services: Map<String, Value> = project
        .compiled
        .services
        .iter()
        .map(|service| {
            let links = service.links.iter().map(
                |link| json!({"service": link.target, "stack": link.stack, "alias": link.alias, "ports": link.ports}),
            );
            let mut body = service.api.clone();
            body.insert("links".to_owned(), links.collect());
            (service.name.clone(), Value::Object(body))
        })
        .collect();
    json!({"stack": project.stack, "services": services})
}

fn explained(project: &Project) -> String {
    let mut text = format!("stack {}\n", project.stack);
    for service in &project.compiled.services {
        text.push_str(&format!("\n{}  ({})\n", service.name, service.place));
        for (title, value) in facts(service) {
            if !value.is_empty() {
                text.push_str(&format!("  {title:<9} {value}\n"));
            }
        }
    }
    let waves = order(&project.compiled.services);
    if waves.len() > 1 {
        let waves =
            waves.iter().map(|wave| wave.iter().map(|service| service.name.as_str()).collect::<Vec<_>>().join(", "));
        text.push_str(&format!("\nstarted in this order: {}\n", waves.collect::<Vec<_>>().join("; then ")));
    }
    if !project.compiled.variables.is_empty() {
        text.push_str("\nvariables\n");
    }
    for (name, value) in &project.compiled.variables {
        let value = value.as_ref().map_or_else(|| "has no value".to_owned(), |value| format!("= {value}"));
        text.push_str(&format!("  {name} {value}\n"));
    }
    text
}

/// What is worth saying of a service; empty is not.
fn facts(service: &Service) -> Vec<(&'static str, String)> {
    let labels = &service.api.get("launchConfig").map(|config| config["labels"].clone()).unwrap_or_default();
    let is_global = labels["io.rancher.scheduler.global"] == "true";
    let scale = service.api.get("scale").and_then(Value::as_i64).unwrap_or(1);
    let scale = match (is_global, service.declared_scale) {
        (true, _) => "one on every host".to_owned(),
        (false, Some(declared)) => format!("{declared}, set by every `up` (`deploy.replicas`)"),
        (false, None) => format!("{scale} when it is created"),
    };
    let links = service.links.iter().map(|link| {
        let stack = link.stack.as_ref().map(|stack| format!("{stack}/")).unwrap_or_default();
        let alias = link.alias.as_ref().map(|alias| format!(" as {alias}")).unwrap_or_default();
        format!("{stack}{}{alias}", link.target)
    });
    let waits = service.depends_on.iter().map(|edge| {
        let condition = match edge.condition {
            Condition::Started => "started",
            Condition::Healthy => "healthy",
            Condition::CompletedSuccessfully => "completed",
        };
        format!("{} {condition}", edge.target)
    });
    let strategy = service.upgrade_strategy;
    let upgrade = [
        strategy.batch_size.map(|size| format!("{size} at a time")),
        strategy.interval_ms.map(|interval| format!("every {interval} ms")),
        strategy.start_first.filter(|first| *first).map(|_| "new ones first".to_owned()),
        strategy.rollback.then(|| "rolled back when it fails".to_owned()),
    ];
    let joined = |parts: Vec<String>| parts.join(", ");
    vec![
        ("is", service.kind.resource().to_owned()),
        ("image", service.images.join(", ")),
        ("build", joined(service.builds.iter().map(|build| build.directory.clone()).collect())),
        ("scale", scale),
        ("sidekicks", service.sidekicks.join(", ")),
        ("links", joined(links.collect())),
        ("waits for", joined(waits.collect())),
        ("upgrade", joined(upgrade.into_iter().flatten().collect())),
    ]
}

#[cfg(test)]
mod tests {
    use remuda_compose::{SourceFile, Sources, compile};

    use super::*;

    fn project(text: &str) -> Project {
        let none = |_: &str| None;
        let file = SourceFile { name: "compose.yaml".to_owned(), text: text.to_owned() };
        let compiled = compile(&Sources::of(file, &none)).expect("compiles");
        Project { stack: compiled.stack.clone(), compiled }
    }

    const TEXT: &str = "name: shop\nservices:\n  web:\n    image: nginx:1\n    links: ['db:store']\n    depends_on: {db: {condition: service_healthy}}\n    deploy: {replicas: 2, update_config: {parallelism: 1, order: start-first}}\n  db: {image: 'postgres:9', labels: {io.rancher.scheduler.global: 'true'}, healthcheck: {test: ['CMD', 'true']}}\n";

    #[test]
    fn the_resolved_file_says_the_same_again() {
        let first = project(TEXT);
        let yaml = resolved(&first.compiled.services).docker_compose;
        let again = project(&yaml);
        let hashes = |project: &Project| {
            project.compiled.services.iter().map(|service| service.hash.clone()).collect::<Vec<_>>()
        };
        assert_eq!(hashes(&first), hashes(&again), "{yaml}");
    }

    #[test]
    fn services_are_explained_in_words() {
        let expected = "stack shop\n\ndb  (compose.yaml:8)\n  is        service\n  image     postgres:9\n  scale     one on every host\n\nweb  (compose.yaml:3)\n  is        service\n  image     nginx:1\n  scale     2, set by every `up` (`deploy.replicas`)\n  links     db as store\n  waits for db healthy\n  upgrade   1 at a time, new ones first\n\nstarted in this order: db; then web\n";
        assert_eq!(explained(&project(TEXT)), expected);
    }
}
