//! What is asked, and what must be answered.

use std::net::SocketAddr;

use bytes::{BufMut, Bytes, BytesMut};
use meridian_proto::openfga::v1;
use prost::Message;

use crate::data::Asked;

/// Calls of one method at one address.
#[derive(Clone)]
pub struct Calls {
    /// Where.
    pub address: SocketAddr,
    /// The method's path.
    pub path: String,
    /// Each call's message, framed.
    pub messages: Vec<Bytes>,
    /// Each call's answer, framed.
    pub answers: Vec<Bytes>,
}

impl Calls {
    /// The same call so many times.
    ///
    /// # Errors
    /// When a message is larger than gRPC's frames.
    pub fn same(
        address: SocketAddr,
        path: &str,
        (request, response): (&impl Message, &impl Message),
        count: usize,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            address,
            path: path.into(),
            messages: vec![framed(request)?; count],
            answers: vec![framed(response)?; count],
        })
    }

    /// These questions about a store, and what must be answered.
    ///
    /// # Errors
    /// When a message is larger than gRPC's frames.
    pub fn checks(
        address: SocketAddr,
        store: &str,
        questions: &[Asked],
        answers: &[bool],
    ) -> anyhow::Result<Self> {
        let message = |asked: &Asked| {
            framed(&v1::CheckRequest {
                store_id: store.into(),
                tuple_key: Some(asked.key()),
                ..v1::CheckRequest::default()
            })
        };
        let answer = |allowed: &bool| {
            framed(&v1::CheckResponse {
                allowed: *allowed,
                ..v1::CheckResponse::default()
            })
        };
        Ok(Self {
            address,
            path: "/openfga.v1.OpenFGAService/Check".into(),
            messages: questions.iter().map(message).collect::<Result<_, _>>()?,
            answers: answers.iter().map(answer).collect::<Result<_, _>>()?,
        })
    }
}

/// A message as gRPC frames it.
fn framed(message: &impl Message) -> anyhow::Result<Bytes> {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(5 + length);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length)?);
    message.encode(&mut frame)?;
    Ok(frame.freeze())
}
