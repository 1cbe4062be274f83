//! The change feed: which rows each committed transaction wrote, in commit order (DESIGN §4).

/// One row that a commit wrote or deleted. A row appears once per commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Of the commit. Revisions have no gaps.
    pub revision: i64,
    pub table: String,
    /// Most specific type of the row.
    pub kind: String,
    pub id: i64,
    /// The owner.
    pub account_id: Option<i64>,
}

/// What happened after a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Feed {
    /// Whole commits in order, possibly none. Continue after the revision of the last.
    Changes(Vec<Change>),
    /// The records no longer reach back that far (or the revision is of another history): list again.
    TooOld,
}

/// Who the database is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Random, made with the database.
    pub store_id: String,
    /// Raised when an older copy of the database was put in place.
    pub epoch: i64,
}
