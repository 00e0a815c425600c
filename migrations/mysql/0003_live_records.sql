-- Records of the live channel, each once. Its place in the topic names a record; the time is part of it because a topic that
-- was made anew counts its offsets from the start. Times are microseconds since 1970, UTC.
CREATE TABLE live_records (
    topic           VARBINARY(255) NOT NULL,
    topic_partition INTEGER NOT NULL,
    topic_offset    BIGINT  NOT NULL,
    published_at    BIGINT  NOT NULL,
    stored_at       BIGINT  NOT NULL,
    store_id        VARBINARY(26)  NOT NULL,
    object          VARBINARY(256) NOT NULL,
    objects         BLOB       NOT NULL,
    data            MEDIUMBLOB NOT NULL,
    PRIMARY KEY (topic, topic_partition, topic_offset, published_at),
    INDEX idx_live_records_object (store_id, object, published_at),
    INDEX idx_live_records_stored (stored_at)
) ENGINE = InnoDB;
