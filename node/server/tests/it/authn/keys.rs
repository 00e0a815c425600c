//! The keys of an issuer: whose they are, when they are fetched, and what is while they cannot be.

use super::*;

#[tokio::test]
async fn an_issuer_over_tls_is_trusted_by_the_certificates_named() {
    let rsa = Key::rsa("rsa");
    let (issuer, pem) = Issuer::start_over_tls(&[&rsa]).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, pem).unwrap();
    let mut authn = oidc(&issuer);
    authn.oidc.ca = Some(file.path().to_owned());
    let node = ready(authn).await;
    let token = format!("Bearer {}", rsa.token(&issuer.claims()));
    assert_eq!(refusal(&node, Some(&token)).await, None);

    for wrong in ["", "no PEM"] {
        std::fs::write(&file, wrong).unwrap();
        let mut authn = oidc(&issuer);
        authn.oidc.ca = Some(file.path().to_owned());
        let told = roles::central(&among(authn, &[])).await.err().unwrap();
        assert!(told.to_string().starts_with("oidc.ca: "), "{told}");
    }
}

/// Whoever is on the way could put in keys of his own.
#[tokio::test]
async fn an_issuer_over_tls_is_not_followed_to_where_there_is_none() {
    let key = Key::p256("key");
    let (issuer, pem) = Issuer::start_over_tls(&[&key]).await;
    let plain = Issuer::start(&[&key]).await;
    issuer.published.lock().unwrap().jwks_uri = format!("{}/keys", plain.url);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, pem).unwrap();
    let mut authn = oidc(&issuer);
    authn.oidc.ca = Some(file.path().to_owned());
    let node = central(authn).await;
    let header = format!("Bearer {}", key.token(&issuer.claims()));
    let asked = tokio::time::timeout(PATIENCE, async {
        while issuer.published.lock().unwrap().discovered == 0 {
            tokio::task::yield_now().await;
        }
    });
    asked.await.unwrap();
    let headers = [("authorization", header.as_str())];
    let reply = send(node.http, Method::GET, "/stores", &headers, Bytes::new()).await;
    reply.message(503, "unavailable");
    assert_eq!(plain.asked(), 0);
}

/// A key that is for encryption, or for another algorithm, signs no token.
#[tokio::test]
async fn keys_that_are_for_something_else_are_not_taken() {
    let (good, other) = (Key::p256("good"), Key::rsa("other"));
    let issuer = Issuer::start(&[&good]).await;
    let mut authn = oidc(&issuer);
    authn.oidc.refetch_pause = Duration::ZERO;
    let node = ready(authn).await;
    let header = format!("Bearer {}", other.token(&issuer.claims()));
    let with = |name: &str, value: &str| {
        let mut public = other.public();
        public[name] = json!(value);
        public
    };
    for (public, refused) in [
        (with("use", "enc"), Some(INVALID)),
        (with("alg", "RSA-OAEP"), Some(INVALID)),
        (with("alg", "ES256"), Some(INVALID)),
        (with("use", "sig"), None),
    ] {
        issuer.published.lock().unwrap().keys = vec![good.public(), public.clone()];
        let refused = refused.map(|(number, _, message)| (number, message.to_owned()));
        assert_eq!(refusal(&node, Some(&header)).await, refused, "{public}");
    }
}

#[tokio::test]
async fn the_issuer_may_change_its_keys_at_any_time() {
    let (old, new) = (Key::rsa("old"), Key::p256("new"));
    let issuer = Issuer::start(&[&old]).await;
    let mut authn = oidc(&issuer);
    authn.oidc.refetch_pause = Duration::ZERO;
    let node = ready(authn).await;
    let (of_old, of_new) = (old.token(&issuer.claims()), new.token(&issuer.claims()));
    assert_eq!(
        refusal(&node, Some(&format!("Bearer {of_old}"))).await,
        None
    );
    assert_refused(
        refusal(&node, Some(&format!("Bearer {of_new}"))).await,
        INVALID,
    );
    issuer.publish(&[&new]);
    assert_eq!(
        refusal(&node, Some(&format!("Bearer {of_new}"))).await,
        None
    );
    // What the issuer has withdrawn counts no more.
    assert_refused(
        refusal(&node, Some(&format!("Bearer {of_old}"))).await,
        INVALID,
    );
}

#[tokio::test]
async fn keys_are_fetched_anew_from_time_to_time() {
    let (old, new) = (Key::p256("key"), Key::p256("key"));
    let issuer = Issuer::start(&[&old]).await;
    let mut authn = oidc(&issuer);
    authn.oidc.refresh_interval = Duration::from_millis(20);
    let node = ready(authn).await;
    let of_new = format!("Bearer {}", new.token(&issuer.claims()));
    assert_refused(refusal(&node, Some(&of_new)).await, INVALID);
    issuer.publish(&[&new]);
    let taken = tokio::time::timeout(PATIENCE, async {
        // By one port: between both, the keys may come.
        while list(&node, Some(&of_new)).await.status != 0 {
            tokio::task::yield_now().await;
        }
    });
    taken.await.unwrap();
}

