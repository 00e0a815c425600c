use std::fs;
use std::time::Duration;

use meridian_e2e::{Kafka, Process, tools};

/// What one of Kafka's own tools prints.
async fn tool(class: &str, broker: &Kafka, args: &[&str]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let libs = tools::kafka_libs().unwrap();
    let mut tool = Process::new("tool", tools::java().unwrap(), dir.path())
        .args([
            "-XX:TieredStopAtLevel=1",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
        ])
        .args(["-cp", &format!("{}/*", libs.display()), class])
        .args(["--bootstrap-server", &broker.bootstrap(), "--topic", "kept"])
        .args(args);
    tool.start().unwrap();
    tool.finish(Duration::from_secs(60)).await.unwrap();
    fs::read_to_string(tool.log()).unwrap()
}

async fn produce(broker: &Kafka) {
    tool(
        "org.apache.kafka.tools.VerifiableProducer",
        broker,
        &["--max-messages", "10"],
    )
    .await;
}

async fn end_offset(broker: &Kafka) -> String {
    tool("org.apache.kafka.tools.GetOffsetShell", broker, &[])
        .await
        .trim()
        .to_owned()
}

#[tokio::test]
async fn records_and_address_survive_a_stop_and_a_kill() {
    let mut broker = Kafka::start().await.unwrap();
    let bootstrap = broker.bootstrap();
    tool(
        "org.apache.kafka.tools.TopicCommand",
        &broker,
        &["--create", "--partitions", "1"],
    )
    .await;
    produce(&broker).await;

    broker.stop().await.unwrap();
    assert!(!broker.process().is_running().unwrap());
    broker.start_again().await.unwrap();
    assert_eq!(end_offset(&broker).await, "kept:0:10");
    produce(&broker).await;

    broker.kill().await;
    broker.start_again().await.unwrap();
    assert_eq!(end_offset(&broker).await, "kept:0:20");
    assert_eq!(broker.bootstrap(), bootstrap);
}
