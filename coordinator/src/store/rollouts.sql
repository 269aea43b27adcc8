-- Version 2: rollouts and holds.

-- A rollout without its nodes' turns, as JSON. Ids count from 1 and are never used again.
CREATE TABLE rollouts (
    id                INTEGER PRIMARY KEY,
    is_active         INTEGER NOT NULL,
    rollout           TEXT NOT NULL
) STRICT;
CREATE INDEX active_rollouts ON rollouts (id) WHERE is_active = 1;

-- Each node's turn in a rollout, as JSON.
CREATE TABLE turns (
    rollout           INTEGER NOT NULL REFERENCES rollouts (id),
    node              TEXT NOT NULL REFERENCES nodes (node),
    turn              TEXT NOT NULL,
    PRIMARY KEY (rollout, node)
) STRICT, WITHOUT ROWID;

-- What happened to a rollout, as JSON.
CREATE TABLE rollout_log (
    id                INTEGER PRIMARY KEY,
    rollout           INTEGER NOT NULL REFERENCES rollouts (id),
    entry             TEXT NOT NULL
) STRICT;
CREATE INDEX log_of_rollout ON rollout_log (rollout, id);

-- Nodes that are told nothing new, of one app or, if app is empty, of any. deed is JSON.
CREATE TABLE holds (
    node              TEXT NOT NULL REFERENCES nodes (node),
    app               TEXT NOT NULL,
    expires_at        INTEGER,
    deed              TEXT NOT NULL,
    PRIMARY KEY (node, app)
) STRICT, WITHOUT ROWID;
