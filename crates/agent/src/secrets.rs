//! Secrets as files on the host, to be bound into containers. They lie in the state directory, which belongs to root
//! alone, and not in memory: after a reboot containers start with the server or without it (DESIGN §6). The plan and
//! its cache name them by number only; the values come over HTTP with the agent's own key, when a container is made.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use futures_util::StreamExt;
use remuda_model::secret::{MAX_BYTES, VALUES_PATH};
use remuda_wire::plan::SecretPlan;

use crate::links::Source;

/// Where this host keeps them.
pub struct Secrets {
    /// `None`: nothing is kept (simulated hosts).
    directory: Option<PathBuf>,
}

/// Why a secret is not there, for people.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct Problem(String);

impl Secrets {
    pub fn new(state_dir: Option<&Path>) -> Secrets {
        Secrets { directory: state_dir.map(|path| path.join("secrets")) }
    }

    /// The files of a container's secrets, in their order; fetched when they are not there yet.
    pub async fn ensure(
        &self,
        uuid: &str,
        wanted: &[SecretPlan],
        server: &dyn Source,
    ) -> Result<Vec<PathBuf>, Problem> {
        let mut files = Vec::with_capacity(wanted.len());
        for (idx, secret) in wanted.iter().enumerate() {
            let path =
                self.directory.as_ref().map(|directory| directory.join(uuid).join(format!("{idx}-{}", secret.id)));
            if path.as_ref().is_some_and(|path| path.exists()) {
                files.extend(path);
                continue;
            }
            let value = fetch(secret, server).await?;
            if let Some(path) = path {
                let failed =
                    |error: io::Error| Problem(format!("cannot write the secret for {}: {error}", secret.path));
                write(&path, &value, secret).map_err(failed)?;
                files.push(path);
            }
        }
        Ok(files)
    }

    /// The container is gone.
    pub fn forget(&self, uuid: &str) {
        let Some(directory) = self.directory.as_ref().map(|directory| directory.join(uuid)) else { return };
        match fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, directory = %directory.display(), "the secrets of a container that is gone stay");
            }
            _ => {}
        }
    }
}

async fn fetch(secret: &SecretPlan, server: &dyn Source) -> Result<Vec<u8>, Problem> {
    let failed = |why: String| Problem(format!("cannot get the secret for {}: {why}", secret.path));
    let mut pieces = server.fetch(format!("{VALUES_PATH}/{}", secret.id)).await.map_err(failed)?;
    let mut value = Vec::new();
    while let Some(piece) = pieces.next().await {
        value.extend_from_slice(&piece.map_err(|error| failed(error.to_string()))?);
        if value.len() > MAX_BYTES {
            return Err(failed(format!("it has more than {MAX_BYTES} bytes")));
        }
    }
    Ok(value)
}

/// Beside its place and renamed: a file that is there is whole.
fn write(path: &Path, value: &[u8], secret: &SecretPlan) -> io::Result<()> {
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let beside = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(value)?;
    std::os::unix::fs::fchown(&file, Some(secret.uid), Some(secret.gid)).map_err(|error| {
        io::Error::new(error.kind(), format!("it cannot belong to {}:{}: {error}", secret.uid, secret.gid))
    })?;
    file.set_permissions(fs::Permissions::from_mode(secret.mode))?;
    fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use bytes::Bytes;
    use futures_util::future::BoxFuture;
    use remuda_runtime::Link;
    use remuda_wire::stream::StreamOpen;

    use super::*;
    use crate::engine::Tar;
    use crate::links;

    /// Gives the path that was asked for, once.
    struct Once(std::sync::atomic::AtomicBool);

    impl Source for Once {
        fn connect(&self) -> BoxFuture<'_, Result<Link, links::Error>> {
            Box::pin(std::future::pending())
        }
        fn stream<'a>(&'a self, _open: &'a StreamOpen) -> BoxFuture<'a, Result<Link, links::Error>> {
            Box::pin(std::future::pending())
        }
        fn fetch(&self, path: String) -> BoxFuture<'_, Result<Tar, String>> {
            let again = self.0.swap(true, std::sync::atomic::Ordering::Relaxed);
            let piece = futures_util::stream::iter([Ok(Bytes::from(path))]).boxed();
            Box::pin(async move { if again { Err("the server is away".to_owned()) } else { Ok(piece) } })
        }
    }

    #[tokio::test]
    async fn values_are_fetched_once_and_go_with_the_container() {
        let state = tempfile::tempdir().expect("a directory");
        let secrets = Secrets::new(Some(state.path()));
        let me = fs::metadata(state.path()).expect("looks");
        let plan = SecretPlan { id: 7, path: "/run/secrets/db".to_owned(), uid: me.uid(), gid: me.gid(), mode: 0o400 };
        let server = Once(false.into());
        let files = secrets.ensure("u", std::slice::from_ref(&plan), &server).await.expect("fetched");
        assert_eq!(fs::read_to_string(&files[0]).expect("reads"), "/v1/secretvalues/7");
        assert_eq!(fs::metadata(&files[0]).expect("looks").mode() & 0o7777, 0o400);
        assert_eq!(fs::metadata(state.path().join("secrets")).expect("looks").mode() & 0o777, 0o700);
        assert_eq!(secrets.ensure("u", std::slice::from_ref(&plan), &server).await.as_ref(), Ok(&files));
        let other = secrets.ensure("v", &[plan], &server).await.expect_err("the server is away");
        assert_eq!(other.to_string(), "cannot get the secret for /run/secrets/db: the server is away");
        secrets.forget("u");
        secrets.forget("u");
        assert!(!files[0].exists());
    }
}
