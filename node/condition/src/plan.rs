//! What is evaluated: the checked tree in the form in which cel-go plans it.
//!
//! The shape matters beyond speed, for costs are counted by it. A variable with all the selections and indices after
//! it is one [`Attr`], and the branches of a conditional are attributes of it, whose own cost is not counted. Constant
//! lists, maps and conversions are made once and cost nothing from then on.

use std::sync::Arc;

use regex::Regex;

use crate::builtin;
use crate::function::{Cost, Function};
use crate::pattern;
use crate::value::{List, Map, Value};

/// A node of the plan.
#[derive(Debug)]
pub(crate) struct Node {
    id: u32,
    pub(crate) op: Op,
}

#[derive(Debug)]
pub(crate) enum Op {
    Const(Value<'static>),
    Attr(Attr),
    /// `&&`, or `||` where `any`.
    Logic {
        any: bool,
        terms: Box<[Node; 2]>,
    },
    Call(Box<Call>),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
    /// `in` a constant list of scalars; its elements are the map's keys.
    InSet(Box<Node>, Map<'static>),
    Fold(Box<Fold>),
}

#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) function: Function,
    pub(crate) cost: Cost,
    pub(crate) args: Vec<Node>,
    /// The pattern of `matches` where it is constant.
    pub(crate) pattern: Option<Regex>,
}

#[derive(Debug)]
pub(crate) struct Fold {
    pub(crate) range: Node,
    pub(crate) init: Node,
    pub(crate) condition: Node,
    pub(crate) step: Node,
    pub(crate) result: Node,
}

/// Something with what is selected of it.
#[derive(Debug)]
pub(crate) enum Attr {
    Path {
        id: u32,
        source: Source,
        qualifiers: Vec<Arc<Qualifier>>,
    },
    Choice {
        id: u32,
        condition: Box<Node>,
        branches: Box<[Attr; 2]>,
    },
}

/// Where an attribute begins.
#[derive(Debug)]
pub(crate) enum Source {
    /// A parameter, by its place.
    Parameter(usize),
    /// The element of the comprehension at this depth.
    Item(usize),
    /// What the comprehension at this depth has gathered.
    Accumulator(usize),
    Node(Box<Node>),
}

/// One selection.
#[derive(Debug)]
pub(crate) struct Qualifier {
    pub(crate) id: u32,
    pub(crate) key: Key,
}

#[derive(Debug)]
pub(crate) enum Key {
    Const(Value<'static>),
    /// Asks whether the field is there.
    Test(Value<'static>),
    Attr(Attr),
    Node(Node),
}

impl Attr {
    /// The number its value goes by: that of the last selection.
    pub(crate) fn id(&self) -> u32 {
        match self {
            Attr::Path { id, qualifiers, .. } => qualifiers.last().map_or(*id, |last| last.id),
            Attr::Choice { id, branches, .. } => {
                let [truthy, falsy] = &**branches;
                if truthy.id() == falsy.id() {
                    truthy.id()
                } else {
                    *id
                }
            }
        }
    }

    fn qualify(&mut self, qualifier: &Arc<Qualifier>) {
        match self {
            Attr::Path { qualifiers, .. } => qualifiers.push(Arc::clone(qualifier)),
            Attr::Choice { branches, .. } => {
                branches
                    .iter_mut()
                    .for_each(|branch| branch.qualify(qualifier));
            }
        }
    }
}

impl Node {
    pub(crate) fn new(id: u32, op: Op) -> Self {
        Self { id, op }
    }

    pub(crate) fn constant(id: u32, value: Value<'static>) -> Self {
        Self::new(id, Op::Const(value))
    }

    pub(crate) fn variable(id: u32, source: Source) -> Self {
        Self::new(
            id,
            Op::Attr(Attr::Path {
                id,
                source,
                qualifiers: Vec::new(),
            }),
        )
    }

    /// The number its value goes by.
    pub(crate) fn id(&self) -> u32 {
        match &self.op {
            Op::Attr(attr) => attr.id(),
            _ => self.id,
        }
    }

    fn value(&self) -> Option<&Value<'static>> {
        match &self.op {
            Op::Const(value) => Some(value),
            _ => None,
        }
    }

    fn into_attr(self) -> Attr {
        match self.op {
            Op::Attr(attr) => attr,
            _ => Attr::Path {
                id: self.id,
                source: Source::Node(Box::new(self)),
                qualifiers: Vec::new(),
            },
        }
    }

    fn qualified(self, id: u32, key: Key) -> Self {
        let mut attr = self.into_attr();
        attr.qualify(&Arc::new(Qualifier { id, key }));
        Self::new(id, Op::Attr(attr))
    }

    /// `self.field`, or with `test` the question whether it is there.
    pub(crate) fn select(self, id: u32, field: Value<'static>, test: bool) -> Self {
        self.qualified(
            id,
            if test {
                Key::Test(field)
            } else {
                Key::Const(field)
            },
        )
    }

    /// A list literal.
    pub(crate) fn list(id: u32, items: Vec<Node>) -> Self {
        match items
            .iter()
            .map(|item| item.value().cloned())
            .collect::<Option<Vec<_>>>()
        {
            Some(values) => Self::constant(id, Value::List(List::new(values))),
            None => Self::new(id, Op::List(items)),
        }
    }

    /// A map literal.
    ///
    /// # Errors
    /// A key that is no key.
    pub(crate) fn map(id: u32, entries: Vec<(Node, Node)>) -> Result<Self, String> {
        let constant =
            |(key, value): &(Node, Node)| Some((key.value()?.clone(), value.value()?.clone()));
        match entries.iter().map(constant).collect::<Option<Vec<_>>>() {
            Some(values) => builtin::map(values).map(|map| Self::constant(id, map)),
            None => Ok(Self::new(id, Op::Map(entries))),
        }
    }

    /// A call of a function or operator, specialized where it can be.
    ///
    /// # Errors
    /// A constant argument that the function does not take.
    pub(crate) fn call(
        id: u32,
        function: Function,
        cost: Cost,
        args: Vec<Node>,
    ) -> Result<Self, String> {
        let mut call = Call {
            function,
            cost,
            args,
            pattern: None,
        };
        match (function, &mut *call.args) {
            (Function::And | Function::Or, _) => return logic(id, call),
            (Function::Conditional, _) => return choice(id, call),
            (Function::Index, _) => return index(id, call),
            (Function::In, [_, list]) if cost == Cost::InList => {
                if let Some(Value::List(list)) = list.value() {
                    if list.len() == 0 {
                        return Ok(Self::constant(id, Value::Bool(false)));
                    }
                    if let Some(set) = set(list) {
                        call.args.truncate(1);
                        return take(call.args.pop(), |arg| {
                            Self::new(id, Op::InSet(Box::new(arg), set))
                        });
                    }
                }
            }
            (Function::Matches, [_, pattern]) => {
                if let Some(Value::Text(pattern)) = pattern.value() {
                    call.pattern = Some(pattern::compile(pattern.as_str(), pattern::MAX_CONSTANT)?);
                }
            }
            (_, [arg]) if function.is_conversion() => {
                if let Some(value) = arg.value() {
                    return builtin::apply(function, value.clone(), None, None)
                        .map(|value| Self::constant(id, value));
                }
            }
            _ => {}
        }
        Ok(Self::new(id, Op::Call(Box::new(call))))
    }
}

fn take<T>(found: Option<T>, make: impl FnOnce(T) -> Node) -> Result<Node, String> {
    found
        .map(make)
        .ok_or_else(|| "a call without its arguments".to_owned())
}

fn logic(id: u32, call: Call) -> Result<Node, String> {
    let any = call.function == Function::Or;
    take(call.args.try_into().ok(), |terms| {
        Node::new(
            id,
            Op::Logic {
                any,
                terms: Box::new(terms),
            },
        )
    })
}

fn choice(id: u32, call: Call) -> Result<Node, String> {
    take(
        <[Node; 3]>::try_from(call.args).ok(),
        |[condition, truthy, falsy]| {
            let branches = Box::new([truthy.into_attr(), falsy.into_attr()]);
            Node::new(
                id,
                Op::Attr(Attr::Choice {
                    id,
                    condition: Box::new(condition),
                    branches,
                }),
            )
        },
    )
}

fn index(id: u32, call: Call) -> Result<Node, String> {
    let [operand, index] =
        <[Node; 2]>::try_from(call.args).map_err(|_| "an index without its operand")?;
    let key = match index.op {
        Op::Const(key) if is_key(&key) => Key::Const(key),
        Op::Const(key) => return Err(format!("invalid qualifier type: {}", key.type_name())),
        Op::Attr(attr) => Key::Attr(attr),
        _ => Key::Node(index),
    };
    Ok(operand.qualified(id, key))
}

/// Whether a value can select from a list or map.
pub(crate) fn is_key(value: &Value<'_>) -> bool {
    matches!(
        value,
        Value::Text(_) | Value::Int(_) | Value::Uint(_) | Value::Bool(_) | Value::Double(_)
    )
}

/// The scalars of a list as keys, numbers as every type that holds them; `None` where others are among them.
fn set(list: &List<'static>) -> Option<Map<'static>> {
    let mut keys = Vec::new();
    for value in list.iter() {
        match &value {
            Value::Text(_) | Value::Bool(_) => {}
            Value::Int(i) => {
                keys.push(Value::Double(*i as f64));
                keys.extend(u64::try_from(*i).ok().map(Value::Uint));
            }
            Value::Uint(u) => {
                keys.push(Value::Double(*u as f64));
                keys.extend(i64::try_from(*u).ok().map(Value::Int));
            }
            Value::Double(d) => {
                keys.extend(builtin::int_of(*d).filter(|i| builtin::is_equal(i, &value)));
                keys.extend(builtin::uint_of(*d).filter(|u| builtin::is_equal(u, &value)));
            }
            _ => return None,
        }
        keys.push(value);
    }
    Some(Map::new(keys.into_iter().map(|key| (key, Value::Null))))
}
