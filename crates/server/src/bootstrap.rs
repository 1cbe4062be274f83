//! The first start: the accounts everything else belongs to, the project `Default`, the administrator's key
//! (`access-control.md` §1).

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use remuda_model::{Account, ApiKey, Project, ServicesPortRange};
use remuda_orchestrator::commands;
use remuda_schema::{Role, Row, Time};
use remuda_store::{Query, Scope, Tx, secret};

use crate::failure::Failure;
use crate::managers::{keys, projects};
use crate::state::ServerState;

/// Row numbers of the accounts made at the first start.
pub const ADMIN: i64 = 1;
/// The project made at the first start.
pub const DEFAULT_PROJECT: i64 = 5;

/// Why the first start failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("writing the administrator's key to `{path}`")]
    Write {
        path: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    #[error("preparing the database for its first use")]
    Database(#[source] Box<Failure>),
}

/// The administrator's key, told once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminKey {
    pub access_key: String,
    pub secret_key: String,
    /// Where it is kept for programs.
    pub file: PathBuf,
}

/// Makes what is missing. A key only with access control on, and only when the administrator never had one.
pub async fn prepare(state: &ServerState, address: SocketAddr) -> Result<Option<AdminKey>, Error> {
    let needs_key = state
        .store
        .read::<_, Failure, _>(|read| {
            let keys = read.count::<ApiKey>(&Scope::Account(ADMIN), &Query::new().all())?;
            Ok(keys == 0)
        })
        .await
        .map_err(|failure| Error::Database(Box::new(failure)))?;
    let key = (needs_key && !state.options.dev).then(|| AdminKey {
        access_key: secret::public_value(&state.seams.random),
        secret_key: secret::secret_value(&state.seams.random),
        file: state.options.data_dir.join("admin.env"),
    });
    // Before the commit: a key that is stored and nowhere written down would lock everybody out.
    if let Some(key) = &key {
        write_file(key, address)?;
    }
    let (owned, stored) = (state.clone(), key.clone());
    state
        .store
        .write::<_, Failure, _>(move |tx| {
            first_rows(tx, &owned)?;
            if let Some(key) = &stored {
                let mut row = Row::new(
                    Some(ADMIN),
                    "active",
                    ApiKey {
                        public_value: Some(key.access_key.clone()),
                        secret_hash: Some(secret::hash(&owned.seams.random, &key.secret_key)),
                        ..ApiKey::default()
                    },
                );
                row.meta.name = Some("First administrator key".to_owned());
                tx.insert(row)?;
            }
            Ok(())
        })
        .await
        .map_err(|failure| Error::Database(Box::new(failure)))?;
    Ok(key)
}

fn write_file(key: &AdminKey, address: SocketAddr) -> Result<(), Error> {
    let host = match address.ip() {
        ip if ip.is_unspecified() && ip.is_ipv4() => "127.0.0.1".to_owned(),
        ip if ip.is_unspecified() => "[::1]".to_owned(),
        std::net::IpAddr::V6(ip) => format!("[{ip}]"),
        ip => ip.to_string(),
    };
    let text = format!(
        "REMUDA_URL=http://{host}:{}\nREMUDA_ACCESS_KEY={}\nREMUDA_SECRET_KEY={}\n",
        address.port(),
        key.access_key,
        key.secret_key
    );
    write_secretly(&key.file, &text).map_err(|cause| Error::Write { path: key.file.clone(), cause })
}

/// Replaces a file in one step; nobody else can read it at any moment.
fn write_secretly(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    let draft = path.with_extension("env.new");
    match fs::remove_file(&draft) {
        Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => return Err(cause),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, path)
}

fn first_rows(tx: &mut Tx<'_>, state: &ServerState) -> Result<(), Failure> {
    if tx.count::<Account>(&Scope::Everything, &Query::new().all())? > 0 {
        return Ok(());
    }
    let now = Time(state.seams.clock.now_ms());
    for (id, kind, account_state, name) in [
        (ADMIN, "admin", "active", "admin"),
        (2, "system", "inactive", "system"),
        (3, "superadmin", "inactive", "superadmin"),
        (4, "service", "active", "service"),
        (6, "token", "active", "token"),
    ] {
        let mut row = Row::new(None, account_state, Account::default());
        row.meta.id = id;
        row.meta.kind = kind.to_owned();
        row.meta.uuid = kind.to_owned();
        row.meta.name = Some(name.to_owned());
        row.meta.created = now;
        tx.insert(row)?;
    }
    let mut project = Row::new(None, "active", Project::default());
    project.meta.id = DEFAULT_PROJECT;
    project.meta.uuid = "adminProject".to_owned();
    project.meta.name = Some("Default".to_owned());
    project.meta.created = now;
    let mut project = tx.insert(project)?;
    let context = commands::Context {
        now,
        random: state.seams.random.clone(),
        account_id: DEFAULT_PROJECT,
        settings: state.settings.current(),
        principal: commands::Principal { account_id: ADMIN, role: Role::Admin },
    };
    let managed = commands::project_networks(tx, &context, DEFAULT_PROJECT)?;
    project.data.default_network_id = Some(managed.id());
    project.data.services_port_range = Some(ServicesPortRange { start_port: Some(49153), end_port: Some(65535) });
    tx.update(&mut project)?;
    tx.insert(projects::owner_row(DEFAULT_PROJECT, ADMIN, now))?;
    let (public_value, sealed) = keys::registration_values(state);
    tx.insert(keys::registration_row(public_value, sealed, ADMIN, now))?;
    Ok(())
}
