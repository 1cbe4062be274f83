//! Claims: what must be unique is a row under a unique key, inserted in the deciding transaction (DESIGN §4).

use std::fmt;

/// Something only one holder can have: port 80/tcp of host 3, address 10.42.0.7 of network 1.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    /// What sort of thing: `port`, `address`, `unit`.
    pub kind: String,
    /// Row number of what it is claimed within: host, network, service.
    pub scope: i64,
    /// Which one within the scope.
    pub key: String,
    /// Who has or wants it.
    pub holder: Holder,
}

/// The row that holds a claim.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Holder {
    pub table: String,
    pub id: i64,
}

impl Claim {
    pub fn new(kind: &str, scope: i64, key: impl Into<String>, holder: Holder) -> Claim {
        Claim { kind: kind.to_owned(), scope, key: key.into(), holder }
    }
}

impl Holder {
    pub fn new(table: &str, id: i64) -> Holder {
        Holder { table: table.to_owned(), id }
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}` in {}", self.kind, self.key, self.scope)
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&remuda_schema::id::encode(&self.table, self.id))
    }
}
