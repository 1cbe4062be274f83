//! From what people type to resources (`cli.md` §5): ids, `stack/service`, `stack/service#2`, names, `kind:name`.

use futures_util::future::join_all;
use remuda_client::{Client, Resource};

use crate::failure::{Failure, exit};

/// A kind of thing people name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    Service,
    Stack,
    Container,
    Host,
    Volume,
}

impl Kind {
    pub const ALL: &'static [Kind] = &[Kind::Service, Kind::Stack, Kind::Container, Kind::Host, Kind::Volume];

    /// Word for people, also the prefix `kind:`.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Service => "service",
            Kind::Stack => "stack",
            Kind::Container => "container",
            Kind::Host => "host",
            Kind::Volume => "volume",
        }
    }

    /// Collection of the API.
    pub fn collection(self) -> &'static str {
        match self {
            Kind::Service => "services",
            Kind::Stack => "environments",
            Kind::Container => "containers",
            Kind::Host => "hosts",
            Kind::Volume => "volumes",
        }
    }

    fn of_id(id: &str) -> Option<Kind> {
        let letters = id.strip_prefix('1')?.trim_end_matches(|letter: char| letter.is_ascii_digit());
        let kind = match letters {
            "s" => Kind::Service,
            "e" => Kind::Stack,
            "i" => Kind::Container,
            "h" => Kind::Host,
            "v" => Kind::Volume,
            _ => return None,
        };
        (id.len() > letters.len() + 1).then_some(kind)
    }
}

/// One resource of those kinds. `stack`: whose services a bare name means first.
pub async fn one(client: &Client, text: &str, kinds: &[Kind], stack: Option<&str>) -> Result<Resource, Failure> {
    let (text, kinds) = match text.split_once(':') {
        Some((word, name)) => match Kind::ALL.iter().find(|kind| kind.word() == word && kinds.contains(kind)) {
            Some(kind) => (name, vec![*kind]),
            None => (text, kinds.to_vec()),
        },
        None => (text, kinds.to_vec()),
    };
    if let Some(kind) = Kind::of_id(text).filter(|kind| kinds.contains(kind))
        && let Some(found) = client.by_id(kind.collection(), text).await?
    {
        return Ok(found);
    }
    let mut found = Vec::new();
    if let Some((stack_name, rest)) = text.split_once('/') {
        let (service_name, number) = match rest.split_once('#') {
            Some((service, number)) => (service, Some(number)),
            None => (rest, None),
        };
        if let Some(stack) = stack_named(client, stack_name).await? {
            let filters = [("environmentId", stack.id()), ("name", service_name), ("removed_null", "true")];
            for service in client.list("services", &filters).await? {
                if kinds.contains(&Kind::Service) && number.is_none() {
                    found.push(service);
                } else if kinds.contains(&Kind::Container) {
                    found.extend(container_of(client, &service, number).await?);
                }
            }
        }
    } else {
        for rows in join_all(kinds.iter().map(|kind| named(client, *kind, text))).await {
            found.extend(rows?);
        }
        if let Some(stack) = stack {
            let mine = services_of(client, stack, text).await?;
            if kinds.contains(&Kind::Service) && !mine.is_empty() {
                found = mine;
            }
        }
        let containers_only = kinds.contains(&Kind::Container) && !kinds.contains(&Kind::Service);
        if found.is_empty() && containers_only {
            // A bare service name means its first container, that of the project at hand before any other.
            let mut services = match stack {
                Some(stack) => services_of(client, stack, text).await?,
                None => Vec::new(),
            };
            if services.is_empty() {
                services = client.list("services", &[("name", text), ("removed_null", "true")]).await?;
            }
            for service in services {
                found.extend(container_of(client, &service, None).await?);
            }
        }
    }
    let words: Vec<&str> = kinds.iter().map(|kind| kind.word()).collect();
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => {
            let near = near(client, &kinds, text).await;
            Err(Failure::new(exit::NOT_FOUND, format!("no {} is called `{text}`", words.join(" or ")))
                .hint(near.unwrap_or_else(|| "`remuda ps` lists what there is".to_owned())))
        }
        _ => {
            let list: String =
                found.iter().map(|resource| format!("\n  {}  ({})", resource.id(), resource.title())).collect();
            Err(Failure::new(exit::NOT_FOUND, format!("`{text}` is several things; say which:{list}")))
        }
    }
}

/// A name that may have been meant. A guess is not worth an error of its own.
async fn near(client: &Client, kinds: &[Kind], text: &str) -> Option<String> {
    let mut names = Vec::new();
    let last = text.rsplit('/').next().unwrap_or(text).split('#').next().unwrap_or(text);
    for kind in kinds {
        let all = client.list(kind.collection(), &[("removed_null", "true")]).await.ok()?;
        names.extend(all.iter().map(|resource| resource.name().to_owned()).filter(|name| !name.is_empty()));
    }
    let found = remuda_compose::problem::nearest(last, names.iter().map(String::as_str))?;
    (found != last).then(|| format!("did you mean `{found}`?"))
}

/// The live stack of that name, whatever its case.
pub async fn stack_named(client: &Client, name: &str) -> Result<Option<Resource>, Failure> {
    // Most often it is written as it is called.
    let exact = client.list("environments", &[("name", name), ("removed_null", "true")]).await?;
    if let Some(stack) = exact.into_iter().find(|stack| stack.state() != "removing") {
        return Ok(Some(stack));
    }
    let stacks = client.list("environments", &[("removed_null", "true")]).await?;
    Ok(stacks.into_iter().find(|stack| stack.name().eq_ignore_ascii_case(name) && stack.state() != "removing"))
}

async fn services_of(client: &Client, stack: &str, name: &str) -> Result<Vec<Resource>, Failure> {
    let Some(stack) = stack_named(client, stack).await? else { return Ok(Vec::new()) };
    Ok(client.list("services", &[("environmentId", stack.id()), ("name", name), ("removed_null", "true")]).await?)
}

async fn named(client: &Client, kind: Kind, name: &str) -> Result<Vec<Resource>, Failure> {
    match kind {
        Kind::Stack => Ok(stack_named(client, name).await?.into_iter().collect()),
        Kind::Host => {
            let hosts = client.list("hosts", &[("removed_null", "true")]).await?;
            Ok(hosts.into_iter().filter(|host| host.name() == name || host.text("hostname") == name).collect())
        }
        _ => Ok(client.list(kind.collection(), &[("name", name), ("removed_null", "true")]).await?),
    }
}

/// The containers of a service, by number.
pub async fn containers_of(client: &Client, service: &Resource) -> Result<Vec<Resource>, Failure> {
    let mut containers = client.follow(service, "instances").await?;
    containers.retain(|container| container.get("removed").is_null());
    containers.sort_by_key(|container| (container.int("createIndex"), container.id().len(), container.id().to_owned()));
    Ok(containers)
}

async fn container_of(client: &Client, service: &Resource, number: Option<&str>) -> Result<Option<Resource>, Failure> {
    let containers = containers_of(client, service).await?;
    Ok(match number {
        Some(number) => containers.into_iter().find(|container| container.name().ends_with(&format!("_{number}"))),
        None => {
            let running = containers.iter().position(|container| container.state() == "running");
            containers.into_iter().nth(running.unwrap_or(0))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_tell_their_kind() {
        for (id, kind) in [
            ("1s5", Some(Kind::Service)),
            ("1i12", Some(Kind::Container)),
            ("1e", None),
            ("web", None),
            ("1sem4", None),
        ] {
            assert_eq!(Kind::of_id(id), kind, "{id}");
        }
    }
}
