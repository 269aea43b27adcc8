-- Version 6: notices, whom they were told to, and what lasts that they told of.

-- What targets of notifications are told, in this order. notice: JSON. Ids are never used again.
CREATE TABLE notices (
    id                INTEGER PRIMARY KEY AUTOINCREMENT,
    at                INTEGER NOT NULL,
    notice            TEXT NOT NULL
) STRICT;

-- How far each target was told, and how that went. sent, failed: messages; given_up: notices.
CREATE TABLE notify_targets (
    name              TEXT PRIMARY KEY,
    told              INTEGER NOT NULL,
    sent              INTEGER NOT NULL DEFAULT 0,
    failed            INTEGER NOT NULL DEFAULT 0,
    given_up          INTEGER NOT NULL DEFAULT 0,
    succeeded_at      INTEGER,
    failed_at         INTEGER,
    failure           TEXT,
    retry_at          INTEGER
) STRICT, WITHOUT ROWID;

-- What lasts and was told when it began, so that it is told once: silence, a missing reserve, a wait for approval.
CREATE TABLE conditions (
    condition         TEXT NOT NULL,
    subject           TEXT NOT NULL,
    since             INTEGER NOT NULL,
    PRIMARY KEY (condition, subject)
) STRICT, WITHOUT ROWID;
