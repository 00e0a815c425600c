//! The example page `examples/live-map`, and with it the client `clients/live`, in a real browser on a whole node.
//!
//! `cargo xtask test` builds the client and runs these; by hand: `npm run build` in `clients/live`, `cargo build -p meridian-server`, then
//! `cargo test -p meridian-e2e --test it browser:: -- --ignored`.

mod chromium;
mod scene;
mod site;

use std::time::Duration;

use meridian_e2e::Signal;
use serde_json::json;

use crate::until::{heavy, until};
use chromium::{Browser, Page};
use scene::Scene;

/// More than anything of these tests takes.
const SOON: Duration = Duration::from_secs(30);

// The map's middle and two of its corners: latitude and longitude.
const CENTRE: [f64; 2] = [52.52, 13.38];
const NORTH_WEST: [f64; 2] = [52.55, 13.3];
const SOUTH_EAST: [f64; 2] = [52.49, 13.46];

const IS_LIVE: &str = "document.querySelector('#connection').dataset.status === 'open' \
                       && document.querySelector('#subscription').dataset.status === 'live'";
const GAP_IS_HIDDEN: &str = "document.querySelector('#gap').hidden";

#[tokio::test]
#[ignore = "needs Node.js and Chromium: run by `cargo xtask test`"]
async fn a_page_sees_vehicles_move_and_goes_on_after_every_break() {
    let _leave = heavy().await;
    let (mut scene, browser) = tokio::join!(Scene::start(), Browser::start());
    scene.grant("event:42").await;
    let quick = json!({"backoffBase": 50, "backoffMost": 500, "pingEvery": 500, "pongWithin": 500});
    scene.site.point_at(scene.settings("event:42", quick));
    let mut page = browser.open(&scene.site.url).await;
    live(&mut page).await;
    scene.publish("vehicle:7", &["event:42"], CENTRE).await;
    shows(&mut page, "vehicle:7", "500.0 300.0").await;
    scene.publish("vehicle:7", &["event:42"], NORTH_WEST).await;
    scene.publish("vehicle:8", &["event:42"], CENTRE).await;
    shows(&mut page, "vehicle:8", "500.0 300.0").await;
    shows(&mut page, "vehicle:7", "0.0 0.0").await;

    // The node hangs, which nobody is told: what was said meanwhile is made up for.
    scene.node.process.signal(Signal::STOP).unwrap();
    broken(&mut page).await;
    scene.produce("event:42", SOUTH_EAST).await;
    scene.node.process.signal(Signal::CONT).unwrap();
    shows(&mut page, "event:42", "1000.0 600.0").await;
    live(&mut page).await;
    assert_eq!(page.value(GAP_IS_HIDDEN).await, true);

    // It is restarted: what was said meanwhile is in no node's memory, and the page is told so.
    scene.node.process.stop().await.unwrap();
    broken(&mut page).await;
    scene.produce("event:42", CENTRE).await;
    scene.start_node().await;
    page.until("a gap", "!document.querySelector('#gap').hidden")
        .await;
    live(&mut page).await;
    scene.publish("vehicle:7", &["event:42"], SOUTH_EAST).await;
    shows(&mut page, "vehicle:7", "1000.0 600.0").await;

    // Nobody wants to wait for a backoff when the network is back.
    let patient = json!({"backoffBase": 3_600_000, "backoffMost": 3_600_000});
    scene.site.point_at(scene.settings("event:42", patient));
    let mut page = browser.open(&scene.site.url).await;
    live(&mut page).await;
    scene.node.process.stop().await.unwrap();
    page.until("a wait", &is("connection", "waiting")).await;
    scene.start_node().await;
    page.value("dispatchEvent(new Event('online'))").await;
    live(&mut page).await;
    browser.stop().await;
}