#[tokio::test]
async fn names_of_keys_that_are_made_up_do_not_trouble_the_issuer() {
    let key = Key::p256("key");
    let issuer = Issuer::start(&[&key]).await;
    let mut authn = oidc(&issuer);
    authn.oidc.refetch_pause = Duration::from_secs(3600);
    let node = ready(authn).await;
    let before = issuer.asked();
    let asks = (0..20).map(async |number| {
        let header = json!({"alg": "ES256", "kid": format!("made up {number}")});
        let token = key.token_with(&header, &issuer.claims());
        list(&node, Some(&format!("Bearer {token}"))).await.status
    });
    let refused = futures::future::join_all(asks).await;
    assert!(refused.iter().all(|status| *status == 1004), "{refused:?}");
    assert_eq!(issuer.asked() - before, 1);
}

/// Those who wait while the issuer is asked for the sake of the first are let in by what it answers him.
#[tokio::test]
async fn a_new_key_lets_in_all_who_bring_its_tokens_at_once() {
    let (old, new) = (Key::p256("old"), Key::p256("new"));
    let issuer = Issuer::start(&[&old]).await;
    let mut authn = oidc(&issuer);
    authn.oidc.refetch_pause = Duration::from_secs(3600);
    let node = ready(authn).await;
    let (of_old, of_new) = (old.token(&issuer.claims()), new.token(&issuer.claims()));
    issuer.publish(&[&old, &new]);
    issuer.holds.send_replace(true);
    let before = issuer.asked();
    let header = format!("Bearer {of_new}");
    let asks = futures::future::join_all((0..20).map(|_| list(&node, Some(&header))));
    let release = async {
        while issuer.asked() == before {
            tokio::task::yield_now().await;
        }
        // By then the others have come in too.
        for _ in 0..3 {
            let known = list(&node, Some(&format!("Bearer {of_old}"))).await;
            assert_eq!(known.status, 0);
        }
        issuer.holds.send_replace(false);
    };
    let (replies, ()) = tokio::join!(asks, release);
    assert!(replies.iter().all(|reply| reply.status == 0), "{replies:?}");
    assert_eq!(issuer.asked() - before, 1);
}

/// The time of the first to bring a new key's token is up while the issuer is asked: those after him are let in all the same.
#[tokio::test]
async fn an_issuer_slower_than_a_caller_keeps_no_new_key_from_others() {
    let (old, new) = (Key::p256("old"), Key::p256("new"));
    let issuer = Issuer::start(&[&old]).await;
    let mut authn = oidc(&issuer);
    authn.oidc.refetch_pause = Duration::from_secs(3600);
    let node = ready(authn).await;
    issuer.publish(&[&new]);
    issuer.holds.send_replace(true);
    let of_new = format!("Bearer {}", new.token(&issuer.claims()));
    let headers = [("authorization", of_new.as_str()), ("grpc-timeout", "50m")];
    let path = "openfga.v1.OpenFGAService/ListStores";
    let request = v1::ListStoresRequest::default().encode_to_vec();
    let reply = raw_rpc(node.grpc, path, &request, &headers).await;
    assert_ne!(reply.status, 0);
    issuer.holds.send_replace(false);
    let taken = tokio::time::timeout(PATIENCE, async {
        while list(&node, Some(&of_new)).await.status != 0 {
            tokio::task::yield_now().await;
        }
    });
    taken.await.unwrap();
}

#[tokio::test]
async fn an_issuer_that_goes_away_keeps_nobody_out_and_lets_nobody_in() {
    let (key, other) = (Key::p256("key"), Key::p256("other"));
    let issuer = Issuer::start(&[&key]).await;
    let mut authn = oidc(&issuer);
    authn.oidc.refetch_pause = Duration::ZERO;
    authn.oidc.refresh_interval = Duration::from_millis(20);
    let node = ready(authn).await;
    issuer.is_up(false);
    // Until it was asked in vain.
    let asked = issuer.asked();
    let of_other = format!("Bearer {}", other.token(&issuer.claims()));
    assert_refused(refusal(&node, Some(&of_other)).await, INVALID);
    let of_key = format!("Bearer {}", key.token(&issuer.claims()));
    assert_eq!(refusal(&node, Some(&of_key)).await, None);
    assert_eq!(issuer.asked(), asked);
    issuer.publish(&[&key, &other]);
    issuer.is_up(true);
    assert_eq!(refusal(&node, Some(&of_other)).await, None);
}

#[tokio::test]
async fn a_node_without_the_issuers_keys_is_not_ready_and_lets_nobody_in() {
    let key = Key::p256("key");
    let issuer = Issuer::start(&[&key]).await;
    issuer.is_up(false);
    let node = central(oidc(&issuer)).await;
    let header = format!("Bearer {}", key.token(&issuer.claims()));
    let http = async || {
        let headers = [("authorization", header.as_str())];
        send(node.http, Method::GET, "/stores", &headers, Bytes::new()).await
    };
    let reply = http().await;
    let told = reply.message(503, "unavailable");
    assert!(told.contains("keys of the token issuer"), "{told}");
    let health = send(node.http, Method::GET, "/healthz", &[], Bytes::new()).await;
    assert_eq!(health.status, StatusCode::SERVICE_UNAVAILABLE);
    issuer.is_up(true);
    tokio::time::timeout(PATIENCE, node.ready()).await.unwrap();
    assert_eq!(http().await.status, StatusCode::OK);
}
