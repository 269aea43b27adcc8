-- Version 1 of the coordinator's database. Times are Unix seconds. Digests are 64 hexadecimal digits.

-- Every node that ever enrolled or was heard of. generation is the newest that it was given or has named.
CREATE TABLE nodes (
    node              TEXT PRIMARY KEY,
    joined_at         INTEGER NOT NULL,
    revoked_at        INTEGER,
    generation        INTEGER NOT NULL DEFAULT 0,
    reported          TEXT,
    health            TEXT,
    seen_at           INTEGER
) STRICT, WITHOUT ROWID;

-- The newest certificates of each node. key is the SHA-256 of its public key.
CREATE TABLE certificates (
    serial            TEXT PRIMARY KEY,
    node              TEXT NOT NULL REFERENCES nodes (node),
    key               TEXT NOT NULL,
    issued_at         INTEGER NOT NULL,
    not_after         INTEGER NOT NULL,
    revoked_at        INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX certificates_of_node ON certificates (node);

-- What each node should run. release and version are both NULL when the app should be stopped.
CREATE TABLE desired (
    node              TEXT NOT NULL REFERENCES nodes (node),
    app               TEXT NOT NULL,
    generation        INTEGER NOT NULL,
    release           TEXT,
    version           TEXT,
    PRIMARY KEY (node, app)
) STRICT, WITHOUT ROWID;

-- Invite tokens, by the SHA-256 of their secret.
CREATE TABLE invites (
    secret            TEXT PRIMARY KEY,
    name              TEXT,
    expires_at        INTEGER NOT NULL,
    uses_left         INTEGER NOT NULL CHECK (uses_left >= 0)
) STRICT, WITHOUT ROWID;

-- Which key used an invite, so that a node whose answer was lost may ask again.
CREATE TABLE joins (
    secret            TEXT NOT NULL REFERENCES invites (secret) ON DELETE CASCADE,
    key               TEXT NOT NULL,
    node              TEXT NOT NULL,
    PRIMARY KEY (secret, key)
) STRICT, WITHOUT ROWID;

-- Published releases. platforms, constraints: JSON, as in the manifest.
CREATE TABLE releases (
    app               TEXT NOT NULL,
    version           TEXT NOT NULL,
    id                TEXT NOT NULL,
    platforms         TEXT NOT NULL,
    constraints       TEXT NOT NULL,
    notes             TEXT,
    published_at      INTEGER NOT NULL,
    PRIMARY KEY (app, version)
) STRICT, WITHOUT ROWID;

-- Events of nodes, each once. Epoch 0 is the coordinator's own.
CREATE TABLE events (
    id                INTEGER PRIMARY KEY AUTOINCREMENT,
    node              TEXT NOT NULL,
    epoch             INTEGER NOT NULL,
    sequence          INTEGER NOT NULL,
    previous          INTEGER NOT NULL,
    stored_at         INTEGER NOT NULL,
    app               TEXT,
    event             TEXT NOT NULL,
    UNIQUE (node, epoch, sequence)
) STRICT;
CREATE INDEX events_of_node ON events (node, id);

-- How far each outbox is stored without a gap. The highest ordinal of a node is its newest epoch.
CREATE TABLE epochs (
    ordinal           INTEGER PRIMARY KEY AUTOINCREMENT,
    node              TEXT NOT NULL,
    epoch             INTEGER NOT NULL,
    acked             INTEGER NOT NULL,
    UNIQUE (node, epoch)
) STRICT;

-- Messages that were dropped because they could not be understood.
CREATE TABLE rejections (
    node              TEXT NOT NULL,
    channel           TEXT NOT NULL,
    why               TEXT NOT NULL,
    count             INTEGER NOT NULL,
    event_at          INTEGER NOT NULL,
    PRIMARY KEY (node, channel, why)
) STRICT, WITHOUT ROWID;
