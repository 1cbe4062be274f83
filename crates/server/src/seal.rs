//! Secrets that the platform must be able to read again (registration keys, signing keys) lie in the database sealed
//! with a key from a file outside the data directory; secrets it only has to recognise are hashed.
//!
//! Sealed form: base64 of nonce, then ChaCha20-Poly1305 of the text. Hash of a generated API secret: `salt:SHA-256(salt
//! + secret)`; such secrets have more than 200 bits, so a slow hash would add time to every request and no safety.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, Engine as _};
use remuda_runtime::Random;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::{digest, hmac};

/// Why the key cannot be had or a secret cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("reading the key file `{path}`")]
    Read {
        path: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    #[error("creating the key file `{path}`; name a writable place with `--key-file`")]
    Create {
        path: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    #[error("the key file `{path}` holds no key: it should be one line of base64 for 32 bytes")]
    Malformed { path: PathBuf },
    #[error("a secret in the database was sealed with another key than this server's `--key-file`")]
    WrongKey,
}

/// Seals and opens secrets.
pub struct Sealer {
    key: LessSafeKey,
    random: Random,
}

impl Sealer {
    /// A sealer with that key.
    pub fn new(key: &[u8; 32], random: Random) -> Sealer {
        let key = UnboundKey::new(&CHACHA20_POLY1305, key).expect("the algorithm takes 32 bytes");
        Sealer { key: LessSafeKey::new(key), random }
    }

    /// Reads the key file; makes one (mode 0600) when there is none.
    pub fn from_file(path: &Path, random: Random) -> Result<Sealer, Error> {
        let malformed = || Error::Malformed { path: path.to_owned() };
        match fs::read_to_string(path) {
            Ok(text) => {
                let bytes = BASE64_STANDARD.decode(text.trim()).map_err(|_| malformed())?;
                let key = <[u8; 32]>::try_from(bytes).map_err(|_| malformed())?;
                Ok(Sealer::new(&key, random))
            }
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
                let mut key = [0; 32];
                random.fill(&mut key);
                let create = |cause| Error::Create { path: path.to_owned(), cause };
                if let Some(parent) = path.parent() {
                    fs::create_dir_all(parent).map_err(create)?;
                }
                let mut file =
                    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(create)?;
                writeln!(file, "{}", BASE64_STANDARD.encode(key)).map_err(create)?;
                file.sync_all().map_err(create)?;
                Ok(Sealer::new(&key, random))
            }
            Err(cause) => Err(Error::Read { path: path.to_owned(), cause }),
        }
    }

    /// Seals a secret.
    pub fn seal(&self, secret: &[u8]) -> String {
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce);
        let mut text = secret.to_vec();
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut text)
            .expect("secrets are far below the algorithm's limit of 256 GB");
        let mut sealed = nonce.to_vec();
        sealed.append(&mut text);
        BASE64_STANDARD.encode(sealed)
    }

    /// Opens what [`Sealer::seal`] made with the same key.
    pub fn open(&self, sealed: &str) -> Result<Vec<u8>, Error> {
        let bytes = BASE64_STANDARD.decode(sealed).map_err(|_| Error::WrongKey)?;
        let (nonce, text) = bytes.split_at_checked(NONCE_LEN).ok_or(Error::WrongKey)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Error::WrongKey)?;
        let mut text = text.to_vec();
        let secret = self.key.open_in_place(nonce, Aad::empty(), &mut text).map_err(|_| Error::WrongKey)?;
        Ok(secret.to_vec())
    }
}

/// Hash of a generated secret, with a fresh salt.
pub fn hash_secret(secret: &str, random: &Random) -> String {
    let salt = random.text(b"0123456789abcdef", 16);
    let hash = hex(digest::digest(&digest::SHA256, format!("{salt}{secret}").as_bytes()).as_ref());
    format!("{salt}:{hash}")
}

/// Whether `secret` is the one that was hashed. Takes the same time wherever they differ.
pub fn is_secret(secret: &str, stored: &str) -> bool {
    let Some((salt, hash)) = stored.split_once(':') else { return false };
    let found = hex(digest::digest(&digest::SHA256, format!("{salt}{secret}").as_bytes()).as_ref());
    are_equal(found.as_bytes(), hash.as_bytes())
}

/// An access key: 20 upper-case hexadecimal digits.
pub fn generate_public_value(random: &Random) -> String {
    random.text(b"0123456789ABCDEF", 20)
}

