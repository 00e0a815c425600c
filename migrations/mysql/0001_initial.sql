-- Key text is VARBINARY: it compares by bytes and spaces at its end count, as everywhere in a node, on MySQL and MariaDB
-- alike. Its lengths are in bytes, above what a tuple may have, and whole keys fit the 3,072 bytes of an index. Times are
-- microseconds since the Unix epoch, UTC. A statement that fails half-way leaves the tables before it: MySQL commits each.

CREATE TABLE meta (
    id         INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    epoch      BIGINT  NOT NULL,
    generation BIGINT  NOT NULL
) ENGINE = InnoDB;
-- The generation starts with the time, so that a database made anew has another one than its predecessor.
INSERT INTO meta (id, epoch, generation) VALUES (1, 1, CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS SIGNED));

CREATE TABLE stores (
    id         VARBINARY(26)   NOT NULL PRIMARY KEY,
    name       VARBINARY(1024) NOT NULL,
    created_at BIGINT NOT NULL,
    deleted_at BIGINT,
    epoch      BIGINT NOT NULL,
    revision   BIGINT NOT NULL
) ENGINE = InnoDB;

CREATE TABLE models (
    store_id VARBINARY(26) NOT NULL,
    id       VARBINARY(26) NOT NULL,
    model    LONGBLOB      NOT NULL,
    revision BIGINT        NOT NULL,
    PRIMARY KEY (store_id, id),
    FOREIGN KEY (store_id) REFERENCES stores (id)
) ENGINE = InnoDB;

-- As their text, of the model and no revision of the store.
CREATE TABLE assertions (
    store_id   VARBINARY(26) NOT NULL,
    model_id   VARBINARY(26) NOT NULL,
    assertions LONGBLOB      NOT NULL,
    PRIMARY KEY (store_id, model_id),
    FOREIGN KEY (store_id) REFERENCES stores (id)
) ENGINE = InnoDB;

CREATE TABLE tiers (
    store_id VARBINARY(26) NOT NULL,
    revision BIGINT        NOT NULL,
    tiers    LONGBLOB      NOT NULL,
    PRIMARY KEY (store_id, revision),
    FOREIGN KEY (store_id) REFERENCES stores (id)
) ENGINE = InnoDB;

-- What follows has no foreign keys: all of it is written in transactions that hold the store's row, and a check for each
-- row costs as much as the row.
CREATE TABLE tuples (
    store_id          VARBINARY(26)  NOT NULL,
    object_type       VARBINARY(256) NOT NULL,
    object_id         VARBINARY(256) NOT NULL,
    relation          VARBINARY(64)  NOT NULL,
    user_type         VARBINARY(256) NOT NULL,
    user_id           VARBINARY(512) NOT NULL,
    user_relation     VARBINARY(64)  NOT NULL DEFAULT '',
    condition_name    VARBINARY(1024),
    condition_context LONGBLOB,
    inserted_at       BIGINT NOT NULL,
    revision          BIGINT NOT NULL,
    is_userset        TINYINT AS (user_relation <> '') STORED,
    PRIMARY KEY (store_id, object_type, object_id, relation, user_type, user_id, user_relation)
) ENGINE = InnoDB;
-- Finds the objects of a type to which a user or userset has a relation, without walking its others.
CREATE INDEX idx_tuples_user ON tuples (store_id, user_type, user_id, user_relation, object_type, relation);
-- Finds the few usersets of a set among millions of direct users, which the primary key alone cannot. There are no
-- partial indexes, so the others are in it too.
CREATE INDEX idx_tuples_set_usersets ON tuples (store_id, object_type, object_id, relation, is_userset);

CREATE TABLE changelog (
    store_id          VARBINARY(26) NOT NULL,
    revision          BIGINT        NOT NULL,
    ordinal           BIGINT        NOT NULL,
    kind              VARBINARY(32) NOT NULL,
    object_type       VARBINARY(256),
    object_id         VARBINARY(256),
    relation          VARBINARY(64),
    user_type         VARBINARY(256),
    user_id           VARBINARY(512),
    user_relation     VARBINARY(64),
    condition_name    VARBINARY(1024),
    condition_context LONGBLOB,
    inserted_at       BIGINT,
    payload           LONGBLOB,
    committed_at      BIGINT NOT NULL,
    epoch             BIGINT NOT NULL,
    PRIMARY KEY (store_id, revision, ordinal)
) ENGINE = InnoDB;

CREATE TABLE outbox (
    sequence BIGINT        NOT NULL AUTO_INCREMENT PRIMARY KEY,
    store_id VARBINARY(26) NOT NULL,
    revision BIGINT        NOT NULL
) ENGINE = InnoDB;
CREATE INDEX idx_outbox_store ON outbox (store_id, revision);

CREATE TABLE leases (
    name       VARBINARY(256)  NOT NULL PRIMARY KEY,
    holder     VARBINARY(1024) NOT NULL,
    expires_at BIGINT          NOT NULL
) ENGINE = InnoDB;
