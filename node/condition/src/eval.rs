//! Evaluates a plan.
//!
//! Errors are values until the end: `true || error` is true. Only an exceeded cost ends an evaluation at once.

use crate::builtin;
use crate::function::Function;
use crate::meter::{Exceeded, Meter};
use crate::plan::{Attr, Call, Fold, Key, Node, Op, Qualifier, Source, is_key};
use crate::value::{Map, Value};

/// Why there is no value.
pub(crate) enum Stop {
    Failed(String),
    TooCostly,
}

impl From<String> for Stop {
    fn from(message: String) -> Self {
        Stop::Failed(message)
    }
}

impl From<Exceeded> for Stop {
    fn from(_: Exceeded) -> Self {
        Stop::TooCostly
    }
}

type Evaluated<'a> = Result<Value<'a>, Stop>;

/// A computed pattern is compiled anew each time, which takes as long as so many steps.
const PATTERN: u64 = 500;
/// So much of values is measured in a step.
const MEASURED: u64 = 64;

/// Evaluates `node` with the values of all parameters; the value comes with its cost, and either comes with the work it
/// took.
///
/// # Errors
/// What failed, or that it cost more than `limit`.
pub(crate) fn evaluate<'a>(
    node: &Node,
    parameters: &[Value<'a>],
    limit: u64,
) -> (Result<(Value<'a>, u64), Stop>, u64) {
    let mut evaluator = Evaluator {
        parameters,
        folds: Vec::new(),
        meter: Meter::new(limit),
        patterns: 0,
    };
    let value = evaluator.eval(node);
    let (meter, patterns) = (&evaluator.meter, evaluator.patterns);
    let besides = patterns * PATTERN + meter.measured() / MEASURED;
    let work = meter.cost().saturating_add(besides);
    (value.map(|value| (value, meter.cost())), work)
}

struct Evaluator<'p, 'a> {
    parameters: &'p [Value<'a>],
    folds: Vec<Running<'p, 'a>>,
    meter: Meter,
    /// How many were compiled.
    patterns: u64,
}

/// A comprehension under way.
struct Running<'p, 'a> {
    fold: &'p Fold,
    item: Value<'a>,
    /// Made when it is first read.
    gathered: Option<Result<Value<'a>, String>>,
    /// Whether what is read is about to be replaced, so that it may be changed in place.
    stepping: bool,
}

/// The size of a value; an error measures 1.
fn size(evaluated: &Evaluated<'_>) -> u64 {
    evaluated.as_ref().map_or(1, Value::size)
}

impl<'p, 'a> Evaluator<'p, 'a> {
    fn eval(&mut self, node: &'p Node) -> Evaluated<'a> {
        let evaluated = match &node.op {
            Op::Const(value) => Ok(value.clone()),
            Op::Attr(attr) => self.attr(attr),
            Op::Logic { any, terms } => self.logic(*any, terms),
            Op::Call(call) => self.call(call),
            Op::List(items) => self.list(items),
            Op::Map(entries) => self.map(entries),
            Op::InSet(arg, set) => self.in_set(arg, set),
            Op::Fold(fold) => self.fold(fold),
        };
        if !matches!(evaluated, Err(Stop::TooCostly)) {
            self.meter.observe(node, size(&evaluated))?;
        }
        evaluated
    }

    fn attr(&mut self, attr: &'p Attr) -> Evaluated<'a> {
        match attr {
            Attr::Path {
                source, qualifiers, ..
            } => {
                let mut value = self.source(source)?;
                for qualifier in qualifiers {
                    value = self.select(&value, qualifier)?;
                }
                Ok(value)
            }
            Attr::Choice {
                condition,
                branches,
                ..
            } => {
                let [truthy, falsy] = &**branches;
                match self.eval(condition)? {
                    Value::Bool(true) => self.attr(truthy),
                    Value::Bool(false) => self.attr(falsy),
                    _ => Err("no such overload".to_owned().into()),
                }
            }
        }
    }

    fn source(&mut self, source: &'p Source) -> Evaluated<'a> {
        let missing = || "no such attribute".to_owned().into();
        match source {
            Source::Parameter(at) => self.parameters.get(*at).cloned().ok_or_else(missing),
            Source::Item(depth) => self
                .folds
                .get(*depth)
                .map(|fold| fold.item.clone())
                .ok_or_else(missing),
            Source::Accumulator(depth) => self.gathered(*depth),
            Source::Node(node) => self.eval(node),
        }
    }

    fn gathered(&mut self, depth: usize) -> Evaluated<'a> {
        let missing = || Stop::Failed("no such attribute".to_owned());
        let fold = self.folds.get(depth).ok_or_else(missing)?;
        if fold.gathered.is_none() {
            let init = self.eval(&fold.fold.init)?;
            self.folds.get_mut(depth).ok_or_else(missing)?.gathered = Some(Ok(init));
        }
        let fold = self.folds.get_mut(depth).ok_or_else(missing)?;
        let gathered = if fold.stepping {
            fold.gathered.take()
        } else {
            fold.gathered.clone()
        };
        gathered.ok_or_else(missing)?.map_err(Stop::Failed)
    }

    fn select(&mut self, value: &Value<'a>, qualifier: &'p Qualifier) -> Evaluated<'a> {
        let selected = self.selected(value, &qualifier.key);
        if !matches!(selected, Err(Stop::TooCostly)) {
            let computed = matches!(qualifier.key, Key::Node(_));
            self.meter
                .observe_selection(qualifier.id, computed, size(&selected))?;
        }
        selected
    }

    fn selected(&mut self, value: &Value<'a>, key: &'p Key) -> Evaluated<'a> {
        let key = match key {
            Key::Const(key) => return Ok(builtin::select(value, key)?),
            Key::Test(key) => return Ok(builtin::has(value, key)?),
            Key::Attr(attr) => self.attr(attr)?,
            Key::Node(node) => self.eval(node)?,
        };
        if !is_key(&key) {
            return Err(format!("invalid qualifier type: {}", key.type_name()).into());
        }
        Ok(builtin::select(value, &key)?)
    }

