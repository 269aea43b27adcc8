-- Version 5: passwords, and the sessions of whoever has signed in with one.

-- PHC string of Argon2id; NULL: they have none, and cannot sign in.
ALTER TABLE users ADD COLUMN password TEXT;
ALTER TABLE users ADD COLUMN password_at INTEGER;

-- Sessions, by the SHA-256 of each. address: where they signed in from.
CREATE TABLE sessions (
    digest            TEXT PRIMARY KEY,
    user              TEXT NOT NULL REFERENCES users (name) ON DELETE CASCADE,
    created_at        INTEGER NOT NULL,
    used_at           INTEGER NOT NULL,
    address           TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_of_user ON sessions (user);
