//! The project of a command: its compose files, the stack they are for, and the values of their variables.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use remuda_compose::{FileError, Files, SourceFile as Source, Sources, compile, envfile, names};

use crate::failure::{Failure, exit};
use crate::globals::Globals;
use crate::progress::Progress;
use crate::session::environment;

/// Names a compose file may have, in the order they are looked for.
const FILES: &[&str] = &["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];

/// How standard input is called in messages.
const STDIN: &str = "(stdin)";

/// Compiled files and the name of their stack.
pub struct Project {
    pub stack: String,
    pub compiled: remuda_compose::Project,
}

/// Reads and compiles the project of the flags; warnings are shown.
pub fn load(globals: &Globals, progress: &Progress) -> Result<Project, Failure> {
    load_named(globals, progress, &[])
}

/// The project at hand, if there is one that compiles; nothing is said. One on standard input is not read: that belongs
/// to the command.
pub fn quiet(globals: &Globals) -> Option<Project> {
    if globals.file.iter().any(|path| path == Path::new("-")) {
        return None;
    }
    compiled(globals, &[]).ok()
}

/// The same, when these services were asked for: their profiles count as switched on.
pub fn load_named(globals: &Globals, progress: &Progress, named: &[String]) -> Result<Project, Failure> {
    let project = compiled(globals, named)?;
    for warning in &project.compiled.warnings {
        progress.note(&format!("warning: {warning}"));
    }
    Ok(project)
}

fn compiled(globals: &Globals, named: &[String]) -> Result<Project, Failure> {
    let (docker, directory) = docker_files(globals)?;
    let rancher = rancher_file(globals, &directory)?;
    let variables = variables(globals, &directory)?;
    // Values of the env file beat the process environment, as rancher-compose had it; an empty one counts as unset there.
    let lookup = |name: &str| {
        let given = variables.given.get(name).cloned();
        let outside = || environment(name).filter(|value| !value.is_empty());
        given.or_else(outside).or_else(|| variables.dot_env.get(name).cloned())
    };
    let given = globals.stack.clone().or_else(|| environment("COMPOSE_PROJECT_NAME").filter(|name| !name.is_empty()));
    let profiles = environment("COMPOSE_PROFILES").unwrap_or_default();
    let sources = Sources {
        compose: docker,
        rancher,
        files: &Disk { directory: directory.clone() },
        variables: &lookup,
        profiles: profiles
            .split(',')
            .chain(globals.profile.iter().map(String::as_str))
            .map(str::trim)
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect(),
        named: named.to_vec(),
        stack: given,
        directory: directory.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        strict: globals.strict,
    };
    let compiled = compile(&sources).map_err(|problems| Failure::usage(problems.to_string()))?;
    names::check(&compiled.stack).map_err(|error| {
        Failure::usage(format!("the stack cannot be called so: {error}")).hint("`-s NAME` gives it another name")
    })?;
    Ok(Project { stack: compiled.stack.clone(), compiled })
}

/// Files beside the compose files. A compose file from standard input counts as one in the project directory.
struct Disk {
    directory: PathBuf,
}

impl Disk {
    fn path(&self, from: &str, path: &str) -> PathBuf {
        let beside = Path::new(from).parent().filter(|_| from != STDIN);
        beside.unwrap_or(&self.directory).join(path)
    }
}

impl Files for Disk {
    fn read(&self, from: &str, path: &str) -> Result<Source, FileError> {
        let path = self.path(from, path);
        let name = path.display().to_string();
        let unreadable = |why: String| FileError::Unreadable { path: name.clone(), why };
        let file = std::fs::File::open(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => FileError::Missing(name.clone()),
            _ => unreadable(error.to_string()),
        })?;
        let mut text = String::new();
        // One byte more than is allowed, so that the compiler says what is wrong.
        let limit = remuda_compose::node::MAX_FILE_BYTES as u64 + 1;
        let read = std::io::Read::read_to_string(&mut std::io::Read::take(file, limit), &mut text);
        read.map_err(|error| unreadable(error.to_string()))?;
        Ok(Source { name, text })
    }

    fn directory(&self, from: &str, path: &str) -> Result<String, FileError> {
        let path = self.path(from, path);
        match path.canonicalize() {
            Ok(found) if found.is_dir() => Ok(found.display().to_string()),
            _ => Err(FileError::Missing(path.display().to_string())),
        }
    }
}

