//! Conditions as others see them.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use crate::ast::{ACCUMULATOR, Expr, Kind};
use crate::compile::{compile, shown};
use crate::error::{CompileError, ContextError, EvalError};
use crate::eval::{Stop, evaluate};
use crate::observer::Measured;
use crate::parameter::ParameterType;
use crate::parse::parse;
use crate::plan::Node;
use crate::types::Type;
use crate::value::Value;

/// Values of parameters by name: a JSON object.
pub type Context = serde_json::Map<String, Json>;

/// A condition, ready to be evaluated.
#[derive(Debug)]
pub struct Condition {
    name: Box<str>,
    parameters: BTreeMap<Box<str>, ParameterType>,
    plan: Node,
}

/// What an evaluation found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The condition is met, or it is not.
    Decided {
        /// Whether it is met.
        met: bool,
        /// What it took, in cel-go's units.
        cost: u64,
    },
    /// Parameters have no value. OpenFGA then has no answer, even where the expression could do without them.
    Missing {
        /// The first of them, at most 20.
        parameters: Vec<String>,
        /// How many there are besides.
        more: usize,
    },
}

/// How many parameters without a value are named: a model may declare tens of thousands.
const NAMED: usize = 20;

/// What a request brings, cast to one condition's parameters.
#[derive(Debug)]
pub struct Cast<'a> {
    is_empty: bool,
    /// By parameter, in their order.
    values: Vec<Option<Result<Value<'a>, ContextError>>>,
}

/// What came of an evaluation.
#[derive(Debug)]
pub struct Evaluated {
    /// What it found, or why there is no answer: a value is not of its parameter's type, an operation fails, or the
    /// evaluation costs more than it may.
    pub outcome: Result<Outcome, EvalError>,
    /// The work that it took, in steps that take about as long as visiting a set does: one for each declared parameter, and
    /// what the expression takes. Casting is not counted: who evaluates knows how large contexts are.
    pub work: u64,
}

impl Condition {
    /// The name of a condition that a tuple brings itself.
    pub const INLINE: &str = "$expression";

    /// Compiles an expression over parameters.
    ///
    /// # Errors
    /// [`CompileError`] where the expression is not CEL, its types do not fit, or its value is not a bool.
    pub fn compile(
        name: &str,
        expression: &str,
        parameters: impl IntoIterator<Item = (String, ParameterType)>,
    ) -> Result<Self, CompileError> {
        let measured = Measured::begin();
        let parsed =
            parse(expression).map_err(|fault| CompileError::of(name, expression, fault))?;
        let parameters = parameters
            .into_iter()
            .map(|(name, declared)| (name.into(), declared))
            .collect();
        Self::of_parsed(name, expression, parsed, parameters).inspect(|_| measured.compiled())
    }

    /// Compiles the expression in a tuple's own context: `{expression, parameters}`, the latter types by name. Names
    /// that the expression uses and `parameters` lacks are strings.
    ///
    /// # Errors
    /// [`CompileError`] where a field is malformed, or as from [`Self::compile`].
    pub fn inline(context: &Context) -> Result<Self, CompileError> {
        let measured = Measured::begin();
        let expression = context
            .get("expression")
            .and_then(Json::as_str)
            .filter(|text| !text.is_empty());
        let Some(expression) = expression else {
            return Err(CompileError::InlineField {
                field: "expression",
                wanted: "a non-empty string",
            });
        };
        let mut parameters = BTreeMap::new();
        match context.get("parameters") {
            None => {}
            Some(Json::Object(declared)) => {
                for (name, declared) in declared {
                    let declared = declared.as_str().unwrap_or_default().parse();
                    let declared = declared.map_err(|source| CompileError::InlineParameter {
                        parameter: name.clone(),
                        source,
                    })?;
                    parameters.insert(name.as_str().into(), declared);
                }
            }
            Some(_) => {
                let wanted = "a map from parameter names to type names";
                return Err(CompileError::InlineField {
                    field: "parameters",
                    wanted,
                });
            }
        }
        let parsed =
            parse(expression).map_err(|fault| CompileError::of(Self::INLINE, expression, fault))?;
        let mut names = Vec::new();
        free_names(&parsed, &mut Vec::new(), &mut names);
        for name in names {
            parameters
                .entry(name.into())
                .or_insert(ParameterType::String);
        }
        Self::of_parsed(Self::INLINE, expression, parsed, parameters)
            .inspect(|_| measured.compiled())
    }

    fn of_parsed(
        name: &str,
        expression: &str,
        parsed: Expr,
        parameters: BTreeMap<Box<str>, ParameterType>,
    ) -> Result<Self, CompileError> {
        let (plan, found) = compile(parsed, &parameters)
            .map_err(|fault| CompileError::of(name, expression, fault))?;
        if found != Type::Bool {
            return Err(CompileError::NotBool {
                condition: name.to_owned(),
                found: shown(&found),
            });
        }
        Ok(Self {
            name: name.into(),
            parameters,
            plan,
        })
    }

    /// The condition's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The parameters it declares, by name.
    pub fn parameters(&self) -> impl Iterator<Item = (&str, &ParameterType)> {
        self.parameters
            .iter()
            .map(|(name, declared)| (&**name, declared))
    }

