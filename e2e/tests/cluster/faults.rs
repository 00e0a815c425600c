//! What goes wrong shows in the status, and goes from it when it is mended, without a restart.

use serde_json::{Value, json};

use crate::client::Triple;
use crate::site::Site;

const STORE: &str = "authzstore/notes";
const READER: Triple<'_> = ["note:1", "reader", "user:anne"];

#[tokio::test]
#[ignore = "needs root: run by `cargo xtask test`"]
async fn show_in_the_status_until_they_are_mended() {
    let site = Site::new("faults").await;
    let _running = site.with_the_operator().await;
    let operator = operator(&site).await;
    let databases = "create database notes_central owner meridian;
        create database notes_eu_1 owner meridian;";
    site.access().sql("postgres", databases).await.unwrap();
    site.apply(include_str!("manifests/notes.yaml")).await;

    site.fails(STORE, "ReferencesResolved", &["notes-central"])
        .await;
    let secrets = include_str!("manifests/notes-secrets.yaml");
    site.apply(secrets).await;
    site.holds(STORE, "ReferencesResolved").await;

    site.fails(STORE, "Ready", &["registry.local/meridian:none"])
        .await;
    site.patch(STORE, &json!({"spec": {"image": null}})).await;
    site.holds(STORE, "Migrated").await;

    site.fails(STORE, "KafkaReachable", &["kafka:9092"]).await;
    let node = site.access().node().to_string();
    let kafka = include_str!("manifests/notes-kafka.yaml").replace("{node}", &node);
    site.apply(&kafka).await;
    site.holds(STORE, "KafkaReachable").await;
    site.holds(STORE, "Ready").await;

    an_invalid_model_changes_nothing(&site).await;
    assert_eq!(operator, self::operator(&site).await);
    the_store_goes_and_its_data_stay(&site).await;
}

/// The operator's pod, and how often it was started.
async fn operator(site: &Site) -> Value {
    let kubectl = site.access().kubectl().unwrap();
    let namespace = meridian_e2e::cluster::OPERATOR_NAMESPACE;
    let pods = kubectl
        .get(["pods", "--namespace", namespace])
        .await
        .unwrap();
    let pod = &pods["items"][0];
    json!([
        pod["metadata"]["name"],
        pod["status"]["containerStatuses"][0]["restartCount"]
    ])
}

async fn an_invalid_model_changes_nothing(site: &Site) {
    let store = site.get([STORE]).await;
    let id = store["status"]["storeId"].as_str().unwrap();
    let model = store["spec"]["model"]["inline"]
        .as_str()
        .unwrap()
        .to_owned();
    let central = site.client("notes-central").await;
    central.write(id, &[READER]).await.unwrap();

    let set = async |model: &str| {
        let patch = json!({"spec": {"model": {"inline": model}}});
        site.patch(STORE, &patch).await;
    };
    set(&model.replace("[user]", "[user, nobody]")).await;
    site.fails(STORE, "Accepted", &["nobody", "line"]).await;
    assert!(central.check(id, READER).await.unwrap().allowed);
    set(&format!("{model}    define writer: [user]\n")).await;
    site.holds(STORE, "Accepted").await;
    site.holds(STORE, "Ready").await;
}

async fn the_store_goes_and_its_data_stay(site: &Site) {
    site.kubectl(["delete", STORE]).await;
    site.is_empty().await;
    let alive = "select count(*) from stores where deleted_at is null";
    let alive = site.access().sql("notes_central", alive).await.unwrap();
    assert_eq!(alive.trim(), "1");
}
