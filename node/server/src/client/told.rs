//! What somebody at a terminal is told when there is no answer.

use meridian_model::Code;
use tonic::Status;

use super::{GRPC, RAW_STATUS, SERVED_BY, TIMEOUT};

/// A refusal in OpenFGA's words, or why there is no node to refuse.
pub(super) fn told(address: &str, status: Status) -> anyhow::Error {
    let raw = status.metadata().get(RAW_STATUS);
    let raw = raw.and_then(|value| value.to_str().ok()?.parse().ok());
    if let Some(code) = raw.and_then(Code::from_number) {
        return anyhow::anyhow!("{} ({}): {}", code.name(), code.number(), status.message());
    }
    match trouble(&status) {
        Some(Trouble::NoConnection(why)) => {
            let remedy = of_tls(&why).unwrap_or(GRPC);
            return anyhow::anyhow!("no node answers at {address} (--api): {why}; {remedy}");
        }
        Some(Trouble::Silence) => {
            return anyhow::anyhow!("{address} (--api) did not answer within {TIMEOUT:?}; {GRPC}");
        }
        Some(Trouble::NotGrpc) => {
            return anyhow::anyhow!(
                "{address} (--api) is no gRPC port, speaks TLS, for which --tls or --ca FILE must be given, or went away in the middle; {GRPC}"
            );
        }
        None => {}
    }
    let said = match status.message() {
        "" => status.code().to_string(),
        message => message.to_owned(),
    };
    let served = status.metadata().contains_key(SERVED_BY);
    match status.code() {
        tonic::Code::Unimplemented | tonic::Code::Unknown | tonic::Code::Internal if !served => {
            anyhow::anyhow!(
                "{address} (--api) is no gRPC port of a node, or does not serve this call; {GRPC}"
            )
        }
        _ => anyhow::anyhow!(said),
    }
}

/// What to do about hands that could not be shaken, by the words that rustls has for it.
fn of_tls(why: &str) -> Option<&'static str> {
    const REMEDIES: [(&str, &str); 4] = [
        (
            "InvalidContentType",
            "the node seems to speak without TLS there: leave --tls and --ca out",
        ),
        (
            "UnknownIssuer",
            "name a file with the certificate of the authority that issued the node's by --ca",
        ),
        (
            "CaUsedAsEndEntity",
            "the node shows the very certificate that --ca names, which is marked as an authority's: have the authority issue one for the node",
        ),
        (
            "BadSignature",
            "the node's certificate is not of the authority that --ca names",
        ),
    ];
    let found = REMEDIES.iter().find(|(words, _)| why.contains(words));
    found.map(|(_, remedy)| *remedy)
}

/// What went wrong on the way.
enum Trouble {
    /// There is no connection, with the innermost reason.
    NoConnection(String),
    /// No answer came in time.
    Silence,
    /// There is a connection, on which gRPC is not spoken.
    NotGrpc,
}

/// Nothing where a server answered.
fn trouble(status: &Status) -> Option<Trouble> {
    let mut cause = std::error::Error::source(status)?;
    let (mut is_connecting, mut is_late) = (false, false);
    loop {
        is_connecting |= cause.is::<tonic::ConnectError>();
        is_late |= cause.is::<tonic::TimeoutExpired>();
        match cause.source() {
            Some(deeper) => cause = deeper,
            None => break,
        }
    }
    Some(match (is_connecting, is_late) {
        (true, _) => Trouble::NoConnection(cause.to_string()),
        (false, true) => Trouble::Silence,
        (false, false) => Trouble::NotGrpc,
    })
}
