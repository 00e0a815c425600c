//! Chromium without a window, driven over its DevTools protocol: <https://chromedevtools.github.io/devtools-protocol/>.

use std::fs;
use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use meridian_e2e::{Process, Workdir, tools};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::until::until;

const STARTS: Duration = Duration::from_secs(60);
/// More than any page of the tests takes to do anything.
const DEADLINE: Duration = Duration::from_secs(30);

/// Where it says how to be reached: a port, and a path.
const ADDRESS_FILE: &str = "DevToolsActivePort";

/// Without what it does for people: updates, sync, the first run's questions. Root has no sandbox of its own.
const ARGUMENTS: [&str; 10] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--no-first-run",
    "--remote-debugging-port=0",
];

/// A browser with a profile of its own.
pub(crate) struct Browser {
    process: Process,
    address: String,
    _profile: Workdir,
}

impl Browser {
    pub(crate) async fn start() -> Self {
        let profile = Workdir::new("chromium").unwrap();
        let chromium = tools::chromium().unwrap();
        let folder = format!("--user-data-dir={}", profile.path().display());
        let mut process = Process::new("chromium", chromium, profile.path())
            .args(ARGUMENTS)
            .args([&folder, "about:blank"])
            .env("HOME", profile.path());
        process.start().unwrap();
        let address = until("the browser's address", STARTS, async || {
            assert!(process.is_running().unwrap(), "{}", process.log_tail(40));
            let said = fs::read_to_string(profile.path().join(ADDRESS_FILE)).unwrap_or_default();
            match said.split_once('\n') {
                Some((port, path)) => Ok(format!("ws://127.0.0.1:{port}{path}")),
                None => Err(process.log_tail(40)),
            }
        })
        .await;
        Self {
            process,
            address,
            _profile: profile,
        }
    }

    /// Opens a page in a tab of its own.
    pub(crate) async fn open(&self, url: &str) -> Page {
        let (socket, _) = timeout(DEADLINE, connect_async(&self.address))
            .await
            .unwrap()
            .unwrap();
        let mut page = Page {
            socket,
            session: Value::Null,
            calls: 0,
        };
        let target = json!({"url": url});
        let target = page.call("Target.createTarget", target).await;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = page.call("Target.attachToTarget", attach).await;
        page.session = attached["sessionId"].clone();
        page
    }

    pub(crate) async fn stop(mut self) {
        self.process.stop().await.unwrap();
    }
}

/// A page in a tab.
pub(crate) struct Page {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    session: Value,
    calls: u64,
}

impl Page {
    /// The value of an expression in the page.
    pub(crate) async fn value(&mut self, expression: &str) -> Value {
        let ask = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.call("Runtime.evaluate", ask).await;
        assert!(
            answer.get("exceptionDetails").is_none(),
            "{expression}: {answer}"
        );
        answer["result"]["value"].clone()
    }

    /// Waits until an expression is true; panics with what the page says of itself.
    pub(crate) async fn until(&mut self, what: &str, expression: &str) {
        until(what, DEADLINE, async || {
            // A page that is not loaded yet has nothing to be asked about.
            let tried =
                format!("(() => {{ try {{ return {expression} }} catch {{ return false }} }})()");
            match self.value(&tried).await {
                Value::Bool(true) => Ok(()),
                _ => Err(self.value("document.body?.innerText").await.to_string()),
            }
        })
        .await;
    }

    async fn call(&mut self, method: &str, params: Value) -> Value {
        self.calls += 1;
        let id = self.calls;
        let mut call = json!({"id": id, "method": method, "params": params});
        if self.session.is_string() {
            call["sessionId"] = self.session.clone();
        }
        let text = Message::text(call.to_string());
        timeout(DEADLINE, self.socket.send(text))
            .await
            .unwrap()
            .unwrap();
        let answered = async {
            loop {
                let said = self.socket.next().await.unwrap().unwrap();
                let said: Value = serde_json::from_str(said.to_text().unwrap()).unwrap();
                if said["id"] == id {
                    assert!(said.get("error").is_none(), "{method}: {said}");
                    return said["result"].clone();
                }
            }
        };
        timeout(DEADLINE, answered).await.unwrap()
    }
}
