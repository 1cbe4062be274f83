//! Tokens with which hosts join (`access-control.md` §9): `publicValue:hour:signature`. They are made at every reading
//! and change with the hour; each stays good for the period that a setting gives.

use base64::prelude::{BASE64_STANDARD_NO_PAD, Engine as _};
use remuda_store::secret;
use ring::hmac;

/// Milliseconds in the hour for which a token is spelled.
const HOUR_MS: i64 = 3_600_000;

/// The token of this hour.
pub fn spell(public_value: &str, secret: &[u8], now_ms: i64) -> String {
    let signed = format!("{public_value}:{}", now_ms.div_euclid(HOUR_MS) * HOUR_MS);
    let signature = signature(secret, &signed);
    format!("{signed}:{signature}")
}

/// Public value, hour and signature of a token.
pub fn parts(token: &str) -> Option<(&str, i64, &str)> {
    let mut parts = token.split(':');
    let found = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?);
    parts.next().is_none().then_some(found)
}

/// Whether the token was made with this secret and is not older than `period_ms`.
pub fn is_good(token: &str, secret: &[u8], now_ms: i64, period_ms: i64) -> bool {
    let Some((public_value, at_ms, found)) = parts(token) else { return false };
    let expected = signature(secret, &format!("{public_value}:{at_ms}"));
    secret::same(expected.as_bytes(), found.as_bytes())
        && at_ms <= now_ms.saturating_add(HOUR_MS)
        && at_ms.saturating_add(period_ms) > now_ms
}

fn signature(secret: &[u8], signed: &str) -> String {
    // SHA-1 because the form is given; an HMAC does not rest on the collisions SHA-1 has.
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret);
    BASE64_STANDARD_NO_PAD.encode(hmac::sign(&key, signed.as_bytes())).replace(['/', '+'], "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_hold_for_their_period() {
        let token = spell("ABC", b"secret", 7_200_001);
        assert!(token.starts_with("ABC:7200000:"), "{token}");
        assert!(is_good(&token, b"secret", 7_200_001, HOUR_MS));
        assert!(!is_good(&token, b"secret", 7_200_000 + HOUR_MS, HOUR_MS));
        assert!(!is_good(&token, b"other", 7_200_001, HOUR_MS));
        for bad in ["", "a:b", "a:1:c:d", "a:x:c", "ABC:7200000:"] {
            assert!(!is_good(bad, b"secret", 7_200_001, HOUR_MS), "{bad}");
        }
    }
}
