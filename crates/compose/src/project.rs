//! What a compile reads and what it makes: the interface of this crate.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use crate::problem::Problem;
use crate::questions::Question;

/// One file: how the user calls it, and what it says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceFile {
    pub name: String,
    pub text: String,
}

/// Why a file that another one names is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    #[error("there is no file `{0}`")]
    Missing(String),
    #[error("files beside the compose file are not available here: the server has only the texts it was given")]
    NotAvailable,
    #[error("cannot read `{path}`: {why}")]
    Unreadable { path: String, why: String },
}

/// The files that compose files name: `env_file`, `extends.file`, `include`, and the directories of builds.
pub trait Files {
    /// Reads `path` as written in the file called `from`.
    fn read(&self, from: &str, path: &str) -> Result<SourceFile, FileError>;

    /// The directory a build context means, absolute, or why there cannot be one.
    fn directory(&self, from: &str, path: &str) -> Result<String, FileError>;

    /// The bytes of a file, for secrets: they need not be text.
    fn bytes(&self, from: &str, path: &str) -> Result<Vec<u8>, FileError> {
        self.read(from, path).map(|file| file.text.into_bytes())
    }
}

/// No files but the given texts: what the server has.
pub struct NoFiles;

impl Files for NoFiles {
    fn read(&self, _from: &str, _path: &str) -> Result<SourceFile, FileError> {
        Err(FileError::NotAvailable)
    }

    fn directory(&self, _from: &str, _path: &str) -> Result<String, FileError> {
        Err(FileError::NotAvailable)
    }
}

/// Everything a compile reads.
pub struct Sources<'a> {
    /// The compose file and its overrides, in order.
    pub compose: Vec<SourceFile>,
    pub rancher: Option<SourceFile>,
    pub files: &'a dyn Files,
    /// Value of a variable, from wherever the caller looks them up.
    pub variables: &'a dyn Fn(&str) -> Option<String>,
    /// Profiles that are switched on; `*` means all.
    pub profiles: Vec<String>,
    /// Services that were asked for by name; their profiles count as switched on.
    pub named: Vec<String>,
    /// Name of the stack when it was given outside the files.
    pub stack: Option<String>,
    /// Name of the stack when nothing else names it: that of the directory.
    pub directory: String,
    /// A variable without value is an error, not a warning.
    pub strict: bool,
}

impl<'a> Sources<'a> {
    /// One file, no others, no variables but those of `variables`.
    pub fn of(text: SourceFile, variables: &'a dyn Fn(&str) -> Option<String>) -> Sources<'a> {
        Sources {
            compose: vec![text],
            rancher: None,
            files: &NoFiles,
            variables,
            profiles: Vec::new(),
            named: Vec::new(),
            stack: None,
            directory: "stack".to_owned(),
            strict: false,
        }
    }
}

/// What the files say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Project {
    /// Top-level `name`, for the stack.
    pub name: Option<String>,
    /// Name of the stack: given, else `name`, else that of the directory.
    pub stack: String,
    /// Every service after those it needs, as far as there is such an order.
    pub services: Vec<Service>,
    /// `.catalog` questions.
    pub questions: Vec<Question>,
    /// Named volumes that are declared.
    pub volumes: Vec<Volume>,
    /// Secrets and configs that services use.
    pub secrets: Vec<SecretSource>,
    /// Variables the files use, with the value each one got.
    pub variables: BTreeMap<String, Option<String>>,
    pub warnings: Vec<Problem>,
}

/// Which resource a service is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    #[default]
    Service,
    LoadBalancer,
    Dns,
    External,
}

impl Kind {
    /// Type of the resource.
    pub fn resource(self) -> &'static str {
        match self {
            Kind::Service => "service",
            Kind::LoadBalancer => "loadBalancerService",
            Kind::Dns => "dnsService",
            Kind::External => "externalService",
        }
    }

    /// Collection it is created in.
    pub fn collection(self) -> &'static str {
        match self {
            Kind::Service => "services",
            Kind::LoadBalancer => "loadbalancerservices",
            Kind::Dns => "dnsservices",
            Kind::External => "externalservices",
        }
    }

    /// The kind of a resource's type; foreign kinds are `None`.
    pub fn of(resource: &str) -> Option<Kind> {
        [Kind::Service, Kind::LoadBalancer, Kind::Dns, Kind::External]
            .into_iter()
            .find(|kind| kind.resource() == resource)
    }
}

