-- What the flow recorder keeps. Numbers for statuses and kinds are those of node/flow/src/flow.rs; durations are
-- microseconds. Flows name no store that must exist: they may be kept in a database of their own.

CREATE TABLE flows (
    id              VARBINARY(36) NOT NULL PRIMARY KEY,
    started_at      BIGINT   NOT NULL,
    completed_at    BIGINT,
    duration_micros BIGINT,
    kind            SMALLINT NOT NULL,
    status          SMALLINT NOT NULL,
    allowed         SMALLINT,
    store_id        VARBINARY(26) NOT NULL,
    client_id       VARBINARY(512),
    grant_type      VARBINARY(512),
    user_id         VARBINARY(512),
    ip              VARBINARY(64),
    user_agent      VARBINARY(512),
    operation       VARBINARY(512),
    object          VARBINARY(512),
    relation        VARBINARY(512),
    subject         VARBINARY(512),
    revision        VARBINARY(512),
    model_id        VARBINARY(512),
    served_by       VARBINARY(512),
    explanation     MEDIUMBLOB,
    -- Of a flow that was recorded whole: its steps, and by which code the last one that failed did.
    steps           MEDIUMBLOB,
    error_code      VARBINARY(512)
) ENGINE = InnoDB;
-- An id begins with the time, so this is also the order of time.
CREATE INDEX idx_flows_store ON flows (store_id, id);
CREATE INDEX idx_flows_pending ON flows (status, id);

-- The steps of flows that are recorded as they go on.
CREATE TABLE flow_steps (
    flow_id         VARBINARY(36) NOT NULL,
    occurred_at     BIGINT   NOT NULL,
    duration_micros BIGINT   NOT NULL,
    status          SMALLINT NOT NULL,
    name            VARBINARY(512) NOT NULL,
    error_code      VARBINARY(512),
    error_message   VARBINARY(1024),
    PRIMARY KEY (flow_id, occurred_at),
    FOREIGN KEY (flow_id) REFERENCES flows (id) ON DELETE CASCADE
) ENGINE = InnoDB;

-- What is set of a store; the rest is as for all.
CREATE TABLE flow_settings (
    store_id         VARBINARY(26) NOT NULL PRIMARY KEY,
    enabled          SMALLINT,
    sampling         DOUBLE,
    retention_micros BIGINT
) ENGINE = InnoDB;

-- Connections of the live channel. A session outlives the record of how it began.
CREATE TABLE live_sessions (
    id           VARBINARY(64)  NOT NULL PRIMARY KEY,
    store_id     VARBINARY(26)  NOT NULL,
    flow_id      VARBINARY(36),
    node         VARBINARY(512) NOT NULL,
    user_id      VARBINARY(512) NOT NULL,
    connected_at BIGINT NOT NULL,
    ended_at     BIGINT,
    close_code   INTEGER,
    FOREIGN KEY (flow_id) REFERENCES flows (id) ON DELETE SET NULL
) ENGINE = InnoDB;
CREATE INDEX idx_live_sessions_store ON live_sessions (store_id, connected_at);
