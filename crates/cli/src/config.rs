//! Contexts: which server, with which keys, in which environment (`cli.md` §5).
//!
//! Order: flag, `REMUDA_*`, `RANCHER_*`, `--context`, the current context, `~/.rancher/cli.json` (read only).

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::failure::{Failure, exit};
use crate::globals::Globals;

/// The file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct File {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub contexts: BTreeMap<String, Context>,
}

/// One server and environment.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Context {
    pub url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_key: Option<String>,
    /// Program and arguments that print the secret key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_command: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub insecure: bool,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("url", &self.url).field("access_key", &self.access_key).finish_non_exhaustive()
    }
}

/// The process environment, passed in so that tests can make one.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Where the file is.
pub fn path(environment: Environment<'_>) -> Option<PathBuf> {
    let base = environment("XDG_CONFIG_HOME").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let base = base.or_else(|| environment("HOME").map(|home| Path::new(&home).join(".config")))?;
    Some(base.join("remuda").join("config.toml"))
}

/// Reads the file; absent is empty.
pub fn load(path: &Path) -> Result<File, Failure> {
    match std::fs::read_to_string(path) {
        Ok(text) => toml::from_str(&text)
            .map_err(|error| Failure::usage(format!("{} does not read: {}", path.display(), error.message()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(File::default()),
        Err(error) => Err(Failure::new(exit::FAILED, format!("cannot read {}: {error}", path.display()))),
    }
}

/// Writes the file as a whole, readable by its owner only.
pub fn save(path: &Path, file: &File) -> Result<(), Failure> {
    use std::os::unix::fs::OpenOptionsExt;
    let failed =
        |error: std::io::Error| Failure::new(exit::FAILED, format!("cannot write {}: {error}", path.display()));
    let text = toml::to_string_pretty(file).map_err(|error| Failure::new(exit::FAILED, error.to_string()))?;
    let dir = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(dir).map_err(failed)?;
    let draft = path.with_extension(format!("toml.{}", std::process::id()));
    let mut handle =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft).map_err(failed)?;
    handle.write_all(text.as_bytes()).and_then(|()| handle.sync_all()).map_err(failed)?;
    std::fs::rename(&draft, path).map_err(failed)
}

/// The keys of the old command line, shown as context `rancher`.
pub fn rancher(given: Option<&Path>, environment: Environment<'_>) -> Option<Context> {
    let named = || environment("RANCHER_CLIENT_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from);
    let usual = || Some(Path::new(&environment("HOME")?).join(".rancher").join("cli.json"));
    let path = given.map(Path::to_path_buf).or_else(named).or_else(usual)?;
    let value: Value = serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok()?;
    let text = |name: &str| value.get(name).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
    Some(Context {
        url: text("url")?,
        access_key: text("accessKey"),
        secret_key: text("secretKey"),
        environment: text("environment"),
        ..Context::default()
    })
}

/// The context in effect and its name, if one of the file's.
pub fn choose(
    globals: &Globals,
    file: &File,
    environment: Environment<'_>,
) -> Result<(Option<String>, Context), Failure> {
    let set = |name: &str| {
        let value = |prefix: &str| environment(&format!("{prefix}_{name}")).filter(|value| !value.is_empty());
        value("REMUDA").or_else(|| value("RANCHER"))
    };
    let named = globals.context.clone();
    let (name, mut context) =
        match named.or_else(|| file.current.clone().filter(|_| globals.url.is_none() && set("URL").is_none())) {
            Some(name) => {
                let found =
                    file.contexts.get(&name).cloned().or_else(|| {
                        rancher(globals.rancher_config.as_deref(), environment).filter(|_| name == "rancher")
                    });
                let Some(context) = found else {
                    let known: Vec<&str> = file.contexts.keys().map(String::as_str).collect();
                    return Err(Failure::new(
                        exit::NOT_FOUND,
                        format!("no context `{name}`; there are: {}", known.join(", ")),
                    )
                    .hint("`remuda login URL --name NAME` makes one"));
                };
                (Some(name), context)
            }
            None if globals.url.is_none() && set("URL").is_none() => {
                match rancher(globals.rancher_config.as_deref(), environment) {
                    Some(context) => (Some("rancher".to_owned()), context),
                    None => (None, Context::default()),
                }
            }
            None => (None, Context::default()),
        };
    if let Some(url) = globals.url.clone().or_else(|| set("URL").filter(|_| globals.context.is_none())) {
        context.url = url;
    }
    let key = globals.access_key.clone().or_else(|| set("ACCESS_KEY").filter(|_| globals.context.is_none()));
    let secret = globals.secret_key.clone().or_else(|| set("SECRET_KEY").filter(|_| globals.context.is_none()));
    if key.is_some() {
        context.access_key = key;
        context.secret_command = None;
    }
    if secret.is_some() {
        context.secret_key = secret;
        context.secret_command = None;
    }
    if let Some(project) = globals.environment.clone().or_else(|| set("ENVIRONMENT")) {
        context.environment = Some(project);
    }
    Ok((name, context))
}

impl Context {
    /// The secret key, asked from its program where there is one.
    pub fn secret(&self) -> Result<Option<String>, Failure> {
        let Some((program, arguments)) = self.secret_command.as_ref().and_then(|words| words.split_first()) else {
            return Ok(self.secret_key.clone());
        };
        let failed = |why: String| Failure::new(exit::NO_SERVER, format!("secret_command `{program}` failed: {why}"));
        let output = std::process::Command::new(program)
            .args(arguments)
            .stderr(std::process::Stdio::inherit())
            .output()
            .map_err(|error| failed(error.to_string()))?;
        if !output.status.success() {
            return Err(failed(output.status.to_string()));
        }
        Ok(Some(String::from_utf8_lossy(&output.stdout).trim().to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> File {
        let context = |url: &str| Context { url: url.into(), access_key: Some("K".into()), ..Context::default() };
        File {
            current: Some("prod".into()),
            contexts: BTreeMap::from([("prod".into(), context("http://prod")), ("lab".into(), context("http://lab"))]),
        }
    }

    fn chosen(globals: Globals, environment: &[(&str, &str)]) -> (Option<String>, String, Option<String>) {
        let lookup =
            |name: &str| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let (name, context) = choose(&globals, &file(), &lookup).expect("chooses");
        (name, context.url, context.access_key)
    }

    #[test]
    fn flags_beat_variables_beat_contexts() {
        let prod = (Some("prod".to_owned()), "http://prod".to_owned(), Some("K".to_owned()));
        assert_eq!(chosen(Globals::default(), &[]), prod);
        let both = [("REMUDA_URL", "http://r"), ("RANCHER_URL", "http://old"), ("RANCHER_ACCESS_KEY", "X")];
        assert_eq!(chosen(Globals::default(), &both), (None, "http://r".into(), Some("X".into())));
        let flag = Globals { url: Some("http://flag".into()), ..Globals::default() };
        assert_eq!(chosen(flag, &both).1, "http://flag");
        let lab = Globals { context: Some("lab".into()), ..Globals::default() };
        assert_eq!(chosen(lab, &both), (Some("lab".into()), "http://lab".into(), Some("K".into())));
        let missing = Globals { context: Some("x".into()), ..Globals::default() };
        assert_eq!(choose(&missing, &file(), &|_| None).expect_err("is missing").exit, exit::NOT_FOUND);
    }

    #[test]
    fn the_file_is_private_and_survives() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("remuda").join("config.toml");
        save(&path, &file()).expect("saves");
        assert_eq!(load(&path).expect("loads"), file());
        assert_eq!(std::fs::metadata(&path).expect("is there").permissions().mode() & 0o777, 0o600);
    }
}
