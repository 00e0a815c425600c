use std::time::Instant;

use meridian_flow::memory::MemoryFlows;
use meridian_flow::ports::{FlowFilter, FlowRepository as _, SessionRepository as _};
use meridian_flow::{FlowRecorder, RecorderSettings};

use super::*;

#[tokio::test(start_paused = true)]
async fn the_end_of_a_session_is_kept_however_long_its_store_was_not_heard_of() {
    let flows = Arc::new(MemoryFlows::new());
    let recorder = FlowRecorder::new(Arc::clone(&flows) as _, RecorderSettings::default());
    let guard = Arc::new(Guard::new(recorder, None, Duration::ZERO));
    let store: StoreId = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
    guard.note(store);
    let observing = Observing::new(Arc::clone(&guard), "live_none", "edge/one");
    let shown = Shown {
        store,
        origin: Origin {
            address: None,
            agent: None,
        },
        at: SystemTime::now(),
        took: Duration::ZERO,
    };
    let anne = Identity {
        subject: "anne".to_owned(),
        user: "user:anne".to_owned(),
        expires_at: None,
        scopes: Vec::new(),
        client: None,
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    let session = async || {
        let any = FlowFilter::default();
        let found = flows.get_flows(store, &any, None, 1, deadline);
        let flow = found.await.unwrap().flows.pop()?.id;
        let session = flows.get_session_of_flow(store, flow, deadline);
        session.await.unwrap()
    };
    let connected = observing.connected(shown, "one", &anne);
    while session().await.is_none() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    guard.forget(store);
    connected.ended(1001);
    while session().await.unwrap().close_code.is_none() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
