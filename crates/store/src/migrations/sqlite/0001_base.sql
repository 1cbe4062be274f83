CREATE TABLE head (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    revision INTEGER NOT NULL,
    store_id TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    trimmed INTEGER NOT NULL
) STRICT;
CREATE TABLE change (
    revision INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    table_name TEXT NOT NULL,
    kind TEXT NOT NULL,
    row_id INTEGER NOT NULL,
    account_id INTEGER,
    at INTEGER NOT NULL,
    PRIMARY KEY (revision, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE claim (
    kind TEXT NOT NULL,
    scope INTEGER NOT NULL,
    key TEXT NOT NULL,
    holder_table TEXT NOT NULL,
    holder_id INTEGER NOT NULL,
    PRIMARY KEY (kind, scope, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX claim_holder ON claim (holder_table, holder_id);
CREATE TABLE lease (
    name TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    until_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE counter (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