    /// Casts what a request brings, for as many evaluations as it takes. Names that are no parameters are ignored. What is not
    /// of its parameter's type is told by the evaluations that need it.
    pub fn cast<'a>(&self, context: &'a Context) -> Cast<'a> {
        let cast = |(name, declared)| Some(self.cast_value(name, declared, context.get(name)?));
        Cast {
            is_empty: context.is_empty(),
            values: self.parameters().map(cast).collect(),
        }
    }

    /// Evaluates the condition with what it cast ([`Self::cast`]) and what a tuple fixes, which counts where both have a
    /// name. Names that are no parameters are ignored, unless there are no parameters at all.
    pub fn evaluate(&self, asked: &Cast<'_>, fixed: &Context, max_cost: u64) -> Evaluated {
        let measured = Measured::begin();
        let gathering = self.parameters.len() as u64;
        let values = match self.values(asked, fixed) {
            Ok(values) => values,
            Err(outcome) => {
                let work = gathering;
                return Evaluated { outcome, work };
            }
        };
        let condition = || self.name.to_string();
        let failed = |cause| EvalError::Failed {
            condition: condition(),
            cause,
        };
        let (value, work) = evaluate(&self.plan, &values, max_cost);
        let outcome = match value {
            Ok((Value::Bool(met), cost)) => {
                measured.evaluated(cost);
                Ok(Outcome::Decided { met, cost })
            }
            Ok((value, _)) => Err(failed(format!(
                "expected a bool, but got '{}'",
                value.type_name()
            ))),
            Err(Stop::Failed(cause)) => Err(failed(cause)),
            Err(Stop::TooCostly) => Err(EvalError::TooCostly {
                condition: condition(),
                limit: max_cost,
            }),
        };
        let work = work.saturating_add(gathering);
        Evaluated { outcome, work }
    }

    /// The value of each parameter; else what there is to say of those that have none.
    fn values<'a>(
        &self,
        asked: &Cast<'a>,
        fixed: &'a Context,
    ) -> Result<Vec<Value<'a>>, Result<Outcome, EvalError>> {
        self.takes(asked.is_empty && fixed.is_empty())
            .map_err(|why| Err(why.into()))?;
        let mut values = Vec::with_capacity(self.parameters.len());
        let (mut missing, mut more) = (Vec::new(), 0);
        for ((name, declared), asked) in self.parameters.iter().zip(&asked.values) {
            let fixed = fixed.get(&**name);
            let fixed = fixed.map(|json| self.cast_value(name, declared, json));
            match fixed.or_else(|| asked.clone()) {
                Some(value) => values.push(value.map_err(|why| Err(why.into()))?),
                None if missing.len() < NAMED => missing.push(name.to_string()),
                None => more += 1,
            }
        }
        if missing.is_empty() {
            Ok(values)
        } else {
            let parameters = missing;
            Err(Ok(Outcome::Missing { parameters, more }))
        }
    }

    /// Checks what a tuple fixes: all names are parameters, and all values of their types.
    ///
    /// # Errors
    /// [`ContextError`] naming the first key that is not.
    pub fn check_context(&self, context: &Context) -> Result<(), ContextError> {
        self.takes(context.is_empty())?;
        for (name, json) in context {
            match self.parameters.get(&**name) {
                Some(declared) => self.cast_value(name, declared, json)?,
                None => {
                    let condition = self.name.to_string();
                    return Err(ContextError::Undeclared {
                        condition,
                        parameter: name.clone(),
                    });
                }
            };
        }
        Ok(())
    }

    /// Without parameters it takes no values either.
    fn takes(&self, nothing: bool) -> Result<(), ContextError> {
        if self.parameters.is_empty() && !nothing {
            return Err(ContextError::NoParameters {
                condition: self.name.to_string(),
            });
        }
        Ok(())
    }

    fn cast_value<'a>(
        &self,
        name: &str,
        declared: &ParameterType,
        json: &'a Json,
    ) -> Result<Value<'a>, ContextError> {
        declared.cast(json).map_err(|cause| ContextError::Type {
            condition: self.name.to_string(),
            parameter: name.to_owned(),
            cause,
        })
    }
}

/// The names that an expression uses and no macro in it binds.
fn free_names<'e>(expr: &'e Expr, bound: &mut Vec<&'e str>, names: &mut Vec<&'e str>) {
    match &expr.kind {
        Kind::Literal(_) => {}
        Kind::Ident(name) if bound.contains(&&**name) => {}
        Kind::Ident(name) => names.push(name),
        Kind::Select(select) => free_names(&select.operand, bound, names),
        Kind::Call(call) => {
            call.target
                .iter()
                .chain(&call.args)
                .for_each(|expr| free_names(expr, bound, names));
        }
        Kind::List(items) => items.iter().for_each(|item| free_names(item, bound, names)),
        Kind::Map(entries) => {
            let parts = entries.iter().flat_map(|(key, value)| [key, value]);
            parts.for_each(|expr| free_names(expr, bound, names));
        }
        Kind::Fold(fold) => {
            free_names(&fold.range, bound, names);
            let outer = bound.len();
            bound.extend([&*fold.var, ACCUMULATOR]);
            for expr in [&fold.init, &fold.condition, &fold.step, &fold.result] {
                free_names(expr, bound, names);
            }
            bound.truncate(outer);
        }
    }
}
