//! Says whether Kafka answers: once at the start, soon, and then whenever that changes.
//!
//! What reads and writes topics waits for brokers longer than whoever has just started a node with a wrong address.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use meridian_sync::kafka::Error;
use meridian_sync::kafka::probe::{Probe, Silent};
use tokio_util::sync::CancellationToken;

use crate::status::chain;

/// Times of the questions.
#[derive(Clone, Copy)]
struct Pace {
    /// How long the brokers have to answer the first question.
    first: Duration,
    /// How long they have to answer any other.
    limit: Duration,
    /// The pause while they answer.
    pause: Duration,
    /// The pause while they do not.
    retry: Duration,
}

const PACE: Pace = Pace {
    first: Duration::from_secs(1),
    limit: Duration::from_secs(5),
    pause: Duration::from_secs(10),
    retry: Duration::from_secs(1),
};
/// Reasons kept while none answers.
const REASONS: usize = 16;

/// Asks until `stop`.
pub(super) async fn watch(probe: Probe, bootstrap: String, stop: CancellationToken) {
    let probe = Arc::new(probe);
    let ask = |limit| {
        let probe = Arc::clone(&probe);
        async move {
            match probe.ask(limit).await {
                Ok(()) | Err(Silent::Failed(Error::NoTopic(_))) => Ok(()),
                Err(silent) => Err(chain(&silent)),
            }
        }
    };
    let say = |news: News| match news {
        News::Silent(why) => tracing::warn!(
            bootstrap,
            error = why,
            "Kafka (kafka.bootstrap) does not answer; trying again"
        ),
        News::Answers => tracing::info!(bootstrap, "Kafka answers again"),
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = tell(PACE, ask, say) => {}
    }
}

/// What is worth saying.
#[derive(Debug, PartialEq, Eq)]
enum News {
    /// It does not answer, for this reason.
    Silent(String),
    /// It does again.
    Answers,
}

async fn tell<F>(pace: Pace, ask: impl Fn(Duration) -> F, mut say: impl FnMut(News))
where
    F: Future<Output = Result<(), String>>,
{
    let mut reasons = BTreeSet::new();
    let mut limit = pace.first;
    loop {
        let pause = match ask(limit).await {
            Ok(()) => {
                if !std::mem::take(&mut reasons).is_empty() {
                    say(News::Answers);
                }
                pace.pause
            }
            Err(why) => {
                if reasons.len() < REASONS && reasons.insert(why.clone()) {
                    say(News::Silent(why));
                }
                pace.retry
            }
        };
        limit = pace.limit;
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn each_reason_is_said_once_until_kafka_answers_again() {
        let refused = || Err("kafka:9092: Connection refused".to_owned());
        let answers = Mutex::new(vec![
            refused(),
            Ok(()),
            Ok(()),
            refused(),
            Err("another broker".to_owned()),
            refused(),
            refused(),
        ]);
        let asked_all = Notify::new();
        let ask = |_| {
            let next = answers.lock().unwrap().pop();
            let asked_all = &asked_all;
            async move {
                if next.is_none() {
                    asked_all.notify_one();
                    std::future::pending::<()>().await;
                }
                next.unwrap()
            }
        };
        let mut said = Vec::new();
        let pace = Pace {
            pause: Duration::ZERO,
            retry: Duration::ZERO,
            ..PACE
        };
        tokio::select! {
            () = tell(pace, ask, |news| said.push(news)) => {}
            () = asked_all.notified() => {}
        }
        let refused = || News::Silent("kafka:9092: Connection refused".to_owned());
        let other = News::Silent("another broker".to_owned());
        assert_eq!(said, [refused(), other, News::Answers, refused()]);
    }
}
