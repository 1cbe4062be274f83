//! `export`: stacks of the server as compose files.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use remuda_client::Resource;
use remuda_compose::export::{Export, Exported, Format as Form, export};
use remuda_compose::{Kind as ServiceKind, Link};

use crate::complete;
use crate::failure::{Failure, exit};
use crate::found;
use crate::plan::Found;
use crate::resolve::Kind;
use crate::session::{Session, now_ms};

/// Write stacks as compose files.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  remuda export shop\n  remuda export --format v2 --dir . shop\n  remuda export --tar all.tar          # every stack\n\nSee also: config, up"
)]
pub struct Args {
    /// Stacks; with --dir or --tar all when none is named
    #[arg(value_name = "STACK", add = complete::stacks())]
    pub stacks: Vec<String>,
    /// Write STACK/docker-compose.yml and STACK/rancher-compose.yml into this directory
    #[arg(long, value_name = "DIR", conflicts_with = "tar")]
    pub dir: Option<PathBuf>,
    /// The same as a tar archive; `-` is stdout
    #[arg(long, value_name = "FILE")]
    pub tar: Option<PathBuf>,
    /// Form of the files
    #[arg(long, value_enum, default_value = "compose")]
    pub format: Format,
    /// As the old command line had --tar
    #[arg(short = 'f', hide = true, value_name = "FILE", conflicts_with_all = ["dir", "tar"])]
    pub file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Services at the top level, Rancher's keys in a file of their own
    V1,
    /// `version: '2'`, Rancher's keys in a file of their own
    V2,
    /// One file of today
    Compose,
}

/// A file to write, by its path below the target.
type Files = Vec<(String, String)>;

pub async fn run(session: &Session, args: Args) -> Result<u8, Failure> {
    let form = match args.format {
        Format::V1 => Form::V1,
        Format::V2 => Form::V2,
        Format::Compose => Form::Compose,
    };
    let tar = args.tar.or(args.file);
    let to_stdout = args.dir.is_none() && tar.is_none();
    let mut stacks = Vec::new();
    for name in &args.stacks {
        stacks.push(session.resolve(name, &[Kind::Stack]).await?);
    }
    if stacks.is_empty() && to_stdout && session.stack().is_some() {
        stacks.push(session.resolve(".", &[Kind::Stack]).await?);
    }
    if stacks.is_empty() {
        stacks = session.client.list("environments", &[("removed_null", "true")]).await?;
    }
    if to_stdout && stacks.len() != 1 {
        return Err(Failure::usage(format!("{} stacks do not fit on one output", stacks.len()))
            .hint("name one, or write all with `--dir DIR` or `--tar FILE`"));
    }
    let mut files = Files::new();
    for stack in stacks {
        let name = stack.name().to_owned();
        let found = found::in_stack(&session.client, stack).await?;
        let elsewhere = elsewhere(session, &found).await?;
        let written = written(&found, &elsewhere, form);
        if to_stdout {
            session.out.text(&written.docker_compose)?;
            if !written.rancher_compose.is_empty() {
                session.out.text(&format!("---\n# rancher-compose.yml\n{}", written.rancher_compose))?;
            }
        }
        files.push((format!("{name}/docker-compose.yml"), written.docker_compose));
        if !written.rancher_compose.is_empty() {
            files.push((format!("{name}/rancher-compose.yml"), written.rancher_compose));
        }
    }
    match (&args.dir, &tar) {
        (Some(dir), _) => into_directory(dir, &files)?,
        (None, Some(path)) if path == Path::new("-") => session.out.bytes(&archive(&files)?)?,
        (None, Some(path)) => std::fs::write(path, archive(&files)?)
            .map_err(|error| Failure::new(exit::FAILED, format!("cannot write {}: {error}", path.display())))?,
        (None, None) => return Ok(exit::DONE),
    }
    session.progress.note(&format!("{} files written", files.len()));
    Ok(exit::DONE)
}

/// Services of other stacks that links lead to, as stack and name, by id.
async fn elsewhere(session: &Session, found: &Found) -> Result<BTreeMap<String, (String, String)>, Failure> {
    let own = |id: &str| found.services.iter().any(|row| row.id() == id);
    let links = found.services.iter().filter_map(|row| found.links.get(row.id())).flatten();
    let mut elsewhere = BTreeMap::new();
    for id in links.map(|link| link.target_id.as_str()).filter(|id| !own(id)) {
        let Some(service) = session.client.by_id("services", id).await? else { continue };
        let Some(stack) = session.client.by_id("environments", service.text("environmentId")).await? else { continue };
        elsewhere.insert(id.to_owned(), (stack.name().to_owned(), service.name().to_owned()));
    }
    Ok(elsewhere)
}

fn written(found: &Found, elsewhere: &BTreeMap<String, (String, String)>, form: Form) -> Export {
    let names: BTreeMap<&str, &str> = found.services.iter().map(|row| (row.id(), row.name())).collect();
    let links = |row: &Resource| -> Vec<Link> {
        let links = found.links.get(row.id()).into_iter().flatten();
        let link = |link: &crate::plan::FoundLink| {
            let (stack, target) = match names.get(link.target_id.as_str()) {
                Some(name) => (None, (*name).to_owned()),
                None => elsewhere.get(&link.target_id).map(|(stack, name)| (Some(stack.clone()), name.clone()))?,
            };
            Some(Link { target, stack, alias: link.alias.clone(), ports: link.ports.clone() })
        };
        links.filter_map(link).collect()
    };
    let exported: Vec<Exported<'_>> = found
        .services
        .iter()
        .filter_map(|row| {
            let kind = ServiceKind::of(row.kind())?;
            Some(Exported { kind, api: Some(&row.0), links: links(row), ..Exported::default() })
        })
        .collect();
    export(&exported, form, "\n")
}

fn into_directory(dir: &Path, files: &Files) -> Result<(), Failure> {
    for (name, text) in files {
        let path = dir.join(name);
        let wrote = path
            .parent()
            .map_or(Ok(()), std::fs::create_dir_all)
            .and_then(|()| std::fs::File::create_new(&path).and_then(|mut file| file.write_all(text.as_bytes())));
        wrote.map_err(|error| {
            let failure = Failure::new(exit::FAILED, format!("cannot write {}: {error}", path.display()));
            match error.kind() {
                std::io::ErrorKind::AlreadyExists => failure.hint("nothing is overwritten; choose another `--dir`"),
                _ => failure,
            }
        })?;
    }
    Ok(())
}

fn archive(files: &Files) -> Result<Vec<u8>, Failure> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(u64::try_from(now_ms() / 1000).unwrap_or(0));
        archive.append_data(&mut header, name, text.as_bytes())?;
    }
    Ok(archive.into_inner()?)
}