/// The compose file, and the directory paths and names are taken from.
fn docker_files(globals: &Globals) -> Result<(Vec<Source>, PathBuf), Failure> {
    let here = std::env::current_dir()?;
    let mut given = globals.file.clone();
    if given.is_empty() {
        let listed = environment("COMPOSE_FILE").unwrap_or_default();
        let separator = environment("COMPOSE_PATH_SEPARATOR").filter(|text| !text.is_empty());
        let listed = listed.split(separator.as_deref().unwrap_or(":")).filter(|name| !name.is_empty());
        given = listed.map(PathBuf::from).collect();
    }
    let chosen = globals.project_directory.as_ref().map(|directory| here.join(directory));
    if let Some(first) = given.first() {
        let beside = || match first == Path::new("-") {
            true => here.clone(),
            false => here.join(first).parent().map_or_else(|| here.clone(), Path::to_path_buf),
        };
        let directory = chosen.unwrap_or_else(beside);
        let files = given.iter().map(|path| match path == Path::new("-") {
            true => {
                let text = std::io::read_to_string(std::io::stdin().lock())?;
                Ok(Source { name: STDIN.to_owned(), text })
            }
            false => read(path),
        });
        return Ok((files.collect::<Result<_, _>>()?, directory));
    }
    let here = chosen.unwrap_or(here);
    for directory in here.ancestors() {
        if let Some(path) = FILES.iter().map(|name| directory.join(name)).find(|path| path.is_file()) {
            let shown = |path: &Path| path.strip_prefix(&here).unwrap_or(path).to_path_buf();
            let mut files = vec![read(&shown(&path))?];
            if let Some(over) = overriding(&path) {
                files.push(read(&shown(&over))?);
            }
            return Ok((files, directory.to_path_buf()));
        }
    }
    let message = format!("no compose file in {} or above; looked for {}", here.display(), FILES.join(", "));
    Err(Failure::usage(message).hint("`-f FILE` names one"))
}

/// `compose.override.yaml` beside `compose.yaml`, and so on.
fn overriding(path: &Path) -> Option<PathBuf> {
    let stem = path.file_stem()?.to_string_lossy().into_owned();
    ["yml", "yaml"].iter().map(|end| path.with_file_name(format!("{stem}.override.{end}"))).find(|path| path.is_file())
}

fn rancher_file(globals: &Globals, directory: &Path) -> Result<Option<Source>, Failure> {
    if let Some(path) = &globals.rancher_file {
        return read(path).map(Some);
    }
    for name in ["rancher-compose.yml", "rancher-compose.yaml"] {
        let path = directory.join(name);
        if path.is_file() {
            let here = std::env::current_dir()?;
            return read(path.strip_prefix(&here).unwrap_or(&path)).map(Some);
        }
    }
    Ok(None)
}

fn read(path: &Path) -> Result<Source, Failure> {
    let text =
        std::fs::read(path).map_err(|error| Failure::usage(format!("cannot read {}: {error}", path.display())))?;
    let text =
        String::from_utf8(text).map_err(|_| Failure::usage(format!("{} is not text in UTF-8", path.display())))?;
    Ok(Source { name: path.display().to_string(), text })
}

struct Variables {
    /// Of `--env-file`.
    given: BTreeMap<String, String>,
    /// Of `.env` in the project directory; not read when an env file is given.
    dot_env: BTreeMap<String, String>,
}

fn variables(globals: &Globals, directory: &Path) -> Result<Variables, Failure> {
    let mut given = BTreeMap::new();
    for path in &globals.env_file {
        given.extend(lines(&read(path)?)?);
    }
    let dot_env = directory.join(".env");
    let dot_env =
        if globals.env_file.is_empty() && dot_env.is_file() { lines(&read(&dot_env)?)? } else { BTreeMap::new() };
    Ok(Variables { given, dot_env })
}

/// Values of an env file; a name without value is empty.
fn lines(file: &Source) -> Result<BTreeMap<String, String>, Failure> {
    let entries =
        envfile::parse(&file.text, &environment).map_err(|error| Failure::usage(format!("{}: {error}", file.name)))?;
    Ok(entries.into_iter().map(|(name, value)| (name, value.unwrap_or_default())).collect())
}

/// Checks that the names are services of the file; none means all.
pub fn select<'a>(project: &'a Project, names: &[String]) -> Result<Vec<&'a remuda_compose::Service>, Failure> {
    let services = &project.compiled.services;
    for name in names {
        if !services.iter().any(|service| service.name == *name) {
            let known: Vec<&str> = services.iter().map(|service| service.name.as_str()).collect();
            return Err(Failure::new(
                exit::USAGE,
                format!("No such service: {name}; the file has {}", known.join(", ")),
            ));
        }
    }
    Ok(services.iter().filter(|service| names.is_empty() || names.contains(&service.name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn env_files_as_people_write_them() {
        let text = "# comment\nA=1\nexport B='two words'\nC=\"x#y\"\nD=plain # why\nE\n\nF=a=b\n";
        let found: Vec<_> = lines(&Source { name: ".env".to_owned(), text: text.to_owned() })
            .expect("reads")
            .into_iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        assert_eq!(found, ["A=1", "B=two words", "C=x#y", "D=plain", "E=", "F=a=b"]);
    }
}
