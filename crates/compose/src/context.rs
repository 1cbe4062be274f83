//! What a compile carries along: the sources, the files read so far, and what was found wrong.

use std::collections::{BTreeMap, BTreeSet};

use crate::interpolate::{Malformed, interpolate};
use crate::node::{self, Node, Place, Value, shown};
use crate::problem::{Problem, Severity};
use crate::project::{FileError, SourceFile, Sources};
use crate::values::Bad;

/// Most problems that are told; a file with more is not a compose file.
pub const MAX_PROBLEMS: usize = 100;
/// Most files of one project.
pub const MAX_FILES: usize = 100;
/// Most text that variables may make, bytes.
const MAX_FILLED_BYTES: usize = 32 << 20;

pub struct Context<'a> {
    pub sources: &'a Sources<'a>,
    /// Names of the files read, by their position in places.
    files: Vec<String>,
    /// What paths written in each of them start from, when that is not their own directory.
    bases: Vec<Option<Base>>,
    /// The same for the file that is read next.
    pub next_base: Option<Base>,
    pub problems: Vec<Problem>,
    pub warnings: Vec<Problem>,
    /// Variables used, with their values.
    pub variables: BTreeMap<String, Option<String>>,
    /// Variables already told to be unset.
    unset: BTreeSet<String>,
    /// Values that the env files of an `include` give to what it includes.
    pub defaults: Vec<BTreeMap<String, String>>,
    /// Bytes that variables made so far.
    filled: usize,
}

/// A directory as `include.project_directory` names it, and the file that does.
#[derive(Clone, Debug)]
pub struct Base {
    pub file: String,
    pub directory: String,
}

impl<'a> Context<'a> {
    pub fn new(sources: &'a Sources<'a>) -> Context<'a> {
        Context {
            sources,
            files: Vec::new(),
            bases: Vec::new(),
            next_base: None,
            problems: Vec::new(),
            warnings: Vec::new(),
            variables: BTreeMap::new(),
            unset: BTreeSet::new(),
            defaults: Vec::new(),
            filled: 0,
        }
    }

    pub fn file(&self, place: Place) -> &str {
        self.files.get(place.file).map(String::as_str).unwrap_or_default()
    }

    /// The file that a path at that place starts from, and the path from there.
    fn resolved(&self, place: Place, path: &str) -> (String, String) {
        match self.bases.get(place.file).and_then(Option::as_ref) {
            Some(base) if !path.starts_with('/') => (base.file.clone(), format!("{}/{path}", base.directory)),
            _ => (self.file(place).to_owned(), path.to_owned()),
        }
    }

    /// The directory that `path` means at that place.
    pub fn directory(&self, place: Place, path: &str) -> Result<String, FileError> {
        let (from, path) = self.resolved(place, path);
        self.sources.files.directory(&from, &path)
    }

    /// The bytes of the file that `path` means at that place.
    pub fn bytes(&self, place: Place, path: &str) -> Result<Vec<u8>, FileError> {
        let (from, path) = self.resolved(place, path);
        self.sources.files.bytes(&from, &path)
    }

    fn read(&self, place: Place, path: &str) -> Result<SourceFile, FileError> {
        let (from, path) = self.resolved(place, path);
        self.sources.files.read(&from, &path)
    }

    fn made(&self, severity: Severity, place: Place, path: &str, text: String) -> Problem {
        Problem { severity, file: self.file(place).to_owned(), place, path: shown(path), text }
    }

    /// Whether so much is wrong that looking on is no use.
    pub fn is_hopeless(&self) -> bool {
        self.problems.len() >= MAX_PROBLEMS
    }

    pub fn problem(&mut self, place: Place, path: &str, text: impl Into<String>) {
        if !self.is_hopeless() {
            let problem = self.made(Severity::Error, place, path, text.into());
            if !self.problems.contains(&problem) {
                self.problems.push(problem);
            }
        }
    }

    pub fn warn(&mut self, place: Place, path: &str, text: impl Into<String>) {
        if self.warnings.len() < MAX_PROBLEMS {
            let warning = self.made(Severity::Warning, place, path, text.into());
            if !self.warnings.contains(&warning) {
                self.warnings.push(warning);
            }
        }
    }

    pub fn take<T>(&mut self, path: &str, read: Result<T, Bad>) -> Option<T> {
        read.map_err(|Bad { place, text }| self.problem(place, path, text)).ok()
    }

    /// A file that `place` names.
    pub fn open(&mut self, place: Place, path: &str, key: &str) -> Option<SourceFile> {
        if self.files.len() >= MAX_FILES {
            self.problem(place, key, format!("more than {MAX_FILES} files in one project"));
            return None;
        }
        match self.read(place, path) {
            Ok(file) => Some(file),
            Err(error) => {
                self.problem(place, key, error.to_string());
                None
            }
        }
    }

    /// Like [`Context::open`], but absence is no problem.
    pub fn open_optional(&mut self, place: Place, path: &str, key: &str) -> Option<SourceFile> {
        match self.read(place, path) {
            Err(FileError::Missing(_)) => None,
            _ => self.open(place, path, key),
        }
    }

    /// Reads a file as YAML.
    pub fn parse(&mut self, source: &SourceFile) -> Option<Node> {
        let file = self.files.len();
        self.files.push(source.name.clone());
        self.bases.push(self.next_base.take());
        match node::read(&source.text, file) {
            Ok(root) => Some(root),
            Err(error) => {
                self.problem(error.place, "", error.text);
                None
            }
        }
    }

    /// Value of a variable, remembered.
    pub fn variable(&mut self, name: &str) -> Option<String> {
        let value = self.look_up(name);
        self.variables.insert(name.to_owned(), value.clone());
        value
    }

    pub fn look_up(&self, name: &str) -> Option<String> {
        let given = (self.sources.variables)(name);
        given.or_else(|| self.defaults.iter().rev().find_map(|values| values.get(name).cloned()))
    }

    /// The node with variables filled in.
    pub fn fill(&mut self, node: &Node, path: &str) -> Node {
        let value = match &node.value {
            Value::Text(text) if text.contains('$') => Value::Text(self.fill_text(node.place, text, path)),
            Value::List(items) => Value::List(items.iter().map(|item| self.fill(item, path)).collect()),
            Value::Map(members) => {
                Value::Map(members.iter().map(|(key, member)| (key.clone(), self.fill(member, path))).collect())
            }
            other => other.clone(),
        };
        Node { value, ..*node }
    }

    fn fill_text(&mut self, place: Place, text: &str, path: &str) -> String {
        if self.filled > MAX_FILLED_BYTES {
            return String::new();
        }
        let (mut unset, mut used) = (Vec::new(), Vec::new());
        let filled =
            interpolate(text, &|name| self.look_up(name), &mut |name| unset.push(name.to_owned()), &mut |name| {
                used.push(name.to_owned())
            });
        for name in used {
            if !self.variables.contains_key(&name) {
                self.variable(&name);
            }
        }
        for name in unset {
            // Once per variable, at its first place.
            if self.unset.insert(name.clone()) {
                let text = format!("variable `{}` is not set; it counts as empty", shown(&name));
                if self.sources.strict { self.problem(place, path, text) } else { self.warn(place, path, text) }
            }
        }
        let filled = filled.unwrap_or_else(|Malformed(why)| {
            self.problem(place, path, why);
            text.to_owned()
        });
        self.filled += filled.len();
        if self.filled > MAX_FILLED_BYTES {
            self.problem(place, path, format!("variables fill more than {} MiB", MAX_FILLED_BYTES >> 20));
        }
        filled
    }
}