/// A secret of 40 characters none of which is mistaken for another (`access-control.md` §4).
pub fn generate_secret_value(random: &Random) -> String {
    random.text(b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz", 40)
}

/// Milliseconds in the hour for which a registration token is spelled.
const HOUR_MS: i64 = 3_600_000;

/// The registration token of this hour (`access-control.md` §9).
pub fn registration_token(public_value: &str, secret: &[u8], now_ms: i64) -> String {
    let signed = format!("{public_value}:{}", now_ms.div_euclid(HOUR_MS) * HOUR_MS);
    let signature = registration_signature(secret, &signed);
    format!("{signed}:{signature}")
}

/// The parts of a registration token: public value, its hour, its signature.
pub fn registration_token_parts(token: &str) -> Option<(&str, i64, &str)> {
    let mut parts = token.split(':');
    let found = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?);
    parts.next().is_none().then_some(found)
}

/// Whether the token was made with this secret and is not older than `period_ms`.
pub fn is_registration_token(token: &str, secret: &[u8], now_ms: i64, period_ms: i64) -> bool {
    let Some((public_value, at_ms, signature)) = registration_token_parts(token) else { return false };
    let expected = registration_signature(secret, &format!("{public_value}:{at_ms}"));
    are_equal(expected.as_bytes(), signature.as_bytes())
        && at_ms <= now_ms.saturating_add(HOUR_MS)
        && at_ms.saturating_add(period_ms) > now_ms
}

fn registration_signature(secret: &[u8], signed: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret);
    BASE64_STANDARD_NO_PAD.encode(hmac::sign(&key, signed.as_bytes())).replace(['/', '+'], "")
}

/// Compares without stopping at the first difference, so that the time taken says nothing about where it is.
fn are_equal(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len() && left.iter().zip(right).fold(0, |differences, (a, b)| differences | (a ^ b)) == 0
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_secrets_open_with_their_key_only() {
        let random = Random::seeded(1);
        let sealer = Sealer::new(&[1; 32], random.clone());
        let sealed = sealer.seal(b"secret");
        assert_eq!(sealer.open(&sealed).ok().as_deref(), Some(&b"secret"[..]));
        assert_ne!(sealed, sealer.seal(b"secret"));
        for bad in [String::new(), "AAAA".into(), format!("A{}", &sealed[1..]), "é".into()] {
            assert!(sealer.open(&bad).is_err(), "{bad}");
        }
        assert!(Sealer::new(&[2; 32], random).open(&sealed).is_err());
    }

    #[test]
    fn the_key_file_is_made_once() {
        let dir = std::env::temp_dir().join(format!("remuda-seal-{}", Random::from_os().uuid()));
        let path = dir.join("data.key");
        let sealed = Sealer::from_file(&path, Random::from_os()).expect("made").seal(b"x");
        assert_eq!(Sealer::from_file(&path, Random::from_os()).expect("read").open(&sealed).expect("opens"), b"x");
        fs::write(&path, "no key").expect("written");
        assert!(matches!(Sealer::from_file(&path, Random::from_os()), Err(Error::Malformed { .. })));
        fs::remove_dir_all(dir).expect("removed");
    }

    #[test]
    fn secrets_are_recognised_by_their_hash() {
        let random = Random::seeded(2);
        let secret = generate_secret_value(&random);
        assert_eq!((secret.len(), generate_public_value(&random).len()), (40, 20));
        assert!(!secret.contains(['O', '0', 'l', 'I', '+', '/', '=']));
        let stored = hash_secret(&secret, &random);
        assert!(is_secret(&secret, &stored));
        assert!(!is_secret("other", &stored) && !is_secret(&secret, "") && !is_secret(&secret, "a:b"));
    }

    #[test]
    fn registration_tokens_hold_for_their_period() {
        let token = registration_token("ABC", b"secret", 7_200_001);
        assert!(token.starts_with("ABC:7200000:"), "{token}");
        assert!(is_registration_token(&token, b"secret", 7_200_001, HOUR_MS));
        assert!(!is_registration_token(&token, b"secret", 7_200_000 + HOUR_MS, HOUR_MS));
        assert!(!is_registration_token(&token, b"other", 7_200_001, HOUR_MS));
        for bad in ["", "a:b", "a:1:c:d", "a:x:c", "ABC:7200000:"] {
            assert!(!is_registration_token(bad, b"secret", 7_200_001, HOUR_MS), "{bad}");
        }
    }
}
