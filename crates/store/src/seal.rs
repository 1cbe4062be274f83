//! Sealing what the platform must be able to give back (registry passwords, private keys): AES-256-GCM under a key that
//! lies outside the database, so that a copy of the database alone reveals nothing.
//!
//! The key file is made when it is absent, 0600. Its id (not the key) is recorded in the database at the first start; a
//! server with another key is refused, because it would seal values that the others cannot open.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use remuda_runtime::Random;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::digest::{Context, SHA256};
use ring::hkdf::{HKDF_SHA256, Prk, Salt};

use crate::error::Error;
use crate::store::Store;

const KEY_LEN: usize = 32;
/// First word of a sealed text: says how it was sealed.
const FORM: &str = "v1";
const META_KEY: &str = "seal.key-id";

/// Seals and opens. Clones share the key.
#[derive(Clone)]
pub struct Seal {
    key: Arc<LessSafeKey>,
    /// What other keys are derived from.
    root: Prk,
    id: String,
    path: PathBuf,
    random: Random,
}

/// Why there is no usable seal, or a text does not open.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    #[error("the key file `{path}` cannot be {step}")]
    File {
        path: PathBuf,
        step: &'static str,
        #[source]
        cause: std::io::Error,
    },
    #[error("the key file `{path}` holds no key; it should be one line of base64 for 32 bytes")]
    NotAKey { path: PathBuf },
    #[error(
        "the key file `{path}` is readable by others; run `chmod 600` on it, and replace the key if others may have read it"
    )]
    Exposed { path: PathBuf },
    #[error(
        "the key in `{path}` ({found}) is not the one this database was sealed with ({expected}); start with that key file (`--key-file`)"
    )]
    OtherKey { path: PathBuf, expected: String, found: String },
    #[error("a sealed value cannot be opened: it was changed, or sealed with another key than `{key_id}`")]
    Broken { key_id: String },
    #[error("the key cannot be compared with the database's")]
    Store(#[from] Error),
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seal").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Seal {
    /// Reads the key file, or makes it with a new key.
    pub fn load(path: &Path, random: &Random) -> Result<Seal, SealError> {
        let text = match read_key(path) {
            Err(SealError::File { cause, .. }) if cause.kind() == ErrorKind::NotFound => make_key(path, random)?,
            read => read?,
        };
        let bytes = parse(&text).ok_or_else(|| SealError::NotAKey { path: path.to_owned() })?;
        Ok(Seal::new(&bytes, path.to_owned(), random))
    }

    /// A seal whose key is gone with it, for stores in memory and tests.
    pub fn transient(random: &Random) -> Seal {
        let mut bytes = [0; KEY_LEN];
        random.fill(&mut bytes);
        Seal::new(&bytes, PathBuf::from("(memory)"), random)
    }

    fn new(bytes: &[u8; KEY_LEN], path: PathBuf, random: &Random) -> Seal {
        let key = UnboundKey::new(&AES_256_GCM, bytes).expect("the key has the length the algorithm asks for");
        let mut context = Context::new(&SHA256);
        context.update(b"remuda key id");
        context.update(bytes);
        let id = context.finish().as_ref()[..6].iter().map(|byte| format!("{byte:02x}")).collect();
        let root = Salt::new(HKDF_SHA256, b"remuda").extract(bytes);
        Seal { key: Arc::new(LessSafeKey::new(key)), root, id, path, random: random.clone() }
    }

    /// A key for that purpose: the same one wherever the key file is the same, and no way back to it.
    pub fn derived(&self, purpose: &str) -> [u8; KEY_LEN] {
        let mut key = [0; KEY_LEN];
        let purpose = [purpose.as_bytes()];
        let expanded = self.root.expand(&purpose, HKDF_SHA256).and_then(|expanded| expanded.fill(&mut key));
        expanded.expect("one hash is as long as the key");
        key
    }

    /// Which key this is, without telling the key.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Records the key in the database, or compares it with the one recorded.
    pub async fn bind(&self, store: &Store) -> Result<(), SealError> {
        let id = self.id.clone();
        let recorded = store.write(move |tx| match tx.meta(META_KEY)? {
            Some(recorded) => Ok::<_, Error>(recorded),
            None => {
                tx.meta_set(META_KEY, &id)?;
                Ok(id.clone())
            }
        });
        let expected = recorded.await?.value;
        if expected == self.id {
            Ok(())
        } else {
            Err(SealError::OtherKey { path: self.path.clone(), expected, found: self.id.clone() })
        }
    }

    /// Seals a value into text. Sealing twice gives two texts.
    pub fn seal(&self, value: &[u8]) -> String {
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce);
        let mut sealed = value.to_vec();
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(FORM.as_bytes()), &mut sealed)
            .expect("the value is far below the 64 GiB that the algorithm can seal");
        let mut bytes = nonce.to_vec();
        bytes.append(&mut sealed);
        format!("{FORM}:{}:{}", self.id, BASE64.encode(bytes))
    }

    /// Opens what [`Seal::seal`] gave.
    pub fn open(&self, sealed: &str) -> Result<Vec<u8>, SealError> {
        self.try_open(sealed).ok_or_else(|| SealError::Broken { key_id: self.id.clone() })
    }

    fn try_open(&self, sealed: &str) -> Option<Vec<u8>> {
        let (id, text) = sealed.strip_prefix(FORM)?.strip_prefix(':')?.split_once(':')?;
        if id != self.id {
            return None;
        }
        let mut bytes = BASE64.decode(text).ok()?;
        let (nonce, value) = bytes.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let opened = self.key.open_in_place(nonce, Aad::from(FORM.as_bytes()), value).ok()?;
        Some(opened.to_vec())
    }
}

