-- Version 4: the audit log, and since when what a node should run is proven.

-- What was done, by whom. entry: JSON in canonical form; digest: its SHA-256. Each entry has the digest of the one before.
CREATE TABLE audit (
    sequence          INTEGER PRIMARY KEY,
    digest            TEXT NOT NULL,
    entry             TEXT NOT NULL
) STRICT;

-- When the node first proved that it runs it.
ALTER TABLE desired ADD COLUMN proved_at INTEGER;