    /// The first error counts, unless a later term decides.
    fn logic(&mut self, any: bool, terms: &'p [Node; 2]) -> Evaluated<'a> {
        let mut failure = None;
        for term in terms {
            match self.eval(term) {
                Ok(Value::Bool(value)) if value == any => return Ok(Value::Bool(any)),
                Ok(Value::Bool(_)) => {}
                Ok(_) => failure = failure.or_else(|| Some("no such overload".to_owned())),
                Err(Stop::Failed(message)) => failure = failure.or(Some(message)),
                Err(Stop::TooCostly) => return Err(Stop::TooCostly),
            }
        }
        failure.map_or(Ok(Value::Bool(!any)), |message| Err(Stop::Failed(message)))
    }

    fn call(&mut self, call: &'p Call) -> Evaluated<'a> {
        let mut args = call.args.iter();
        let missing = || Stop::Failed("a call without arguments".to_owned());
        let first_arg = args.next().ok_or_else(missing)?;
        let first = match (call.function, self.eval(first_arg)) {
            (Function::NotStrictlyFalse, Ok(Value::Bool(value))) => return Ok(Value::Bool(value)),
            (Function::NotStrictlyFalse, Ok(_) | Err(Stop::Failed(_))) => {
                return Ok(Value::Bool(true));
            }
            (_, first) => first?,
        };
        let second = args.next().map(|arg| self.eval(arg)).transpose()?;
        let second_size = second.as_ref().map_or(1, Value::size);
        self.meter.allows(call.cost, first.size(), second_size)?;
        self.patterns += u64::from(call.function == Function::Matches && call.pattern.is_none());
        match (first, second) {
            (Value::List(first), Some(Value::List(second)))
                if gathers(call.function, first_arg) =>
            {
                Ok(Value::List(first.gather(second)))
            }
            (first, second) => Ok(builtin::apply(
                call.function,
                first,
                second,
                call.pattern.as_ref(),
            )?),
        }
    }

    fn list(&mut self, items: &'p [Node]) -> Evaluated<'a> {
        let items = items
            .iter()
            .map(|item| self.eval(item))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Value::List(crate::value::List::new(items)))
    }

    fn map(&mut self, entries: &'p [(Node, Node)]) -> Evaluated<'a> {
        let entries = entries
            .iter()
            .map(|(key, value)| Ok((self.eval(key)?, self.eval(value)?)));
        Ok(builtin::map(entries.collect::<Result<Vec<_>, Stop>>()?)?)
    }

    fn in_set(&mut self, arg: &'p Node, set: &Map<'static>) -> Evaluated<'a> {
        let value = self.eval(arg)?;
        Ok(builtin::in_set(set, &value)?)
    }

    fn fold(&mut self, fold: &'p Fold) -> Evaluated<'a> {
        let range = self.eval(&fold.range)?;
        self.folds.push(Running {
            fold,
            item: Value::Null,
            gathered: None,
            stepping: false,
        });
        let looped = match &range {
            Value::List(list) => self.repeat(fold, list.iter()),
            Value::Map(map) => self.repeat(fold, map.keys()),
            range => Err(format!("got '{}', expected iterable type", range.type_name()).into()),
        };
        let result = looped.and_then(|()| self.eval(&fold.result));
        self.folds.pop();
        result
    }

    fn repeat(
        &mut self,
        fold: &'p Fold,
        items: impl Iterator<Item = Value<'a>>,
    ) -> Result<(), Stop> {
        for item in items {
            if let Some(running) = self.folds.last_mut() {
                running.item = item;
            }
            match self.eval(&fold.condition) {
                Ok(Value::Bool(false)) => break,
                Err(Stop::TooCostly) => return Err(Stop::TooCostly),
                _ => {}
            }
            self.set_stepping(true);
            let gathered = match self.eval(&fold.step) {
                Ok(value) => Ok(value),
                Err(Stop::Failed(message)) => Err(message),
                Err(Stop::TooCostly) => return Err(Stop::TooCostly),
            };
            self.set_stepping(false);
            if let Some(running) = self.folds.last_mut() {
                running.gathered = Some(gathered);
            }
        }
        Ok(())
    }

    fn set_stepping(&mut self, stepping: bool) {
        if let Some(running) = self.folds.last_mut() {
            running.stepping = stepping;
        }
    }
}

/// Whether a call adds to what a comprehension has gathered.
fn gathers(function: Function, first: &Node) -> bool {
    let accumulator = matches!(
        &first.op,
        Op::Attr(Attr::Path {
            source: Source::Accumulator(_),
            ..
        })
    );
    function == Function::Add && accumulator
}
