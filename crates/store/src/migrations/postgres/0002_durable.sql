CREATE TABLE durable (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    revision BIGINT NOT NULL
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
INSERT INTO durable (one, revision) VALUES (1, COALESCE((SELECT revision FROM head), 0));
