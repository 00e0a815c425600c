use super::*;

const STORE: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
const PLACE: Place = Place {
    partition: 1,
    offset: 7,
};

fn good() -> RawRecord<'static> {
    RawRecord {
        key: b"event:1",
        value: br#"{"at": [1, "\ud83e"]}"#,
        store: Some(STORE.as_bytes()),
        objects: None,
    }
}

#[test]
fn a_message_is_read_as_it_was_written() {
    let other = "01ARZ3NDEKTSV4RRFFQ69G5FAW".parse().unwrap();
    let sixteen: Vec<_> = (0..16).map(|number| format!("stage:{number}")).collect();
    let many = sixteen.join(",");
    let objects: [(Option<&str>, &[&str]); 4] = [
        (None, &[]),
        (Some(""), &[]),
        (
            Some(" organization:1,, stage:ü "),
            &["organization:1", "stage:ü"],
        ),
        (
            Some(&many),
            &sixteen.iter().map(String::as_str).collect::<Vec<_>>(),
        ),
    ];
    for (header, expected) in objects {
        let message = RawRecord {
            objects: header.map(str::as_bytes),
            ..good()
        };
        let record = message.read(Some(other), 5, PLACE).unwrap();
        assert_eq!(record.store.as_str(), STORE, "the header says so");
        assert_eq!(record.object, "event:1");
        assert_eq!(record.objects, expected);
        assert_eq!(record.data.get(), r#"{"at": [1, "\ud83e"]}"#);
        assert_eq!((record.at, record.place), (5, PLACE));
    }
    let message = RawRecord {
        store: None,
        ..good()
    };
    let record = message.read(Some(other), 5, PLACE).unwrap();
    assert_eq!(record.store, other);
}

#[test]
fn what_cannot_be_read_is_refused_for_its_reason() {
    let is_no_object = |name: &str| {
        format!(
            "'{name}' is no object: write type:id, in UTF-8, of at most 256 bytes without spaces"
        )
    };
    let long = format!("event:{}", "x".repeat(251));
    let mut cases: Vec<(RawRecord<'_>, String)> = Vec::new();
    let keys: [(&[u8], &str); 10] = [
        (b"", ""),
        (b"event", "event"),
        (b"event:", "event:"),
        (b":1", ":1"),
        (b"event:*", "event:*"),
        (b"event:1#viewer", "event:1#viewer"),
        (b"event:a b", "event:a b"),
        (b"event:1\0", "event:1\0"),
        // Else two that differ would be one.
        (b"event:\xff", "event:\u{fffd}"),
        (long.as_bytes(), &long[..256]),
    ];
    for (key, name) in keys {
        cases.push((RawRecord { key, ..good() }, is_no_object(name)));
    }
    let seventeen = vec!["stage:1"; 17].join(",");
    let objects: [(&[u8], String); 3] = [
        (b"organization:1, stage", is_no_object("stage")),
        (b"stage:\xc3", is_no_object("stage:\u{fffd}")),
        (
            seventeen.as_bytes(),
            "objects has 17 of them; a record may belong to 16 besides its own".to_owned(),
        ),
    ];
    for (objects, told) in objects {
        let message = RawRecord {
            objects: Some(objects),
            ..good()
        };
        cases.push((message, told));
    }
    let stores: [(Option<&[u8]>, &str); 4] = [
        (Some(b""), "'' is no store's id"),
        (Some(b"shop"), "'shop' is no store's id"),
        (Some(b"\xff"), "'\u{fffd}' is no store's id"),
        (
            None,
            "no store is named: set the header meridian-store, or the node's live.store",
        ),
    ];
    for (store, told) in stores {
        cases.push((RawRecord { store, ..good() }, told.to_owned()));
    }
    let values: [(&[u8], &str); 4] = [
        (b"", "EOF while parsing a value at line 1 column 0"),
        (br#"{"a": "#, "EOF while parsing a value at line 1 column 6"),
        (b"1 2", "trailing characters at line 1 column 3"),
        (b"\"\xff\"", "invalid unicode code point at line 1 column 2"),
    ];
    for (value, why) in values {
        let told = format!("the data is no JSON: {why}");
        cases.push((RawRecord { value, ..good() }, told));
    }
    for (message, told) in cases {
        let refused = message.read(None, 5, PLACE).unwrap_err();
        assert_eq!(refused.to_string(), told, "{message:?}");
    }
}
