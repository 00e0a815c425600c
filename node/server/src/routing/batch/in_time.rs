//! A batch whose time ends keeps what is decided by then; that its time was up is the outcome of every other check.

#[cfg(test)]
mod tests;

use meridian_model::{Code, Position};
use meridian_proto::openfga::v1;

use super::{DecideAll, Standing, Tell};
use crate::api::deadline_exceeded;
use crate::calls::{Answer, Context, Refusal, Reply, ServedBy};
use crate::commands::decisions::Outcome;
use crate::limits::in_time;

/// What has been told of a batch.
struct Told {
    is_told: Vec<bool>,
    /// Of the earliest decision, and who made the last one.
    decided: Option<(Position, ServedBy)>,
}

impl Told {
    fn note(&mut self, at: usize, outcome: &Outcome, by: &ServedBy) {
        if let Some(is_told) = self.is_told.get_mut(at) {
            *is_told = true;
        }
        if let Ok(decision) = outcome {
            let earliest = self.decided.take().map(|(earliest, _)| earliest);
            let earliest = earliest.map_or(decision.position, |at| at.min(decision.position));
            self.decided = Some((earliest, by.clone()));
        }
    }

    fn is_any(&self) -> bool {
        self.is_told.contains(&true)
    }

    fn left(&self) -> impl Iterator<Item = usize> {
        let all = self.is_told.iter().enumerate();
        all.filter_map(|(at, is_told)| (!is_told).then_some(at))
    }
}

/// Has the node `name` decide a batch in time to answer it.
///
/// # Errors
/// As [`DecideAll::decide_all`]; that the time was up only where by then neither a check was decided nor the model known.
pub(super) async fn decide_in_time(
    (node, name): (&impl DecideAll, &ServedBy),
    cx: &Context,
    checks: &[v1::CheckRequest],
    tell: &mut Tell<'_>,
) -> Answer<()> {
    let cx = Context {
        deadline: in_time(cx.deadline),
        ..cx.clone()
    };
    let mut told = Told {
        is_told: vec![false; checks.len()],
        decided: None,
    };
    let decided = {
        let mut noting = |at: usize, outcome: Outcome, by: &ServedBy| {
            told.note(at, &outcome, by);
            tell(at, outcome, by);
        };
        let deciding = node.decide_all(&cx, checks, &mut noting);
        tokio::time::timeout_at(cx.deadline.into(), deciding).await
    };
    let refusal = match decided.unwrap_or_else(|_| Err(deadline_exceeded().into())) {
        Ok(standing) => return Ok(reply(standing)),
        Err(refusal) => refusal.under(&cx.model),
    };
    let is_begun = told.is_any() || refusal.model.is_some();
    if refusal.error.code != Code::DeadlineExceeded || !is_begun {
        return Err(refusal);
    }
    tracing::info!(
        undecided = told.left().count(),
        checks = checks.len(),
        "a batch was cut short by its deadline"
    );
    for at in told.left() {
        tell(at, Err(refusal.error.clone()), name);
    }
    Ok(cut_short(told, refusal, name))
}

fn reply(standing: Standing) -> Reply<()> {
    Reply {
        body: (),
        position: Some(standing.position),
        model: Some(standing.model),
        served_by: standing.served_by,
        truncated: false,
    }
}

/// The answer of a batch that was not decided as a whole. Its position is that of what was.
fn cut_short(told: Told, refusal: Refusal, name: &ServedBy) -> Reply<()> {
    let (position, by) = told.decided.unzip();
    Reply {
        body: (),
        position,
        model: refusal.model.map(|model| *model),
        served_by: by.unwrap_or_else(|| name.clone()),
        truncated: false,
    }
}
