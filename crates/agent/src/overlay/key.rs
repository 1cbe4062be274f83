//! The host's WireGuard key: made here, kept here, only its public half is told.
//!
//! It belongs to a registration: a host that registers again gets another one, so that what was known of the old one
//! is worth nothing.

use std::fmt;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use gotatun::x25519::{PublicKey, StaticSecret};
use remuda_runtime::Random;
use serde::{Deserialize, Serialize};

use crate::state_dir::{self, IDENTITY, Identity, StateDir};

/// Name of its file in the state directory.
pub const FILE: &str = "wireguard.json";

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Kept {
    /// The access key of the registration.
    registered_as: String,
    private_key: String,
}

/// A private key.
#[derive(Clone)]
pub struct Key(StaticSecret);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.public())
    }
}

impl Key {
    fn read(text: &str) -> Option<Key> {
        let bytes: [u8; 32] = BASE64_STANDARD.decode(text).ok()?.try_into().ok()?;
        Some(Key(StaticSecret::from(bytes)))
    }

    pub fn secret(&self) -> StaticSecret {
        self.0.clone()
    }

    /// In base64, as `wg` reads it.
    pub fn text(&self) -> String {
        BASE64_STANDARD.encode(self.0.to_bytes())
    }

    /// The public half, in base64.
    pub fn public(&self) -> String {
        BASE64_STANDARD.encode(PublicKey::from(&self.0).as_bytes())
    }
}

/// A public key in base64.
pub fn public(text: &str) -> Option<PublicKey> {
    let bytes: [u8; 32] = BASE64_STANDARD.decode(text).ok()?.try_into().ok()?;
    Some(PublicKey::from(bytes))
}

/// The key of this registration, made when there is none.
pub fn of_registration(state: &StateDir, random: &Random) -> Result<Key, state_dir::Error> {
    let identity = state.load::<Identity>(IDENTITY)?.unwrap_or_default();
    let registered_as = identity.keys.map(|keys| keys.access_key).unwrap_or_default();
    if let Some(kept) = state.load::<Kept>(FILE)?
        && kept.registered_as == registered_as
        && let Some(key) = Key::read(&kept.private_key)
    {
        return Ok(key);
    }
    let mut bytes = [0; 32];
    random.fill(&mut bytes);
    let key = Key(StaticSecret::from(bytes));
    state.save(FILE, &Kept { registered_as, private_key: key.text() })?;
    Ok(key)
}

/// The key in the file, for the datapath.
pub fn load(state: &StateDir) -> Result<Option<Key>, state_dir::Error> {
    Ok(state.load::<Kept>(FILE)?.and_then(|kept| Key::read(&kept.private_key)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::state_dir::Keys;

    #[test]
    fn a_registration_has_a_key_and_the_next_has_another() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let random = Random::from_os();
        let register = |access_key: &str| {
            let keys = Keys { access_key: access_key.into(), ..Keys::default() };
            state.save(IDENTITY, &Identity { keys: Some(keys), ..Identity::default() }).unwrap();
        };
        register("one");
        let first = of_registration(&state, &random).unwrap();
        assert_eq!(of_registration(&state, &random).unwrap().public(), first.public());
        assert_eq!(load(&state).unwrap().unwrap().public(), first.public());
        register("two");
        assert_ne!(of_registration(&state, &random).unwrap().public(), first.public());
        let mode = std::fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!format!("{first:?}").contains(&first.text()), "never in a log");
        assert_eq!(public(&first.public()).unwrap().as_bytes(), PublicKey::from(&first.secret()).as_bytes());
        assert!(public("short").is_none());
    }
}
