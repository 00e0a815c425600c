use std::sync::Arc;

use futures::StreamExt;
use meridian_model::ports::WriteOptions;
use meridian_model::tuple::TupleCondition;
use meridian_model::{AuthorizationModel, ModelId, Tuple};
use meridian_store::memory::MemoryDatastore;
use meridian_sync::envelope::change_set_from_wire;

use super::*;
use crate::peer::replication::incoming;

const STEP: Duration = Duration::from_secs(20);

fn soon() -> Instant {
    Instant::now() + STEP
}

fn shop() -> StoreId {
    "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap()
}

fn text(bytes: usize) -> String {
    "x".repeat(bytes)
}

/// A tuple with so many bytes of condition.
fn tuple(number: usize, bytes: usize) -> Tuple {
    let context = format!("{{\"x\":\"{}\"}}", text(bytes));
    Tuple {
        key: meridian_model::TupleKey::parse(&format!("doc:{number:06}"), "reader", "user:anne")
            .unwrap(),
        condition: Some(TupleCondition {
            name: "c".into(),
            context: context.into(),
        }),
        timestamp: meridian_model::Timestamp(0),
    }
}

async fn store() -> Arc<MemoryDatastore> {
    let datastore = MemoryDatastore::new();
    datastore
        .create_store(shop(), "shop", soon())
        .await
        .unwrap();
    Arc::new(datastore)
}

#[tokio::test]
async fn a_page_of_changes_is_bounded_by_bytes_and_goes_on_where_it_ended() {
    let datastore = store().await;
    for number in 0..12 {
        let write = tuple(number, 1024 * 1024);
        datastore
            .write_tuples(shop(), &[], &[write], WriteOptions::default(), soon())
            .await
            .unwrap();
    }
    let (mut after, mut pages) = (Revision::ZERO, 0);
    loop {
        let page = page(&*datastore, shop(), after, 1_000, None, soon())
            .await
            .unwrap()
            .unwrap();
        let bytes: usize = page.iter().map(Message::encoded_len).sum();
        assert!(bytes <= MAX_CHANGES_BYTES, "{bytes}");
        for set in page.iter().cloned() {
            let revision = change_set_from_wire(set).unwrap().revision;
            assert_eq!(revision, after.next());
            after = revision;
        }
        if page.is_empty() {
            break;
        }
        pages += 1;
    }
    assert_eq!((after, pages), (Revision(13), 4));

    let huge = tuple(99, 2 * MAX_CHANGES_BYTES);
    datastore
        .write_tuples(shop(), &[], &[huge], WriteOptions::default(), soon())
        .await
        .unwrap();
    let alone = page(&*datastore, shop(), after, 10, None, soon()).await;
    assert_eq!(alone.unwrap().unwrap().len(), 1);
}

#[tokio::test]
async fn trimmed_changes_are_told_from_none() {
    let datastore = store().await;
    for number in 0..3 {
        let write = [tuple(number, 1)];
        datastore
            .write_tuples(shop(), &[], &write, WriteOptions::default(), soon())
            .await
            .unwrap();
    }
    let outbox = datastore.outbox(10, soon()).await.unwrap();
    let sequences: Vec<_> = outbox.iter().map(|row| row.sequence).collect();
    datastore.outbox_delete(&sequences, soon()).await.unwrap();
    datastore
        .trim_changes(shop(), Revision(2), soon())
        .await
        .unwrap();
    let after = async |revision| {
        page(&*datastore, shop(), Revision(revision), 10, None, soon())
            .await
            .unwrap()
            .map(|page| page.len())
    };
    assert_eq!(after(1).await, None);
    assert_eq!(after(2).await, Some(2));
    assert_eq!(after(4).await, Some(0));
}

#[tokio::test]
async fn a_store_of_many_large_models_and_tuples_comes_over_in_small_chunks() {
    let datastore = store().await;
    for number in 0..30 {
        let id: ModelId = format!("01ARZ3NDEKTSV4RRFF{number:08}").parse().unwrap();
        let model = AuthorizationModel {
            schema_version: text(250_000),
            ..AuthorizationModel::default()
        };
        datastore
            .write_model(shop(), id, &model, soon())
            .await
            .unwrap();
    }
    let tuples: Vec<_> = (0..2_500).map(|number| tuple(number, 2_000)).collect();
    datastore
        .write_tuples(shop(), &[], &tuples, WriteOptions::default(), soon())
        .await
        .unwrap();
    let snapshot = async || datastore.snapshot(shop(), soon()).await.unwrap().unwrap();
    let (head, stored) = (
        snapshot().await.head().await.unwrap(),
        snapshot().await.tuples(None, 10_000).await.unwrap(),
    );

    let chunks: Vec<_> = bulk::snapshot(snapshot().await, false).collect().await;
    for chunk in &chunks {
        let bytes = chunk.as_ref().unwrap().encoded_len();
        assert!(bytes < 1_100_000, "{bytes}");
    }
    let got = incoming(futures::stream::iter(chunks), STEP).await.unwrap();
    assert_eq!(got.head, head);
    let tuples: Vec<_> = got.tuples.map(Result::unwrap).concat().await;
    assert_eq!(tuples, stored);

    let only = bulk::snapshot(snapshot().await, true);
    let only = incoming(only, STEP).await.unwrap();
    assert_eq!(only.head, head);
    assert_eq!(only.tuples.count().await, 0);

    let fill: Vec<_> = bulk::fill(snapshot().await, "doc".into()).collect().await;
    let fill: Vec<_> = fill.into_iter().map(Result::unwrap).collect();
    assert!(
        fill.iter()
            .all(|chunk| chunk.position == Some(position_to_wire(head.position)))
    );
    assert_eq!(
        fill.iter().map(|chunk| chunk.tuples.len()).sum::<usize>(),
        2_500
    );
    let empty: Vec<_> = bulk::fill(snapshot().await, "none".into()).collect().await;
    assert_eq!(empty.len(), 1);
}

