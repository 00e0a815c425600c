//! What is asked, and what must be answered.

use std::net::SocketAddr;

use bytes::{BufMut, Bytes, BytesMut};
use meridian_proto::meridian::v1::{GetTiersRequest, GetTiersResponse};
use meridian_proto::openfga::v1;
use prost::Message;

use crate::data::{Asked, Data};
use crate::node;

/// Calls of one method at one address.
pub(crate) struct Calls {
    pub(crate) address: SocketAddr,
    pub(crate) path: String,
    /// Each call's message, framed.
    pub(crate) messages: Vec<Bytes>,
    /// Each call's answer, framed.
    pub(crate) answers: Vec<Bytes>,
}

impl Calls {
    /// So many empty calls.
    pub(crate) fn empty(address: SocketAddr, count: usize) -> anyhow::Result<Self> {
        Ok(Self {
            address,
            path: node::EMPTY.into(),
            messages: vec![framed(&GetTiersRequest::default())?; count],
            answers: vec![framed(&GetTiersResponse::default())?; count],
        })
    }

    /// These questions.
    pub(crate) fn checks(
        address: SocketAddr,
        data: &Data,
        questions: &[Asked],
        answers: &[bool],
    ) -> anyhow::Result<Self> {
        let message = |asked: &Asked| {
            framed(&v1::CheckRequest {
                store_id: data.head.info.id.to_string(),
                tuple_key: Some(v1::CheckRequestTupleKey {
                    user: asked.user.clone(),
                    relation: asked.relation.into(),
                    object: asked.object.clone(),
                }),
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
