//! Tuples that are bound to a condition.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::ptr;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use imbl::shared_ptr::DefaultSharedPtr;
use meridian_condition::{Cast, Condition, Context, Outcome};
use meridian_model::TupleCondition;
use serde_json::Value as Json;

use crate::sets::Subject;

/// The conditioned members of a set, each with what it is bound to. Kept apart from the others, which are many more.
pub type Conditioned = imbl::GenericOrdMap<Subject, Arc<Binding>, DefaultSharedPtr>;

/// A condition as a tuple is bound to it, with what the tuple fixes parsed once.
#[derive(Debug)]
pub struct Binding {
    stored: TupleCondition,
    context: OnceLock<Context>,
    /// The tuple's own expression, compiled when it is first evaluated; why that fails is said each time.
    inline: OnceLock<Result<Condition, String>>,
}

/// What casting so many bytes of a context takes, in steps.
const CAST_A_STEP: usize = 16;
/// What compiling an expression takes at least, and for each byte of it.
const COMPILE: usize = 500;
const COMPILE_A_BYTE: usize = 4;

/// What evaluations bring to conditions.
pub(crate) struct Circumstances<'a> {
    /// Of the request.
    context: &'a Context,
    /// In cel-go's units.
    max_cost: u64,
    /// About how many bytes the context has.
    bytes: OnceCell<usize>,
    /// The context as conditions of the model take it, each by its address: these outlive the evaluation.
    cast: RefCell<BTreeMap<*const Condition, Rc<Cast<'a>>>>,
}

impl<'a> Circumstances<'a> {
    /// Circumstances of one request.
    pub(crate) fn new(context: &'a Context, max_cost: u64) -> Self {
        Self {
            context,
            max_cost,
            bytes: OnceCell::new(),
            cast: RefCell::default(),
        }
    }

    /// What the request brings to a condition of the model, cast once for all tuples that are bound to it, and how many bytes
    /// were cast for it now.
    fn cast(&self, condition: &Condition) -> (Rc<Cast<'a>>, usize) {
        let mut known = self.cast.borrow_mut();
        if let Some(cast) = known.get(&ptr::from_ref(condition)) {
            return (Rc::clone(cast), 0);
        }
        let cast = Rc::new(condition.cast(self.context));
        known.insert(ptr::from_ref(condition), Rc::clone(&cast));
        (cast, self.bytes())
    }

    fn bytes(&self) -> usize {
        let of = |(name, value): (&String, &Json)| name.len() + bytes_of(value);
        *self.bytes.get_or_init(|| self.context.iter().map(of).sum())
    }
}

/// About how many bytes a value has.
fn bytes_of(value: &Json) -> usize {
    match value {
        Json::String(text) => text.len(),
        Json::Array(values) => values.iter().map(bytes_of).sum(),
        Json::Object(inner) => inner
            .iter()
            .map(|(name, value)| name.len() + bytes_of(value))
            .sum(),
        _ => 0,
    }
    .saturating_add(size_of::<Json>())
}

impl Binding {
    /// What a tuple is bound to, parsed when it is first evaluated: of a request's many, most may never be.
    pub fn new(stored: TupleCondition) -> Self {
        Self {
            stored,
            context: OnceLock::new(),
            inline: OnceLock::new(),
        }
    }

    /// Parses it now, that of what is held for many requests none has to.
    #[must_use]
    pub fn parsed(self) -> Self {
        self.context();
        self
    }

    fn context(&self) -> &Context {
        self.context
            .get_or_init(|| self.stored.parse().unwrap_or_default())
    }

    /// As it is stored.
    pub fn stored(&self) -> &TupleCondition {
        &self.stored
    }

    /// Whether the condition is met, or why that cannot be said; and the work that took, in an evaluation's steps. `declared`
    /// is the model's of that name. What the tuple fixes goes before what the request brings.
    pub(crate) fn is_met(
        &self,
        declared: Option<&Condition>,
        around: &Circumstances<'_>,
    ) -> (Result<bool, Unmet>, u64) {
        let none = Context::new();
        let bytes = self.stored.context.len();
        let (condition, asked, fixed, steps) = match declared {
            Some(declared) => {
                let (asked, cast) = around.cast(declared);
                (
                    declared,
                    asked,
                    self.context(),
                    (bytes + cast) / CAST_A_STEP,
                )
            }
            None => {
                let mut steps = 0;
                let condition = match self.inline(&mut steps) {
                    Ok(condition) => condition,
                    Err(why) => return (Err(Unmet::Failed(why)), steps as u64),
                };
                // As upstream, which gives an inline condition without parameters nothing of the request.
                let has_parameters = condition.parameters().next().is_some();
                let (asked, cast) = if has_parameters {
                    (around.context, around.bytes())
                } else {
                    (&none, 0)
                };
                // The tuple's context is the expression itself.
                let asked = Rc::new(condition.cast(asked));
                (condition, asked, &none, steps + cast / CAST_A_STEP)
            }
        };
        let evaluated = condition.evaluate(&asked, fixed, around.max_cost);
        let met = match evaluated.outcome {
            Ok(Outcome::Decided { met, .. }) => Ok(met),
            Ok(Outcome::Missing { parameters, more }) => Err(Unmet::Missing { parameters, more }),
            Err(why) => Err(Unmet::Failed(why.to_string())),
        };
        (met, evaluated.work.saturating_add(steps as u64))
    }

    /// The tuple's own expression. `steps` are what compiling it takes, where that is done now.
    fn inline(&self, steps: &mut usize) -> Result<&Condition, String> {
        if *self.stored.name != *Condition::INLINE {
            return Err("condition was not found".to_owned());
        }
        let compile = || {
            *steps = COMPILE + COMPILE_A_BYTE * self.stored.context.len();
            Condition::inline(self.context()).map_err(|why| why.to_string())
        };
        self.inline
            .get_or_init(compile)
            .as_ref()
            .map_err(Clone::clone)
    }
}

/// Why a condition has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unmet {
    /// The first parameters without a value, and how many there are besides.
    Missing {
        parameters: Vec<String>,
        more: usize,
    },
    Failed(String),
}

impl Unmet {
    /// As a client is told it, of a tuple.
    pub(crate) fn on(&self, binding: &Binding, tuple: &str) -> String {
        let name = &binding.stored.name;
        let failed =
            format!("failed to evaluate relationship condition: '{name}' - tuple '{tuple}'");
        match self {
            Self::Missing { parameters, more } => {
                let parameters = parameters.join(" ");
                let more = match more {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                format!("{failed} is missing context parameters '[{parameters}]'{more}")
            }
            Self::Failed(why) => format!("{failed}: {why}"),
        }
    }
}
