//! The one implementation of TLS's cryptography that every client in this process uses.

/// Chooses it, unless somebody did before. Without a choice the clients panic when they are made.
pub fn provider_choose() {
    // The error says that one was chosen already, which is as good.
    drop(rustls::crypto::ring::default_provider().install_default());
}
