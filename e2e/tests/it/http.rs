//! Requests to a node's HTTP port, and its metrics.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The status and the body of what a node answers.
pub(crate) async fn request(
    node: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
) -> (u16, String) {
    let mut stream = TcpStream::connect(node).await.unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {node}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

/// The sum of a metric's series whose labels contain `label`; 0 where there is none yet. `metrics` is where the node tells them.
pub(crate) async fn metric(metrics: SocketAddr, name: &str, label: &str) -> u64 {
    let (status, text) = request(metrics, "GET", "/metrics", "").await;
    assert_eq!(status, 200, "{text}");
    let of = text.lines().filter(|line| {
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with(['{', ' ']) && rest.contains(label))
    });
    let numbers = of.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap());
    numbers.sum::<f64>() as u64
}
