//! Tuples that are bound to a condition.

use std::sync::Arc;

use imbl::shared_ptr::DefaultSharedPtr;
use meridian_condition::{Condition, Context, Outcome};
use meridian_model::TupleCondition;

use crate::sets::Subject;

/// The conditioned members of a set, each with what it is bound to. Kept apart from the others, which are many more.
pub type Conditioned = imbl::GenericOrdMap<Subject, Arc<Binding>, DefaultSharedPtr>;

/// A condition as a tuple is bound to it, with what the tuple fixes parsed once.
#[derive(Debug)]
pub struct Binding {
    stored: TupleCondition,
    context: Context,
    /// The tuple's own expression, compiled; why that fails is said when it is evaluated.
    inline: Option<Result<Condition, String>>,
}

/// What evaluations bring to conditions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Circumstances<'a> {
    /// Of the request.
    pub(crate) context: &'a Context,
    /// In cel-go's units.
    pub(crate) max_cost: u64,
}

impl Binding {
    /// Parses what a tuple is bound to.
    pub fn new(stored: TupleCondition) -> Self {
        let context = stored.parse().unwrap_or_default();
        let inline = (&*stored.name == Condition::INLINE)
            .then(|| Condition::inline(&context).map_err(|why| why.to_string()));
        Self {
            stored,
            context,
            inline,
        }
    }

    /// As it is stored.
    pub fn stored(&self) -> &TupleCondition {
        &self.stored
    }

    /// Whether the condition is met. `declared` is the model's of that name. What the tuple fixes goes before what the request
    /// brings.
    ///
    /// # Errors
    /// Why that cannot be said.
    pub(crate) fn is_met(
        &self,
        declared: Option<&Condition>,
        around: Circumstances<'_>,
    ) -> Result<bool, Unmet> {
        let none = Context::new();
        let (condition, fixed) = match (declared, &self.inline) {
            (Some(declared), _) => (declared, &self.context),
            // The context is the expression itself.
            (None, Some(Ok(inline))) => (inline, &none),
            (None, Some(Err(why))) => return Err(Unmet::Failed(why.clone())),
            (None, None) => return Err(Unmet::Failed("condition was not found".to_owned())),
        };
        // As upstream, which gives an inline condition without parameters nothing of the request.
        let asked = match declared {
            None if condition.parameters().next().is_none() => &none,
            _ => around.context,
        };
        match condition.evaluate(&[asked, fixed], around.max_cost) {
            Ok(Outcome::Decided { met, .. }) => Ok(met),
            Ok(Outcome::Missing(parameters)) => Err(Unmet::Missing(parameters)),
            Err(why) => Err(Unmet::Failed(why.to_string())),
        }
    }
}

/// Why a condition has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unmet {
    Missing(Vec<String>),
    Failed(String),
}

impl Unmet {
    /// As a client is told it, of a tuple.
    pub(crate) fn on(&self, binding: &Binding, tuple: &str) -> String {
        let name = &binding.stored.name;
        let failed =
            format!("failed to evaluate relationship condition: '{name}' - tuple '{tuple}'");
        match self {
            Self::Missing(parameters) => {
                let parameters = parameters.join(" ");
                format!("{failed} is missing context parameters '[{parameters}]'")
            }
            Self::Failed(why) => format!("{failed}: {why}"),
        }
    }
}
