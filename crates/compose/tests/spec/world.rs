//! A directory in memory, and a word for compiling it.

use std::collections::BTreeMap;

use remuda_compose::{FileError, Files, Problems, Project, Service, SourceFile, Sources, compile};
use serde_json::Value as Json;

/// Files by path, variables by name.
#[derive(Default)]
pub struct World {
    pub files: BTreeMap<String, String>,
    pub variables: BTreeMap<String, String>,
    pub profiles: Vec<String>,
    pub named: Vec<String>,
    pub stack: Option<String>,
    pub strict: bool,
}

pub fn file(name: &str, text: &str) -> World {
    World::default().file(name, text)
}

/// A docker-compose file alone.
pub fn docker(text: &str) -> World {
    file("docker-compose.yml", text)
}

/// Both files of 2016.
pub fn both(docker: &str, rancher: &str) -> World {
    file("docker-compose.yml", docker).file("rancher-compose.yml", rancher)
}

impl World {
    pub fn file(mut self, name: &str, text: &str) -> World {
        self.files.insert(name.to_owned(), text.to_owned());
        self
    }

    pub fn set(mut self, name: &str, value: &str) -> World {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    pub fn compile(&self) -> Result<Project, Problems> {
        let given =
            |name: &str| self.files.get(name).map(|text| SourceFile { name: name.to_owned(), text: text.clone() });
        let lookup = |name: &str| self.variables.get(name).cloned();
        let compose = ["docker-compose.yml", "docker-compose.override.yml"];
        let sources = Sources {
            compose: compose.iter().filter_map(|name| given(name)).collect(),
            rancher: given("rancher-compose.yml"),
            files: self,
            variables: &lookup,
            profiles: self.profiles.clone(),
            named: self.named.clone(),
            stack: self.stack.clone(),
            directory: "shop".to_owned(),
            strict: self.strict,
        };
        compile(&sources)
    }

    pub fn project(&self) -> Project {
        self.compile().unwrap_or_else(|problems| panic!("{problems}"))
    }

    pub fn service(&self, name: &str) -> Service {
        let project = self.project();
        project
            .services
            .into_iter()
            .find(|service| service.name == name)
            .unwrap_or_else(|| panic!("there is no {name}"))
    }

    /// A field of the create input of `web`.
    pub fn web(&self, pointer: &str) -> Json {
        Json::Object(self.service("web").api).pointer(pointer).cloned().unwrap_or_default()
    }

    /// What is said: the problems, or the warnings.
    pub fn said(&self) -> String {
        match self.compile() {
            Ok(project) => project.warnings.iter().map(|warning| format!("warning: {warning}\n")).collect(),
            Err(problems) => problems.to_string(),
        }
    }
}

impl Files for World {
    fn read(&self, from: &str, path: &str) -> Result<SourceFile, FileError> {
        let name = match from.rsplit_once('/') {
            Some((directory, _)) => format!("{directory}/{path}"),
            None => path.to_owned(),
        };
        match self.files.get(&name) {
            Some(text) => Ok(SourceFile { name, text: text.clone() }),
            None => Err(FileError::Missing(name)),
        }
    }

    fn directory(&self, _from: &str, path: &str) -> Result<String, FileError> {
        Ok(format!("/src/{}", path.trim_start_matches("./")))
    }
}
