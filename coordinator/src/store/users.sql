-- Version 3: users and their tokens.

-- Who may use the coordinator. role: viewer, operator or admin.
CREATE TABLE users (
    name              TEXT PRIMARY KEY,
    role              TEXT NOT NULL,
    created_at        INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Tokens of users, by the SHA-256 of each. id is how it begins.
CREATE TABLE tokens (
    digest            TEXT PRIMARY KEY,
    id                TEXT NOT NULL UNIQUE,
    user              TEXT NOT NULL REFERENCES users (name) ON DELETE CASCADE,
    created_at        INTEGER NOT NULL,
    expires_at        INTEGER,
    used_at           INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX tokens_of_user ON tokens (user);