#[tokio::test]
async fn a_stream_nobody_reads_gives_its_snapshot_back() {
    let datastore = store().await;
    let snapshot = datastore.snapshot(shop(), soon()).await.unwrap().unwrap();
    let (sender, dropped) = tokio::sync::oneshot::channel::<()>();
    let stream = bulk::snapshot(Box::new(Told(snapshot, sender)), false);
    drop(stream);
    assert!(tokio::time::timeout(STEP, dropped).await.unwrap().is_err());
}

/// A snapshot whose end is told.
struct Told(
    Box<dyn Snapshot>,
    #[expect(dead_code, reason = "what counts is when it is dropped")]
    tokio::sync::oneshot::Sender<()>,
);

#[async_trait]
impl Snapshot for Told {
    fn position(&self) -> Position {
        self.0.position()
    }

    fn extend(&mut self, deadline: Instant) {
        self.0.extend(deadline);
    }

    async fn read(
        &mut self,
        reads: &[meridian_model::ports::Read],
        limit: u32,
    ) -> meridian_model::ports::Result<Option<Vec<Vec<Tuple>>>> {
        self.0.read(reads, limit).await
    }

    async fn tuples_of_type(
        &mut self,
        object_type: &str,
        after: Option<&meridian_model::TupleKey>,
        limit: u32,
    ) -> meridian_model::ports::Result<Vec<Tuple>> {
        self.0.tuples_of_type(object_type, after, limit).await
    }

    async fn tuples(
        &mut self,
        after: Option<&meridian_model::TupleKey>,
        limit: u32,
    ) -> meridian_model::ports::Result<Vec<Tuple>> {
        self.0.tuples(after, limit).await
    }

    async fn head(&mut self) -> meridian_model::ports::Result<meridian_model::ports::StoreHead> {
        self.0.head().await
    }

    async fn latest_model(&mut self) -> meridian_model::ports::Result<Option<ModelId>> {
        self.0.latest_model().await
    }

    async fn model(
        &mut self,
        id: ModelId,
    ) -> meridian_model::ports::Result<Option<Arc<AuthorizationModel>>> {
        self.0.model(id).await
    }
}

/// The last one ends the stream; dropped before that, it ends the listing.
#[tokio::test]
async fn a_listing_goes_below_in_parts_and_ends_when_nobody_is_there() {
    use crate::commands::Local;
    use crate::limits::Limits;
    use meridian_proto::openfga::v1;

    const OBJECTS: usize = 1_000;
    let datastore = store().await;
    let text = "model\n  schema 1.1\ntype user\ntype doc\n  relations\n    define reader: [user]\n";
    let model = meridian_model::dsl::parse(text).unwrap();
    let id = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
    datastore
        .write_model(shop(), id, &model, soon())
        .await
        .unwrap();
    let tuples: Vec<_> = (0..OBJECTS)
        .map(|number| Tuple {
            condition: None,
            ..tuple(number, 1)
        })
        .collect();
    datastore
        .write_tuples(shop(), &[], &tuples, WriteOptions::default(), soon())
        .await
        .unwrap();
    let name = ServedBy::new("central/test").unwrap();
    let local = Local::new(datastore, name.clone(), Limits::default(), Arc::default());
    let calls: Arc<dyn Calls> = Arc::new(local);
    let list = |relation: &str| {
        let cx = Context {
            deadline: soon(),
            min_position: None,
            caller: None,
            model: Default::default(),
            why: Default::default(),
        };
        let request = v1::StreamedListObjectsRequest {
            store_id: shop().to_string(),
            r#type: "doc".into(),
            relation: relation.into(),
            user: "user:anne".into(),
            ..Default::default()
        };
        list::parts(Arc::clone(&calls), cx, request, name.clone())
    };
    let parts: Vec<_> = list("reader").map(Result::unwrap).collect().await;
    let objects: usize = parts.iter().map(|part| part.objects.len()).sum();
    assert_eq!(objects, OBJECTS);
    let (last, others) = parts.split_last().unwrap();
    assert!(others.iter().all(|part| part.end.is_none()));
    let end = last.end.as_ref().unwrap();
    assert!(end.error.is_none() && !end.truncated);
    assert_eq!(end.served_by, "central/test");
    assert_eq!(end.position.unwrap().revision, 3);

    let refused: Vec<_> = list("nope").map(Result::unwrap).collect().await;
    let error = refused[0].end.as_ref().unwrap().error.as_ref().unwrap();
    assert_eq!((refused.len(), error.code), (1, 2022));

    let mut under_way = list("reader");
    under_way.next().await.unwrap().unwrap();
    drop(under_way);
    tokio::time::timeout(STEP, async {
        while Arc::strong_count(&calls) > 1 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}
