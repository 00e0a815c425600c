-- Records of the live channel, each once. Its place in the topic names a record; the time is part of it because a topic that
-- was made anew counts its offsets from the start. Times are microseconds since 1970, UTC.
CREATE TABLE live_records (
    topic           TEXT COLLATE "C" NOT NULL,
    topic_partition INTEGER NOT NULL,
    topic_offset    BIGINT  NOT NULL,
    published_at    BIGINT  NOT NULL,
    stored_at       BIGINT  NOT NULL,
    store_id        TEXT COLLATE "C" NOT NULL,
    object          TEXT COLLATE "C" NOT NULL,
    objects         TEXT    NOT NULL,
    data            TEXT    NOT NULL,
    PRIMARY KEY (topic, topic_partition, topic_offset, published_at)
);
CREATE INDEX idx_live_records_object ON live_records (store_id, object, published_at);
CREATE INDEX idx_live_records_stored ON live_records (stored_at);
