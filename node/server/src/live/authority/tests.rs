use axum::Router;
use axum::extract::Path;
use axum::routing::get;
use http::HeaderMap;
use tokio::net::TcpListener;

use super::*;

/// An authority that answers as the object's id says: with a status, or by the token alone.
async fn answering() -> Elsewhere {
    let may = get(async |Path(id): Path<String>, headers: HeaderMap| {
        let token = headers["authorization"].to_str().unwrap();
        let status = id.parse().unwrap_or(match token {
            "Bearer anne" => 200,
            _ => 401,
        });
        StatusCode::from_u16(status).unwrap()
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/may/{{id}}", listener.local_addr().unwrap());
    let router = Router::new().route("/may/{id}", may);
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    Elsewhere::new(Web::new(None).unwrap(), url, Duration::from_secs(30))
}

async fn ask(authority: &Elsewhere, id: &str, token: &str) -> Result<bool, Undecided> {
    let question = Question {
        user: "user:anne".into(),
        relation: "can_watch".into(),
        object: format!("event:{id}").into(),
        token: Some(token.into()),
    };
    let store = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
    let decided = authority.decide(store, None, &[question]).await;
    let [decided] = <[_; 1]>::try_from(decided).unwrap();
    decided.map(|decided| decided.allowed)
}

#[tokio::test]
async fn what_makes_no_sense_to_an_authority_is_no_outage_of_it() {
    let authority = answering().await;
    for (id, token, expected) in [
        ("x", "anne", Ok(true)),
        ("204", "anne", Ok(true)),
        ("403", "anne", Ok(false)),
        ("404", "anne", Ok(false)),
        ("x", "beth", Err(Undecided::Expired)),
        ("431", "anne", Err(Undecided::Expired)),
        ("x", "a\nb", Err(Undecided::Expired)),
    ] {
        assert_eq!(ask(&authority, id, token).await, expected, "{id} {token:?}");
        assert!(!authority.outage.is_on(), "{id} {token:?}");
    }
    for id in ["400", "414", "422"] {
        let Err(Undecided::Invalid(why)) = ask(&authority, id, "anne").await else {
            panic!("{id}");
        };
        let told = format!("'event:{id}' (status {id}");
        assert!(why.contains(&told), "{why}");
        assert!(!authority.outage.is_on(), "{id}");
    }
    for id in ["500", "503", "302", "405"] {
        let decided = ask(&authority, id, "anne").await;
        assert_eq!(decided, Err(Undecided::Unreachable), "{id}");
        assert!(authority.outage.is_on(), "{id}");
    }
}
