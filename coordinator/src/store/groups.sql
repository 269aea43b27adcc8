-- Version 7: groups with maintenance windows.

-- What somebody asked for, and who, as JSON.
CREATE TABLE groups (
    name              TEXT PRIMARY KEY,
    request           TEXT NOT NULL,
    deed              TEXT NOT NULL
) STRICT, WITHOUT ROWID;
