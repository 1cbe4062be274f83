//! Secrets, and files that are none but travel alike: values that containers get as files (`compose.md` §13; 1.6's
//! `secret`). Sealed at rest, and never in an answer: who may read them are the hosts of the project.

use remuda_schema::{Id, Nested, Resource};
use serde::{Deserialize, Serialize};

use crate::stack::Stack;

/// Largest value, in bytes.
pub const MAX_BYTES: usize = 512 * 1024;
/// Where hosts get the values, by number.
pub const VALUES_PATH: &str = "/v1/secretvalues";

/// A value that containers get as a file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Resource)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "secret", access(project = "crd", user = "r", admin = "r", service = "crd"))]
#[common(name(create, required, nullable, filter))]
pub struct Secret {
    /// Stack it came with, and goes with.
    #[field(create, nullable, filter)]
    pub environment_id: Option<Id<Stack>>,
    /// The value in base64. It never comes back.
    #[field(ty = "password", create, required, nullable, max_length = 699_052)]
    pub value: Option<String>,
    /// The value, sealed with the key file.
    #[field(hidden)]
    pub sealed_value: Option<String>,
    /// Tells whether two values are the same, to nobody without the key file.
    #[field(hidden)]
    pub fingerprint: Option<String>,
}

/// A secret in a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Nested)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "secretReference", no_list, access(project = "cr", user = "r", admin = "r", service = "cr"))]
pub struct SecretReference {
    /// Group of the file.
    #[field(create, nullable)]
    pub gid: Option<String>,
    /// Rights of the file in octal; `0444` if absent.
    #[field(create, nullable)]
    pub mode: Option<String>,
    /// Where the file is; a name alone is below `/run/secrets`.
    #[field(create, required, min_length = 1, max_length = 1024)]
    pub name: Option<String>,
    /// The secret.
    #[field(create, required)]
    pub secret_id: Option<Id<Secret>>,
    /// Owner of the file.
    #[field(create, nullable)]
    pub uid: Option<String>,
}

impl SecretReference {
    /// The absolute path of the file in the container.
    pub fn path(&self) -> String {
        match self.name.as_deref().unwrap_or_default() {
            path if path.starts_with('/') => path.to_owned(),
            name => format!("/run/secrets/{name}"),
        }
    }

    /// Owner, group and rights; `None` when one of them is no number.
    pub fn rights(&self) -> Option<(u32, u32, u32)> {
        let number = |text: &Option<String>| text.as_deref().unwrap_or("0").parse().ok();
        let mode = u32::from_str_radix(self.mode.as_deref().unwrap_or("0444"), 8).ok()?;
        Some((number(&self.uid)?, number(&self.gid)?, mode)).filter(|_| mode <= 0o7777)
    }

    /// What is wrong with it, for people.
    pub fn problem(&self) -> Option<&'static str> {
        let path = self.path();
        let is_odd = |part: &str| matches!(part, "." | "..") || part.contains([':', '\0', '\n']);
        if self.rights().is_none() {
            return Some("`uid` and `gid` are numbers, and `mode` is one in octal, like `0400`");
        }
        (path.ends_with('/') || path.split('/').any(is_odd)).then_some("`name` is no path of a file")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_says_where_and_whose() {
        let of = |name: &str, mode: &str, uid: &str| SecretReference {
            name: Some(name.to_owned()),
            mode: Some(mode.to_owned()),
            uid: Some(uid.to_owned()),
            ..SecretReference::default()
        };
        assert_eq!(of("db", "0400", "33").path(), "/run/secrets/db");
        assert_eq!(of("/etc/app.conf", "0400", "33").path(), "/etc/app.conf");
        assert_eq!(of("db", "0400", "33").rights(), Some((33, 0, 0o400)));
        assert_eq!(SecretReference::default().rights(), Some((0, 0, 0o444)));
        assert_eq!(of("db", "0400", "33").problem(), None);
        for bad in [
            of("db", "9", "0"),
            of("db", "0400", "root"),
            of("../x", "0400", "0"),
            of("/a/", "0400", "0"),
            of("/a:b", "0400", "0"),
            of("db", "77777", "0"),
        ] {
            assert!(bad.problem().is_some(), "{bad:?}");
        }
    }
}
