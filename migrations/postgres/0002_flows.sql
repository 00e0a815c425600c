-- What the flow recorder keeps. Numbers for statuses and kinds are those of node/flow/src/flow.rs; durations are
-- microseconds. Flows name no store that must exist: they may be kept in a database of their own.

CREATE TABLE flows (
    id              UUID     NOT NULL PRIMARY KEY,
    started_at      BIGINT   NOT NULL,
    completed_at    BIGINT,
    duration_micros BIGINT,
    kind            SMALLINT NOT NULL,
    status          SMALLINT NOT NULL,
    allowed         SMALLINT,
    store_id        TEXT COLLATE "C" NOT NULL,
    client_id       TEXT,
    grant_type      TEXT,
    user_id         TEXT,
    ip              TEXT,
    user_agent      TEXT,
    operation       TEXT,
    object          TEXT,
    relation        TEXT,
    subject         TEXT,
    revision        TEXT,
    model_id        TEXT,
    served_by       TEXT,
    explanation     TEXT,
    -- Of a flow that was recorded whole: its steps, and by which code the last one that failed did.
    steps           TEXT,
    error_code      TEXT
);
-- An id begins with the time, so this is also the order of time.
CREATE INDEX idx_flows_store ON flows (store_id, id);
CREATE INDEX idx_flows_pending ON flows (id) WHERE status = 0;

-- The steps of flows that are recorded as they go on.
CREATE TABLE flow_steps (
    flow_id         UUID     NOT NULL REFERENCES flows (id) ON DELETE CASCADE,
    occurred_at     BIGINT   NOT NULL,
    duration_micros BIGINT   NOT NULL,
    status          SMALLINT NOT NULL,
    name            TEXT     NOT NULL,
    error_code      TEXT,
    error_message   TEXT,
    PRIMARY KEY (flow_id, occurred_at)
);
-- Few steps fail, and those are asked for.
CREATE INDEX idx_flow_steps_failed ON flow_steps (flow_id) WHERE error_code IS NOT NULL;

-- What is set of a store; the rest is as for all.
CREATE TABLE flow_settings (
    store_id         TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    enabled          SMALLINT,
    sampling         DOUBLE PRECISION,
    retention_micros BIGINT
);

-- Connections of the live channel. A session outlives the record of how it began.
CREATE TABLE live_sessions (
    id           TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    store_id     TEXT COLLATE "C" NOT NULL,
    flow_id      UUID REFERENCES flows (id) ON DELETE SET NULL,
    node         TEXT   NOT NULL,
    user_id      TEXT   NOT NULL,
    connected_at BIGINT NOT NULL,
    ended_at     BIGINT,
    close_code   INTEGER
);
CREATE INDEX idx_live_sessions_flow ON live_sessions (flow_id);
CREATE INDEX idx_live_sessions_store ON live_sessions (store_id, connected_at);
