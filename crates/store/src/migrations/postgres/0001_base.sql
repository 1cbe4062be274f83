CREATE TABLE head (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    revision BIGINT NOT NULL,
    store_id TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    trimmed BIGINT NOT NULL
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
CREATE TABLE change (
    revision BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    table_name TEXT NOT NULL,
    kind TEXT NOT NULL,
    row_id BIGINT NOT NULL,
    account_id BIGINT,
    at BIGINT NOT NULL,
    PRIMARY KEY (revision, seq)
);
CREATE TABLE claim (
    kind TEXT NOT NULL,
    scope BIGINT NOT NULL,
    key TEXT NOT NULL,
    holder_table TEXT NOT NULL,
    holder_id BIGINT NOT NULL,
    PRIMARY KEY (kind, scope, key)
);
CREATE INDEX claim_holder ON claim (holder_table, holder_id);
CREATE TABLE lease (
    name TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    until_ms BIGINT NOT NULL
);
CREATE TABLE counter (
    name TEXT PRIMARY KEY,
    value BIGINT NOT NULL
);
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
);
