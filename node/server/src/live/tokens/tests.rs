use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::routing::get;
use http::HeaderMap;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::*;

/// One who says whose a token is, once it may: of `bad…` that it is not good, with the status behind it,
/// of `ill…` nothing.
struct Issuer {
    url: String,
    asked: Arc<AtomicUsize>,
    /// Questions on their way, and the most that there ever were.
    open: Arc<(AtomicUsize, AtomicUsize)>,
    may_answer: watch::Sender<bool>,
}

impl Issuer {
    async fn start() -> Self {
        let (asked, open) = (Arc::<AtomicUsize>::default(), Arc::default());
        let may_answer = watch::Sender::new(false);
        let counted: (Arc<AtomicUsize>, Arc<(AtomicUsize, AtomicUsize)>) =
            (Arc::clone(&asked), Arc::clone(&open));
        let may = may_answer.subscribe();
        let me = get(move |headers: HeaderMap| {
            let ((asked, open), mut may) = (counted.clone(), may.clone());
            async move {
                asked.fetch_add(1, Ordering::SeqCst);
                let now = open.0.fetch_add(1, Ordering::SeqCst) + 1;
                open.1.fetch_max(now, Ordering::SeqCst);
                may.wait_for(|may| *may).await.unwrap();
                open.0.fetch_sub(1, Ordering::SeqCst);
                let token = headers["authorization"].to_str().unwrap().to_owned();
                match token.trim_start_matches("Bearer ") {
                    token if token.starts_with("bad") => {
                        let status = token.trim_start_matches("bad").parse().unwrap_or(401);
                        (StatusCode::from_u16(status).unwrap(), String::new())
                    }
                    token if token.starts_with("ill") => {
                        (StatusCode::SERVICE_UNAVAILABLE, String::new())
                    }
                    token => (StatusCode::OK, format!(r#"{{"sub":"{token}"}}"#)),
                }
            }
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/me", listener.local_addr().unwrap());
        let router = Router::new().route("/me", me);
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            url,
            asked,
            open,
            may_answer,
        }
    }

    fn asking(&self, max_age: Duration) -> Asking {
        Asking::new(Web::new(None).unwrap(), &self.url, max_age)
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// Answers once there are so many questions.
    async fn answer_at(&self, questions: usize) {
        while self.asked() < questions {
            tokio::task::yield_now().await;
        }
        self.may_answer.send_replace(true);
    }
}

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn those_who_show_one_token_at_a_time_are_asked_about_once() {
    let issuer = Issuer::start().await;
    let asking = issuer.asking(LONG);
    let all = futures::future::join_all((0..50).map(|_| asking.ask("anne")));
    let (all, ()) = tokio::join!(all, issuer.answer_at(1));
    assert!(
        all.iter()
            .all(|claims| claims.as_ref().unwrap()["sub"] == "anne")
    );
    assert_eq!(issuer.asked(), 1);
    assert!(asking.ask("anne").await.is_ok());
    assert_eq!(issuer.asked(), 1, "and its answer is kept");
}

#[tokio::test]
async fn a_refusal_is_kept_and_a_failure_is_not() {
    let issuer = Issuer::start().await;
    issuer.may_answer.send_replace(true);
    let asking = issuer.asking(LONG);
    for _ in 0..3 {
        let refused = asking.ask("bad").await.unwrap_err();
        assert!(matches!(refused, TokenError::Invalid(_)), "{refused}");
    }
    assert_eq!(issuer.asked(), 1);
    assert!(!asking.outage.is_on(), "a refusal is an answer");
    for asked in 2..4 {
        assert_eq!(asking.ask("ill").await, Err(TokenError::Unavailable));
        assert_eq!(issuer.asked(), asked);
        assert!(asking.outage.is_on());
    }
    assert!(asking.ask("anne").await.is_ok());
    assert!(!asking.outage.is_on());

    // No longer than a good answer.
    let asking = issuer.asking(Duration::ZERO);
    let asked = issuer.asked();
    while issuer.asked() < asked + 2 {
        assert!(asking.ask("bad").await.is_err());
    }
}

#[tokio::test]
async fn a_token_that_makes_no_sense_is_no_outage() {
    let issuer = Issuer::start().await;
    issuer.may_answer.send_replace(true);
    let asking = issuer.asking(LONG);
    for token in ["bad400", "bad401", "bad403", "bad431", "a\nb", "a\0b"] {
        let refused = asking.ask(token).await.unwrap_err();
        assert!(matches!(refused, TokenError::Invalid(_)), "{token:?}");
        assert!(!asking.outage.is_on(), "{token:?}");
    }
    assert_eq!(issuer.asked(), 4, "nobody is asked about what cannot be");
}

#[tokio::test]
async fn however_many_come_at_once_only_so_many_are_asked_about_at_a_time() {
    let issuer = Issuer::start().await;
    let asking = issuer.asking(LONG);
    let tokens: Vec<_> = (0..3 * ASKED).map(|user| format!("user{user}")).collect();
    let all = futures::future::join_all(tokens.iter().map(|token| asking.ask(token)));
    let (all, ()) = tokio::join!(all, issuer.answer_at(ASKED));
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(issuer.asked(), 3 * ASKED);
    assert_eq!(issuer.open.1.load(Ordering::SeqCst), ASKED);
}
