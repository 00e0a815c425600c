//! What nodes of different versions take from each other's messages.

use meridian_proto::meridian::v1::{EvaluateBatchPart, evaluate_batch_part};
use prost::Message;

/// As a node answered that sent all results in one message: the first, at field 1, has its `allowed` at field 1.
const ALLOWED: [u8; 4] = [0x0a, 2, 0x08, 1];

#[test]
fn an_answer_to_a_batch_that_is_all_in_one_message_and_one_in_parts_are_never_read_as_each_other() {
    let read = EvaluateBatchPart::decode(&ALLOWED[..]).unwrap();
    assert_eq!(read, EvaluateBatchPart::default());
    let part = EvaluateBatchPart {
        results: vec![evaluate_batch_part::Result {
            check: 1,
            ..Default::default()
        }],
        ..Default::default()
    };
    assert_eq!(part.encode_to_vec(), [6 << 3 | 2, 2, 0x08, 1]);
}
