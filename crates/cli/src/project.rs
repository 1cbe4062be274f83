//! The project of a command: its compose files, the stack they are for, and the values of their variables.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use remuda_compose::{Compiled, Input, Source, compile, names};

use crate::failure::{Failure, exit};
use crate::globals::Globals;
use crate::progress::Progress;
use crate::session::environment;

/// Names a compose file may have, in the order they are looked for.
const FILES: &[&str] = &["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];

/// Compiled files and the name of their stack.
pub struct Project {
    pub stack: String,
    pub compiled: Compiled,
}

/// Reads and compiles the project of the flags; warnings are shown.
pub fn load(globals: &Globals, progress: &Progress) -> Result<Project, Failure> {
    let (docker, directory) = docker_file(globals)?;
    let rancher = rancher_file(globals, &directory)?;
    let variables = variables(globals, &directory)?;
    // Values of the env file beat the process environment, as rancher-compose had it; an empty one counts as unset there.
    let lookup = |name: &str| {
        let given = variables.given.get(name).cloned();
        let outside = || environment(name).filter(|value| !value.is_empty());
        given.or_else(outside).or_else(|| variables.dot_env.get(name).cloned())
    };
    let compiled = compile(&Input { docker_compose: &docker, rancher_compose: rancher.as_ref(), lookup: &lookup })
        .map_err(|problems| Failure::usage(problems.to_string()))?;
    for warning in &compiled.warnings {
        progress.note(&format!("warning: {warning}"));
    }
    let stack = stack_name(globals, compiled.name.as_deref(), &directory)?;
    Ok(Project { stack, compiled })
}

fn stack_name(globals: &Globals, in_file: Option<&str>, directory: &Path) -> Result<String, Failure> {
    let given = globals.stack.clone().or_else(|| environment("COMPOSE_PROJECT_NAME").filter(|name| !name.is_empty()));
    let directory = || directory.file_name().map(|name| name.to_string_lossy().into_owned());
    let text = given.or_else(|| in_file.map(str::to_owned)).or_else(directory).unwrap_or_default();
    let name = names::stack_name(&text);
    names::check(&name).map_err(|error| {
        Failure::usage(format!("the stack cannot be called so: {error}")).hint("`-s NAME` gives it another name")
    })?;
    Ok(name)
}

/// The compose file, and the directory paths and names are taken from.
fn docker_file(globals: &Globals) -> Result<(Source, PathBuf), Failure> {
    let here = std::env::current_dir()?;
    let given =
        globals.file.clone().or_else(|| environment("COMPOSE_FILE").filter(|name| !name.is_empty()).map(PathBuf::from));
    if let Some(path) = given {
        if path == Path::new("-") {
            let text = std::io::read_to_string(std::io::stdin().lock())?;
            return Ok((Source { name: "(stdin)".to_owned(), text }, here));
        }
        let directory = here.join(&path).parent().map(Path::to_path_buf).unwrap_or(here);
        return Ok((read(&path)?, directory));
    }
    for directory in here.ancestors() {
        if let Some(path) = FILES.iter().map(|name| directory.join(name)).find(|path| path.is_file()) {
            let shown = path.strip_prefix(&here).unwrap_or(&path).to_path_buf();
            return Ok((read(&shown)?, directory.to_path_buf()));
        }
    }
    let message = format!("no compose file in {} or above; looked for {}", here.display(), FILES.join(", "));
    Err(Failure::usage(message).hint("`-f FILE` names one"))
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
        given.extend(lines(&read(path)?.text));
    }
    let dot_env = directory.join(".env");
    let dot_env =
        if globals.env_file.is_empty() && dot_env.is_file() { lines(&read(&dot_env)?.text) } else { BTreeMap::new() };
    Ok(Variables { given, dot_env })
}

/// `KEY=VALUE` lines: comments, `export`, quotes.
fn lines(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let line = line.strip_prefix("export ").unwrap_or(line);
            let (key, value) = line.split_once('=').unwrap_or((line, ""));
            let value = value.trim();
            let quoted = |quote: char| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
            let plain = || value.split(" #").next().unwrap_or_default().trim_end();
            let value = quoted('\'').or_else(|| quoted('"')).unwrap_or_else(plain);
            (key.trim().to_owned(), value.to_owned())
        })
        .collect()
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
        let found: Vec<_> = lines(text).into_iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(found, ["A=1", "B=two words", "C=x#y", "D=plain", "E=", "F=a=b"]);
    }
}