fn read_key(path: &Path) -> Result<String, SealError> {
    let failed = |step| move |cause| SealError::File { path: path.to_owned(), step, cause };
    let mut file = File::open(path).map_err(failed("opened"))?;
    let mode = file.metadata().map_err(failed("opened"))?.mode();
    if mode & 0o077 != 0 {
        return Err(SealError::Exposed { path: path.to_owned() });
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(failed("read"))?;
    Ok(text)
}

/// Writes a new key beside its place and links it there: two starts at once agree on one key, and a crash leaves none.
fn make_key(path: &Path, random: &Random) -> Result<String, SealError> {
    let failed = |step| move |cause| SealError::File { path: path.to_owned(), step, cause };
    let mut bytes = [0; KEY_LEN];
    random.fill(&mut bytes);
    let text = format!("{}\n", BASE64.encode(bytes));
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(failed("made"))?;
    }
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{}", random.uuid()));
    let draft = PathBuf::from(draft);
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&draft).map_err(failed("made"))?;
    let placed = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| std::fs::hard_link(&draft, path))
        .and_then(|()| {
            path.parent().filter(|dir| !dir.as_os_str().is_empty()).map_or(Ok(()), |dir| File::open(dir)?.sync_all())
        });
    let removed = std::fs::remove_file(&draft);
    match placed {
        Ok(()) => removed.map(|()| text).map_err(failed("made")),
        Err(cause) if cause.kind() == ErrorKind::AlreadyExists => read_key(path),
        Err(cause) => Err(failed("made")(cause)),
    }
}

fn parse(text: &str) -> Option<[u8; KEY_LEN]> {
    BASE64.decode(text.trim()).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_with_its_key_only() {
        let random = Random::seeded(5);
        let (one, other) = (Seal::transient(&random), Seal::transient(&random));
        let sealed = one.seal(b"hunter2");
        assert!(!sealed.contains("hunter2"));
        assert_ne!(sealed, one.seal(b"hunter2"));
        assert_eq!(one.open(&sealed).ok().as_deref(), Some(b"hunter2".as_slice()));
        let foreign = other.seal(b"hunter2").replace(other.id(), one.id());
        let mut cut = sealed.clone();
        cut.truncate(sealed.len() - 4);
        for broken in
            [other.seal(b"hunter2"), foreign, cut, "v1:x:y".into(), String::new(), format!("v1:{}:", one.id())]
        {
            assert!(matches!(one.open(&broken), Err(SealError::Broken { .. })), "{broken}");
        }
    }

    #[test]
    fn the_key_file_is_made_once_and_must_be_private() {
        let dir = tempfile::tempdir().expect("a directory for tests");
        let path = dir.path().join("key");
        let random = Random::from_os();
        let made = Seal::load(&path, &random).expect("made");
        assert_eq!(std::fs::metadata(&path).expect("there").mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).expect("there").count(), 1);
        let read = Seal::load(&path, &random).expect("read");
        assert_eq!(read.open(&made.seal(b"x")).expect("opens"), b"x");

        let exposed = dir.path().join("exposed");
        std::fs::write(&exposed, "00").expect("written");
        assert!(matches!(Seal::load(&exposed, &random), Err(SealError::Exposed { .. })));
        let short = dir.path().join("short");
        std::fs::copy(&path, &short).and_then(|_| std::fs::write(&short, "00\n")).expect("written");
        assert!(matches!(Seal::load(&short, &random), Err(SealError::NotAKey { .. })));
        let nowhere = short.join("key");
        assert!(matches!(Seal::load(&nowhere, &random), Err(SealError::File { .. })));
    }
}
