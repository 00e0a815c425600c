//! Who serves the page of `examples/live-map`, and makes its tokens.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::extract::{Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::issuer::{Issuer, Key, now};

/// A running site, with an issuer of its own.
pub(crate) struct Site {
    pub(crate) url: String,
    pub(crate) issuer: Issuer,
    state: Arc<Mutex<Tokens>>,
}

/// Which tokens it makes, and made.
pub(crate) struct Tokens {
    key: Key,
    claims: Value,
    settings: Value,
    /// How long a token lives, in seconds.
    pub(crate) lifetime: i64,
    /// Why each was asked for, in order.
    pub(crate) asked: Vec<String>,
}

impl Tokens {
    /// One for the user `user:anne`.
    pub(crate) fn make(&self) -> String {
        let mut claims = self.claims.clone();
        claims["exp"] = json!(now().saturating_add_signed(self.lifetime));
        self.key.token(&claims)
    }
}

#[derive(Deserialize)]
struct Why {
    why: String,
}

impl Site {
    /// Starts it; nobody knows the node yet.
    pub(crate) async fn start() -> Self {
        let key = Key::p256("key");
        let issuer = Issuer::start(&[&key]).await;
        let tokens = Tokens {
            key,
            claims: issuer.claims(),
            settings: Value::Null,
            lifetime: 600,
            asked: Vec::new(),
        };
        let state = Arc::new(Mutex::new(tokens));
        let settings = async |State(state): State<Arc<Mutex<Tokens>>>| {
            Json(state.lock().unwrap().settings.clone())
        };
        let token = async |State(state): State<Arc<Mutex<Tokens>>>, Query(why): Query<Why>| {
            let mut state = state.lock().unwrap();
            state.asked.push(why.why);
            state.make()
        };
        let router = Router::new()
            .route("/settings.json", get(settings))
            .route("/token", get(token))
            .fallback(file)
            .with_state(Arc::clone(&state));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, issuer, state }
    }

    pub(crate) fn tokens(&self) -> MutexGuard<'_, Tokens> {
        self.state.lock().unwrap()
    }

    /// Has pages that are opened from now on connect there.
    pub(crate) fn point_at(&self, settings: Value) {
        self.tokens().settings = settings;
    }
}

/// A file of the example, or of the client that it imports.
async fn file(uri: Uri) -> Response {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let path = match uri.path() {
        "/" => root.join("examples/live-map/index.html"),
        path => match path.strip_prefix("/client/") {
            Some(name) => root.join("clients/live/dist").join(name),
            None => root
                .join("examples/live-map")
                .join(path.trim_start_matches('/')),
        },
    };
    let kind = match path.extension().and_then(|extension| extension.to_str()) {
        Some("js") => "text/javascript",
        Some("css") => "text/css",
        _ => "text/html",
    };
    match tokio::fs::read(&path).await {
        Ok(bytes) => ([(CONTENT_TYPE, kind)], bytes).into_response(),
        Err(error) => (
            StatusCode::NOT_FOUND,
            format!("{}: {error}", path.display()),
        )
            .into_response(),
    }
}
