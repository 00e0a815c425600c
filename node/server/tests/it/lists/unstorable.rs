//! Questions about what no tuple can hold.

use std::time::Duration;

use meridian_server::limits::Limits;
use serde_json::{Value, json};

use super::Shop;

/// Longer than a test may take: an answer that waits for it never comes.
const LONG: Duration = Duration::from_secs(3600);

/// What no tuple can have as its object is known to have none, rather than read in vain until the deadline.
#[tokio::test]
async fn what_cannot_be_stored_is_not_read_for_ever() {
    let limits = Limits {
        list_objects_deadline: LONG,
        list_users_deadline: LONG,
        request_timeout: LONG,
        ..Limits::default()
    };
    let shop = Shop::with(limits).await;
    let users = |id: &str, filter: Value| json!({"object": {"type": "team", "id": id}, "relation": "member", "user_filters": [filter]});
    let answer = shop
        .ask("list-users", &users("*", json!({"type": "user"})))
        .await;
    assert_eq!(answer, (200, json!({"users": []})));
    let own = json!({"type": "team", "relation": "member"});
    let answer = shop.ask("list-users", &users("*", own)).await;
    let itself = json!([{"userset": {"type": "team", "id": "*", "relation": "member"}}]);
    assert_eq!(answer, (200, json!({"users": itself})));

    let long = format!("team:{}#member", "x".repeat(300));
    let (status, body) = shop.objects(&long, json!({})).await;
    assert_eq!((status, body), (200, json!({"objects": []})));
    let check = json!({
        "tuple_key": {"user": "user:anne", "relation": "member", "object": "team:none"},
        "contextual_tuples": {"tuple_keys": [
            {"user": long, "relation": "member", "object": "team:none"}
        ]},
    });
    let (status, body) = shop.ask("check", &check).await;
    assert_eq!((status, &body["allowed"]), (200, &json!(false)), "{body}");
}