/// One service to create.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Service {
    pub name: String,
    pub kind: Kind,
    /// The create input without `environmentId` and links; hashes are in their three places.
    pub api: Map<String, Json>,
    /// Names of the sidekicks, in the order of `secondaryLaunchConfigs`.
    pub sidekicks: Vec<String>,
    pub links: Vec<Link>,
    pub depends_on: Vec<Dependency>,
    pub upgrade_strategy: UpgradeStrategy,
    /// `deploy.replicas`: applied by every `up`. The scale of [`Service::api`] counts at creation only.
    pub declared_scale: Option<i64>,
    /// Certificates by name; the caller turns them into ids.
    pub default_certificate: Option<String>,
    pub certificates: Vec<String>,
    /// `r1-…` of everything but launch configs, links and scale.
    pub hash: String,
    /// `r1-…` of each launch config; the primary has the name of the service.
    pub lc_hashes: BTreeMap<String, String>,
    /// Images a `pull` fetches: the primary's and the sidekicks'.
    pub images: Vec<String>,
    /// What must be built and uploaded before the service is created.
    pub builds: Vec<Build>,
    /// `file:line` of the definition.
    pub place: String,
}

/// A link; identity is (target, alias).
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link {
    pub target: String,
    /// Another stack; `None` for this one.
    pub stack: Option<String>,
    pub alias: Option<String>,
    /// Target rules of a load balancer.
    pub ports: Vec<String>,
}

/// What a dependant waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    #[default]
    Started,
    Healthy,
    CompletedSuccessfully,
}

/// An edge of `depends_on`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dependency {
    pub target: String,
    pub condition: Condition,
    /// Its absence is an error.
    pub required: bool,
    /// An upgrade of the target restarts this service.
    pub restart: bool,
}

/// What the file says of upgrades; flags of the command beat it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UpgradeStrategy {
    pub start_first: Option<bool>,
    pub batch_size: Option<i64>,
    pub interval_ms: Option<i64>,
    /// An upgrade that errors is rolled back.
    pub rollback: bool,
}

/// A directory to send to the server (remote contexts are in the launch config already).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Build {
    /// Whose image: the service or one of its sidekicks.
    pub launch_config: String,
    /// Absolute path of the context.
    pub directory: String,
    pub dockerfile: Option<String>,
    pub dockerfile_inline: Option<String>,
    pub target: Option<String>,
    pub args: BTreeMap<String, String>,
    /// The file's `image`, when it names one: what the result is called.
    pub image: Option<String>,
}

/// A secret or a config: a file that containers get.
#[derive(Clone, PartialEq)]
pub struct SecretSource {
    /// What stands for its id in `launchConfig.secrets` of compiled services.
    pub key: String,
    pub kind: SecretKind,
    /// What the server calls it.
    pub real_name: String,
    /// `None`: external, it is there already.
    pub value: Option<Vec<u8>>,
    /// `file:line` of the declaration.
    pub place: String,
}

/// Shows no value.
impl std::fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretSource")
            .field("key", &self.key)
            .field("real_name", &self.real_name)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretKind {
    Secret,
    Config,
}

impl SecretKind {
    /// Name of the section, and of the key of a service.
    pub fn section(self) -> &'static str {
        match self {
            SecretKind::Secret => "secrets",
            SecretKind::Config => "configs",
        }
    }

    /// See [`SecretSource::key`].
    pub fn key(self, name: &str) -> String {
        format!("{self}:{name}")
    }
}

impl std::fmt::Display for SecretKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            SecretKind::Secret => "secret",
            SecretKind::Config => "config",
        })
    }
}

/// A declared named volume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    /// What the file calls it.
    pub name: String,
    /// What the hosts call it.
    pub real_name: String,
    pub driver: Option<String>,
    pub driver_opts: BTreeMap<String, String>,
    pub external: bool,
    /// One for each container that mounts it: `real_name` ends with a number that the server fills in.
    pub per_container: bool,
}

impl Volume {
    /// Whether a `volume` resource must exist first.
    pub fn is_resource(&self) -> bool {
        self.driver.as_deref().is_some_and(|driver| driver != "local")
    }
}

impl Service {
    /// Services of the file that come first: links and `depends_on`.
    pub fn needs(&self) -> impl Iterator<Item = &str> {
        let links = self.links.iter().filter(|link| link.stack.is_none()).map(|link| link.target.as_str());
        links.chain(self.depends_on.iter().map(|edge| edge.target.as_str()))
    }

    /// Body of the `POST` that creates it.
    pub fn body(&self, stack_id: &str) -> Json {
        let mut body = self.api.clone();
        body.insert("environmentId".to_owned(), stack_id.into());
        Json::Object(body)
    }
}
