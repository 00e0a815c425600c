//! Asks everything once with an ordinary client and looks at the whole answer: right, and made by the edge itself.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use http::{Request, Uri};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::node::NAME;
use meridian_bench::calls::Calls;

/// How long one call may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// Fails at the first call that fails, is answered otherwise than expected, or by another node.
pub(crate) async fn all(calls: &Calls) -> anyhow::Result<()> {
    let stream = TcpStream::connect(calls.address).await?;
    stream.set_nodelay(true)?;
    let (mut connection, driver) = Builder::new(TokioExecutor::new())
        .handshake(TokioIo::new(stream))
        .await?;
    tokio::spawn(driver);
    let uri: Uri = format!("http://{}{}", calls.address, calls.path).parse()?;
    for (index, (message, answer)) in calls.messages.iter().zip(&calls.answers).enumerate() {
        let asked = tokio::time::timeout(DEADLINE, one(&mut connection, &uri, message, answer));
        asked
            .await
            .map_err(Into::into)
            .flatten()
            .with_context(|| format!("call {index}"))?;
    }
    Ok(())
}

async fn one(
    connection: &mut SendRequest<Full<bytes::Bytes>>,
    uri: &Uri,
    message: &bytes::Bytes,
    answer: &bytes::Bytes,
) -> anyhow::Result<()> {
    let request = Request::post(uri.clone())
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(message.clone()))?;
    let (head, body) = connection.send_request(request).await?.into_parts();
    let body = body.collect().await?;
    let status = body
        .trailers()
        .and_then(|trailers| trailers.get("grpc-status"));
    ensure!(
        status.is_some_and(|status| status == "0"),
        "failed: {:?}, {:?}",
        head.headers,
        body.trailers()
    );
    ensure!(
        head.headers
            .get("meridian-served-by")
            .is_some_and(|by| by == NAME),
        "not answered by the edge: {:?}",
        head.headers
    );
    let got = body.to_bytes();
    ensure!(got == *answer, "answered {got:?}, not {answer:?}");
    Ok(())
}
