//! The project of a command: its compose files, the stack they are for, and the values of their variables.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use remuda_compose::{FileError, Files, Question, SourceFile as Source, Sources, compile, envfile, names, questions};
use serde_json::Value;

use crate::failure::Failure;
use crate::found;
use crate::globals::Globals;
use crate::plan::Found;
use crate::progress::Progress;
use crate::resolve;
use crate::session::{Session, environment};

/// Names a compose file may have, in the order they are looked for.
const FILES: &[&str] = &["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];

/// How standard input is called in messages.
const STDIN: &str = "(stdin)";

/// Compiled files and the name of their stack.
pub struct Project {
    pub stack: String,
    pub compiled: remuda_compose::Project,
}

/// Reads and compiles the project of the flags; warnings are shown, questions asked.
pub fn load(globals: &Globals, progress: &Progress) -> Result<Project, Failure> {
    load_named(globals, progress, &[])
}

/// The same, when these services were asked for: their profiles count as switched on.
pub fn load_named(globals: &Globals, progress: &Progress, named: &[String]) -> Result<Project, Failure> {
    let project = compiled(globals, named, &BTreeMap::new(), &mut Asker::of(globals))?;
    Ok(warned(project, progress))
}

/// The project and what the server has of it. Variables that the stack was given there count, too.
pub async fn load_with_server(session: &Session, named: &[String]) -> Result<(Project, Found), Failure> {
    let globals = &session.globals;
    let mut asker = Asker::of(globals);
    let mut project = compiled(globals, named, &BTreeMap::new(), &mut asker)?;
    let stack = resolve::stack_named(&session.client, &project.stack).await?;
    let given = stack.as_ref().map(|stack| texts(stack.get("environment"))).unwrap_or_default();
    if given.keys().any(|name| project.compiled.variables.contains_key(name)) {
        project = compiled(globals, named, &given, &mut asker)?;
    }
    let project = warned(project, &session.progress);
    let found = found::read(&session.client, &project.compiled, stack).await?;
    Ok((project, found))
}

fn texts(map: &Value) -> BTreeMap<String, String> {
    let members = map.as_object().into_iter().flatten();
    members.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
}

/// The project at hand, if there is one that compiles; nothing is said or asked. One on standard input is not read:
/// that belongs to the command.
pub fn quiet(globals: &Globals) -> Option<Project> {
    if globals.file.iter().any(|path| path == Path::new("-")) {
        return None;
    }
    compiled(globals, &[], &BTreeMap::new(), &mut Asker::Silent).ok()
}

fn warned(project: Project, progress: &Progress) -> Project {
    for warning in &project.compiled.warnings {
        progress.warn(&warning.to_string());
    }
    project
}

/// Who answers the questions of `.catalog`.
enum Asker {
    /// A person; what was answered is not asked again.
    Person(BTreeMap<String, String>),
    /// Nobody: defaults, and what has none and is required is an error.
    Nobody,
    /// Nobody, and nothing is said of it.
    Silent,
}

impl Asker {
    fn of(globals: &Globals) -> Asker {
        let terminal = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
        if terminal && !globals.no_input && !globals.yes { Asker::Person(BTreeMap::new()) } else { Asker::Nobody }
    }

    /// Answers to the questions that nothing else answers.
    fn answers(
        &mut self,
        questions: &[Question],
        known: &dyn Fn(&str) -> Option<String>,
    ) -> Result<BTreeMap<String, String>, Failure> {
        let mut answers = BTreeMap::new();
        let mut missing = Vec::new();
        for question in questions.iter().filter(|question| known(&question.variable).is_none()) {
            let answer = match self {
                Asker::Person(before) => match before.get(&question.variable) {
                    Some(answer) => Some(answer.clone()),
                    None => {
                        let answer = ask(question)?;
                        before.insert(question.variable.clone(), answer.clone());
                        Some(answer)
                    }
                },
                Asker::Nobody | Asker::Silent => question.default.clone(),
            };
            match answer {
                Some(answer) => {
                    answers.insert(question.variable.clone(), answer);
                }
                None if question.required => missing.push(question.variable.as_str()),
                None => {}
            }
        }
        if missing.is_empty() || matches!(self, Asker::Silent) {
            return Ok(answers);
        }
        Err(Failure::usage(format!("there is nobody to ask for {}", missing.join(", ")))
            .hint("set them in a file and name that with `--env-file`"))
    }
}

/// Asks until the answer is one; an empty one is the default.
fn ask(question: &Question) -> Result<String, Failure> {
    let label = if question.label.is_empty() { &question.variable } else { &question.label };
    if !question.description.is_empty() {
        eprintln!("{}", question.description);
    }
    if !question.options.is_empty() {
        eprintln!("  one of {}", question.options.join(", "));
    }
    let default = question.default.as_ref().map(|default| format!(" [{default}]")).unwrap_or_default();
    loop {
        eprint!("{label} ({}){default}: ", question.variable);
        let mut line = String::new();
        if std::io::stdin().read_line(&mut line)? == 0 {
            return Err(Failure::usage(format!("the input ended before {} was answered", question.variable)));
        }
        let typed = line.trim_end_matches(['\n', '\r']);
        let answer = if typed.is_empty() { question.default.clone().unwrap_or_default() } else { typed.to_owned() };
        match question.check(&answer) {
            Ok(()) => return Ok(answer),
            Err(why) => eprintln!("{why}"),
        }
    }
}

fn compiled(
    globals: &Globals,
    named: &[String],
    of_stack: &BTreeMap<String, String>,
    asker: &mut Asker,
) -> Result<Project, Failure> {
    let (docker, directory) = docker_files(globals)?;
    let rancher = rancher_file(globals, &directory)?;
    let variables = variables(globals, &directory)?;
    // Values of the env file beat the process environment, as rancher-compose had it; an empty one counts as unset there.
    let lookup = |name: &str| {
        let given = variables.given.get(name).or_else(|| of_stack.get(name)).cloned();
        let outside = || environment(name).filter(|value| !value.is_empty());
        given.or_else(outside).or_else(|| variables.dot_env.get(name).cloned())
    };
    let given = globals.stack.clone().or_else(|| environment("COMPOSE_PROJECT_NAME").filter(|name| !name.is_empty()));
    let profiles = environment("COMPOSE_PROFILES").unwrap_or_default();
    let profiles = profiles.split(',').chain(globals.profile.iter().map(String::as_str)).map(str::trim);
    let disk = Disk { directory: directory.clone() };
    let sources = |variables| Sources {
        compose: docker.clone(),
        rancher: rancher.clone(),
        files: &disk,
        variables,
        profiles: profiles.clone().filter(|name| !name.is_empty()).map(str::to_owned).collect(),
        named: named.to_vec(),
        stack: given.clone(),
        directory: directory.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        strict: globals.strict,
    };
    let answers = asker.answers(&questions::of(&sources(&lookup)), &lookup)?;
    let answered = |name: &str| lookup(name).or_else(|| answers.get(name).cloned());
    let compiled = compile(&sources(&answered)).map_err(|problems| Failure::usage(problems.to_string()))?;
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

    fn bytes(&self, from: &str, path: &str) -> Result<Vec<u8>, FileError> {
        let path = self.path(from, path);
        let name = path.display().to_string();
        let limit = remuda_model::secret::MAX_BYTES;
        let read = std::fs::File::open(&path).and_then(|file| {
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut std::io::Read::take(file, limit as u64 + 1), &mut bytes).map(|_| bytes)
        });
        match read {
            Ok(bytes) if bytes.len() > limit => {
                Err(FileError::Unreadable { path: name, why: format!("it has more than {limit} bytes") })
            }
            Ok(bytes) => Ok(bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(FileError::Missing(name)),
            Err(error) => Err(FileError::Unreadable { path: name, why: error.to_string() }),
        }
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