#[tokio::test]
#[ignore = "needs Node.js and Chromium: run by `cargo xtask test`"]
async fn a_page_renews_its_token_until_it_gets_no_good_one() {
    let _leave = heavy().await;
    let (scene, browser) = tokio::join!(Scene::start(), Browser::start());
    scene.grant("event:42").await;
    scene
        .site
        .point_at(scene.settings("event:42", json!({"backoffBase": 50})));
    scene.site.tokens().lifetime = 4;
    let mut page = browser.open(&scene.site.url).await;
    live(&mut page).await;
    let renewals = |scene: &Scene| {
        let tokens = scene.site.tokens();
        tokens.asked.iter().filter(|why| *why == "expiring").count()
    };
    until("three lives of a token", SOON, async || {
        assert_eq!(page.value(IS_LIVE).await, true);
        match renewals(&scene) {
            3.. => Ok(()),
            fewer => Err(fewer.to_string()),
        }
    })
    .await;
    let first = scene.site.tokens().asked.first().cloned();
    assert_eq!(first.as_deref(), Some("connect"));
    assert_eq!(
        scene
            .site
            .tokens()
            .asked
            .iter()
            .filter(|why| *why != "expiring")
            .count(),
        1
    );
    scene.publish("vehicle:7", &["event:42"], CENTRE).await;
    shows(&mut page, "vehicle:7", "500.0 300.0").await;

    scene.site.tokens().lifetime = -60;
    page.until("an end", &is("connection", "closed")).await;
    let text = page
        .value("document.querySelector('#connection').innerText")
        .await;
    assert!(text.as_str().unwrap().starts_with("closed (4401"), "{text}");
    browser.stop().await;
}

#[tokio::test]
#[ignore = "needs Node.js and Chromium: run by `cargo xtask test`"]
async fn what_is_revoked_is_said_and_nothing_more_arrives() {
    let _leave = heavy().await;
    let (scene, browser) = tokio::join!(Scene::start(), Browser::start());
    let page_of = async |event| {
        scene.site.point_at(scene.settings(event, json!({})));
        browser.open(&scene.site.url).await
    };
    let mut page = page_of("event:42").await;
    page.until("a denial", &is("subscription", "ended")).await;
    let text = page
        .value("document.querySelector('#subscription').innerText")
        .await;
    assert!(
        text.as_str().unwrap().starts_with("event:42: denied"),
        "{text}"
    );
    scene.grant("event:42").await;
    page.value("document.querySelector('#again').click()").await;
    live(&mut page).await;
    scene.grant("event:43").await;
    let mut other = page_of("event:43").await;
    live(&mut other).await;

    let both = ["event:42", "event:43"];
    scene.publish("vehicle:7", &both, CENTRE).await;
    shows(&mut page, "vehicle:7", "500.0 300.0").await;
    scene.revoke("event:42").await;
    page.until("a revocation", &is("subscription", "ended"))
        .await;
    let text = page
        .value("document.querySelector('#subscription').innerText")
        .await;
    assert_eq!(text.as_str().unwrap().trim(), "event:42: revoked");
    scene.publish("vehicle:7", &both, NORTH_WEST).await;
    shows(&mut other, "vehicle:7", "0.0 0.0").await;
    let shown = page.value(&place("vehicle:7")).await;
    assert_eq!(
        shown, "translate(500.0 300.0)",
        "moved after the revocation"
    );

    scene.grant("event:42").await;
    page.value("document.querySelector('#again').click()").await;
    live(&mut page).await;
    scene.publish("vehicle:7", &both, SOUTH_EAST).await;
    shows(&mut page, "vehicle:7", "1000.0 600.0").await;
    browser.stop().await;
}

/// Waits until the page's connection is open and its subscription live.
async fn live(page: &mut Page) {
    page.until("a live subscription", IS_LIVE).await;
}

/// Waits until the page has noticed that its connection is gone.
async fn broken(page: &mut Page) {
    let open = is("connection", "open");
    page.until("a broken connection", &format!("!({open})"))
        .await;
}

/// Waits until a vehicle is drawn there.
async fn shows(page: &mut Page, vehicle: &str, there: &str) {
    let is_there = format!("{} === 'translate({there})'", place(vehicle));
    page.until(&format!("{vehicle} at {there}"), &is_there)
        .await;
}

fn place(vehicle: &str) -> String {
    format!("document.querySelector('[data-vehicle=\"{vehicle}\"]').getAttribute('transform')")
}

fn is(what: &str, status: &str) -> String {
    format!("document.querySelector('#{what}').dataset.status === '{status}'")
}
