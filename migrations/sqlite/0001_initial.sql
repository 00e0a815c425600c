-- Text compares by bytes (BINARY), as everywhere in a node. Times are microseconds since the Unix epoch, UTC.

CREATE TABLE meta (
    id         INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    epoch      BIGINT  NOT NULL,
    generation BIGINT  NOT NULL
);
-- The generation starts with the time, so that a database made anew has another one than its predecessor.
INSERT INTO meta (id, epoch, generation) VALUES (1, 1, CAST(unixepoch('now', 'subsec') * 1000000 AS INTEGER));

CREATE TABLE stores (
    id         TEXT   NOT NULL PRIMARY KEY,
    name       TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    deleted_at BIGINT,
    epoch      BIGINT NOT NULL,
    revision   BIGINT NOT NULL
);

CREATE TABLE models (
    store_id TEXT   NOT NULL REFERENCES stores (id),
    id       TEXT   NOT NULL,
    model    TEXT   NOT NULL,
    revision BIGINT NOT NULL,
    PRIMARY KEY (store_id, id)
);

-- As their text, of the model and no revision of the store.
CREATE TABLE assertions (
    store_id   TEXT   NOT NULL REFERENCES stores (id),
    model_id   TEXT   NOT NULL,
    assertions TEXT   NOT NULL,
    PRIMARY KEY (store_id, model_id)
);

CREATE TABLE tiers (
    store_id TEXT   NOT NULL REFERENCES stores (id),
    revision BIGINT NOT NULL,
    tiers    TEXT   NOT NULL,
    PRIMARY KEY (store_id, revision)
);

-- What follows has no foreign keys: all of it is written in transactions that hold the store's row, and a check for each
-- row costs as much as the row.
CREATE TABLE tuples (
    store_id          TEXT   NOT NULL,
    object_type       TEXT   NOT NULL,
    object_id         TEXT   NOT NULL,
    relation          TEXT   NOT NULL,
    user_type         TEXT   NOT NULL,
    user_id           TEXT   NOT NULL,
    user_relation     TEXT   NOT NULL DEFAULT '',
    condition_name    TEXT,
    condition_context TEXT,
    inserted_at       BIGINT NOT NULL,
    revision          BIGINT NOT NULL,
    PRIMARY KEY (store_id, object_type, object_id, relation, user_type, user_id, user_relation)
);
-- Finds the objects of a type to which a user has a relation, without walking its others.
CREATE INDEX idx_tuples_user ON tuples (store_id, user_type, user_id, object_type, relation, user_relation);
CREATE INDEX idx_tuples_userset ON tuples (store_id, user_type, user_id, user_relation) WHERE user_relation <> '';
-- Finds the few usersets of a set among millions of direct users, which the primary key alone cannot.
CREATE INDEX idx_tuples_set_usersets ON tuples (store_id, object_type, object_id, relation) WHERE user_relation <> '';

CREATE TABLE changelog (
    store_id          TEXT    NOT NULL,
    revision          BIGINT  NOT NULL,
    ordinal           BIGINT  NOT NULL,
    kind              TEXT    NOT NULL,
    object_type       TEXT,
    object_id         TEXT,
    relation          TEXT,
    user_type         TEXT,
    user_id           TEXT,
    user_relation     TEXT,
    condition_name    TEXT,
    condition_context TEXT,
    inserted_at       BIGINT,
    payload           TEXT,
    committed_at      BIGINT  NOT NULL,
    epoch             BIGINT  NOT NULL,
    PRIMARY KEY (store_id, revision, ordinal)
);

CREATE TABLE outbox (
    sequence INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    store_id TEXT    NOT NULL,
    revision BIGINT  NOT NULL
);
CREATE INDEX idx_outbox_store ON outbox (store_id, revision);

CREATE TABLE leases (
    name       TEXT   NOT NULL PRIMARY KEY,
    holder     TEXT   NOT NULL,
    expires_at BIGINT NOT NULL
);
