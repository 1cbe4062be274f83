//! Keys and secrets that the platform only needs to recognise: random values in the alphabets clients know
//! (`access-control.md` §4), stored as salted hashes.
//!
//! SHA-256 is enough here because the secrets are random and long; passwords of people go through argon2id instead.

use remuda_runtime::Random;
use ring::digest::{Context, SHA256};

const UPPER_HEX: &[u8] = b"0123456789ABCDEF";
/// Letters and digits without those that are mistaken for others.
const SECRET: &[u8] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
const SALT: &[u8] = b"0123456789abcdef";

/// The public part of a key: 20 upper-case hexadecimal digits.
pub fn public_value(random: &Random) -> String {
    random.text(UPPER_HEX, 20)
}

/// The secret part of a key: 40 letters and digits.
pub fn secret_value(random: &Random) -> String {
    random.text(SECRET, 40)
}

/// The form in which a secret is stored: `salt:SHA-256(salt + secret)`, the hash in hexadecimal.
pub fn hash(random: &Random, secret: &str) -> String {
    let salt = random.text(SALT, 32);
    let hash = salted(&salt, secret);
    format!("{salt}:{hash}")
}

/// Whether `secret` is the one whose [`hash`] was stored. Takes as long for a wrong one as for the right one.
pub fn verify(stored: &str, secret: &str) -> bool {
    let Some((salt, hash)) = stored.split_once(':') else { return false };
    same(hash.as_bytes(), salted(salt, secret).as_bytes())
}

/// Compares without telling by the time it takes where the first difference is.
pub fn same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |differences, (a, b)| differences | (a ^ b)) == 0
}

fn salted(salt: &str, secret: &str) -> String {
    let mut context = Context::new(&SHA256);
    context.update(salt.as_bytes());
    context.update(secret.as_bytes());
    context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_the_shape_clients_know() {
        let random = Random::seeded(3);
        let (public, secret) = (public_value(&random), secret_value(&random));
        assert!(public.len() == 20 && public.bytes().all(|byte| UPPER_HEX.contains(&byte)), "{public}");
        assert!(secret.len() == 40 && !secret.contains(['O', '0', 'l', 'I', '+', '/', '=']), "{secret}");
        assert_ne!(secret, secret_value(&random));
    }

    #[test]
    fn a_stored_hash_knows_its_secret_only() {
        let random = Random::seeded(4);
        let stored = hash(&random, "s3cret");
        assert_ne!(stored, hash(&random, "s3cret"));
        for (stored, secret, known) in [
            (stored.as_str(), "s3cret", true),
            (stored.as_str(), "s3creT", false),
            (stored.as_str(), "", false),
            ("", "s3cret", false),
            ("no hash", "s3cret", false),
        ] {
            assert_eq!(verify(stored, secret), known, "{stored} {secret}");
        }
    }
}
