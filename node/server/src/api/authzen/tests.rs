use meridian_proto::google::{struct_from_json, struct_to_json};
use serde_json::{Value, json};

use super::*;

fn of(value: Value) -> Struct {
    struct_from_json(value.as_object().unwrap().clone())
}

#[test]
fn properties_are_merged_by_source_and_the_context_wins() {
    let subject = of(json!({"level": 1, "tags": ["a", null], "": true}));
    let resource = of(json!({"level": 2}));
    let action = of(json!({"level": 3}));
    let context = of(json!({"subject_level": 9, "hour": null}));
    let found = merged([
        ("subject_", Some(&subject)),
        ("resource_", Some(&resource)),
        ("action_", Some(&action)),
        ("", Some(&context)),
    ]);
    let expected = json!({
        "subject_level": 9, "subject_tags": ["a", null], "subject_": true,
        "resource_level": 2, "action_level": 3, "hour": null,
    });
    assert_eq!(Value::from(struct_to_json(&found.unwrap())), expected);

    let none = Struct::default();
    assert_eq!(merged([("subject_", None), ("", Some(&none))]), None);
}

#[test]
fn base_urls_are_absolute_and_name_one_host() {
    for (text, base) in [
        ("https://good.com", "https://good.com"),
        ("https://good.com/openfga/", "https://good.com/openfga"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("https://good.com///", "https://good.com"),
    ] {
        assert_eq!(text.parse(), Ok(BaseUrl(base.to_owned())), "{text}");
    }
    for text in [
        "",
        "/openfga",
        "good.com",
        "good.com:80",
        "javascript://evil.example",
        "https://",
        "https://good.com?q=x",
        "https://good.com?",
        "https://user:pass@good.com",
        "https://good.com,evil.com",
        "https://good.com#frag",
        "https://good.com/a b",
    ] {
        assert_eq!(text.parse::<BaseUrl>(), Err(InvalidBaseUrl), "{text}");
    }
}
