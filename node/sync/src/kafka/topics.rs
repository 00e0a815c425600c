//! Looking topics up and making them.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;

use super::{Error, MAX_RECORD, Quiet, REQUEST, Result, Settings, blocking};
use crate::retry::{Patience, Said};

/// The topic's option for the largest batch it takes, in bytes.
const LARGEST: &str = "max.message.bytes";

/// The number of a topic's partitions; `None` when there is no such topic.
///
/// # Errors
/// [`Error::Unavailable`] when the brokers do not say.
pub async fn partitions<C, P>(settings: &Settings, client: &P, topic: &str) -> Result<Option<usize>>
where
    C: ConsumerContext + 'static,
    P: Deref<Target: Consumer<C> + Sized> + Clone + Send + 'static,
{
    partitions_within(settings, client, topic, REQUEST).await
}

/// As [`partitions`], with another limit than a request's usual one.
///
/// # Errors
/// As [`partitions`].
pub async fn partitions_within<C, P>(
    settings: &Settings,
    client: &P,
    topic: &str,
    limit: Duration,
) -> Result<Option<usize>>
where
    C: ConsumerContext + 'static,
    P: Deref<Target: Consumer<C> + Sized> + Clone + Send + 'static,
{
    let (client, name) = (client.clone(), topic.to_owned());
    let metadata = blocking(move || client.fetch_metadata(Some(&name), limit)).await?;
    let metadata = metadata.map_err(Error::unavailable(
        settings,
        format!("describe topic '{topic}'"),
    ))?;
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
        return Ok(None);
    };
    match found.error() {
        None if !found.partitions().is_empty() => Ok(Some(found.partitions().len())),
        None
        | Some(
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART
            | RDKafkaRespErr::RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC,
        ) => Ok(None),
        Some(code) => Err(Error::unavailable(
            settings,
            format!("describe topic '{topic}'"),
        )(KafkaError::MetadataFetch(code.into()))),
    }
}

/// Makes a topic unless it is there, as soon as Kafka answers. Its records are kept for `retention`, or as long as the brokers
/// keep any.
pub async fn make(settings: &Settings, topic: &str, retention: Option<Duration>) {
    let (mut failures, mut said) = (0_u32, Said::default());
    while let Err(error) = ensure_for(settings, topic, retention).await {
        failures = failures.saturating_add(1);
        if said.is_news(&error) {
            tracing::warn!(%topic, error = &error as &dyn std::error::Error, "cannot make the topic yet; trying again");
        }
        let pause = Patience::default().pause(failures, u64::from(failures) * 389);
        tokio::time::sleep(pause).await;
    }
}

/// Makes a topic unless it is there, with the configured partitions and replicas; returns how many partitions it has.
///
/// # Errors
/// [`Error::Options`] or [`Error::Unavailable`].
pub async fn ensure(settings: &Settings, topic: &str) -> Result<usize> {
    ensure_for(settings, topic, None).await
}

async fn ensure_for(
    settings: &Settings,
    topic: &str,
    retention: Option<Duration>,
) -> Result<usize> {
    let client: BaseConsumer<Quiet> = settings
        .client(&[("allow.auto.create.topics", "false")])
        .create_with_context(Quiet)
        .map_err(Error::options)?;
    let client = Arc::new(client);
    let admin: AdminClient<Quiet> = settings
        .client(&[])
        .create_with_context(Quiet)
        .map_err(Error::options)?;
    if let Some(count) = partitions(settings, &client, topic).await? {
        warn_if_small(&admin, topic).await;
        return Ok(count);
    }
    let largest = MAX_RECORD.to_string();
    let retention = retention.map(|retention| retention.as_millis().to_string());
    let mut wanted = NewTopic::new(
        topic,
        i32::from(settings.partitions),
        TopicReplication::Fixed(i32::from(settings.replication)),
    )
    .set(LARGEST, &largest);
    if let Some(retention) = &retention {
        wanted = wanted.set("retention.ms", retention);
    }
    let options = AdminOptions::new()
        .request_timeout(Some(REQUEST))
        .operation_timeout(Some(REQUEST));
    let attempt = || Error::unavailable(settings, format!("make topic '{topic}'"));
    for result in admin
        .create_topics([&wanted], &options)
        .await
        .map_err(attempt())?
    {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((_, code)) => return Err(attempt()(KafkaError::AdminOp(code))),
        }
    }
    // Made a moment ago; its description takes another moment to reach every broker.
    Ok(partitions(settings, &client, topic)
        .await?
        .unwrap_or(usize::from(settings.partitions)))
}

/// Says so when a topic that somebody else made takes less than the largest record. A broker that does not tell is left
/// alone: what is too large is announced instead.
async fn warn_if_small(admin: &AdminClient<Quiet>, topic: &str) {
    let options = AdminOptions::new().request_timeout(Some(REQUEST));
    let described = admin
        .describe_configs([&ResourceSpecifier::Topic(topic)], &options)
        .await
        .ok()
        .and_then(|described| described.into_iter().next()?.ok());
    let takes =
        described.and_then(|options| options.get(LARGEST)?.value.clone()?.parse::<usize>().ok());
    if let Some(takes) = takes.filter(|takes| *takes < MAX_RECORD) {
        tracing::warn!(
            topic,
            takes,
            "the topic takes smaller records than may come; set its {LARGEST} to {MAX_RECORD}"
        );
    }
}
