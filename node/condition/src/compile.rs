//! Checks an expression's types as cel-go's checker does, and makes its plan.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::rc::Rc;

use crate::ast::{ACCUMULATOR, Call, Expr, Fold, Kind, Select};
use crate::error::{Fault, short};
use crate::function::{Cost, Function, Overload, Sign, type_named};
use crate::parameter::ParameterType;
use crate::plan::{self, Node, Op, Source};
use crate::types::{Bindings, Type};
use crate::value::{Text, Value};

/// The longest type shown in an error, in bytes.
const MAX_SHOWN: usize = 200;

/// The plan of an expression and its type.
///
/// # Errors
/// The first thing that is undeclared or does not fit.
pub(crate) fn compile(
    expr: Expr,
    parameters: &BTreeMap<Box<str>, ParameterType>,
) -> Result<(Node, Type), Fault> {
    let mut compiler = Compiler {
        parameters,
        bindings: Bindings::default(),
        scopes: Vec::new(),
        cross: false,
    };
    let (node, found) = compiler.expr(expr)?;
    let found = compiler.bindings.substitute(&found, true);
    compiler.bounded(0)?;
    Ok((node, found))
}

type Compiled = Result<(Node, Type), Fault>;

struct Compiler<'p> {
    parameters: &'p BTreeMap<Box<str>, ParameterType>,
    bindings: Bindings,
    scopes: Vec<Scope>,
    /// Whether numbers of different types can be compared. cel-go loses the setting that forbids it at the first
    /// comprehension it comes upon.
    cross: bool,
}

/// The variables of a comprehension.
struct Scope {
    var: String,
    item: Type,
    gathered: Type,
    /// Whether the variable is visible: not in the result.
    in_loop: bool,
}

impl Compiler<'_> {
    fn expr(&mut self, expr: Expr) -> Compiled {
        self.bounded(expr.at)?;
        let Expr { id, at, kind } = expr;
        match kind {
            Kind::Literal(value) => {
                let found = literal_type(&value);
                Ok((Node::constant(id, value), found))
            }
            Kind::Ident(name) => match self.ident(&name) {
                Some((found, Named::Variable(source))) => {
                    self.variable(id, at, &name, found, source)
                }
                Some((found, Named::Type(name))) => {
                    Ok((Node::constant(id, Value::Type(name)), found))
                }
                None => Err(undeclared(at, &name)),
            },
            Kind::Select(select) => self.select(id, at, *select),
            Kind::Call(call) => self.call(id, at, *call),
            Kind::List(items) => self.list(id, items),
            Kind::Map(entries) => self.map(id, at, entries),
            Kind::Fold(fold) => self.fold(id, *fold),
        }
    }

    fn bounded(&self, at: usize) -> Result<(), Fault> {
        if self.bindings.is_exhausted() {
            return Err(Fault::new(
                at,
                "the expression's types are too complex; simplify it",
            ));
        }
        Ok(())
    }

    fn ident(&self, name: &str) -> Option<(Type, Named)> {
        for (depth, scope) in self.scopes.iter().enumerate().rev() {
            if name == ACCUMULATOR {
                return Some((
                    scope.gathered.clone(),
                    Named::Variable(Source::Accumulator(depth)),
                ));
            }
            if scope.in_loop && scope.var == name {
                return Some((scope.item.clone(), Named::Variable(Source::Item(depth))));
            }
        }
        self.global(name.strip_prefix('.').unwrap_or(name))
    }

    fn global(&self, name: &str) -> Option<(Type, Named)> {
        let parameter = self
            .parameters
            .iter()
            .enumerate()
            .find(|(_, (known, _))| &***known == name);
        if let Some((at, (_, declared))) = parameter {
            return Some((declared.to_cel(), Named::Variable(Source::Parameter(at))));
        }
        let name = type_named(name)?;
        Some((Type::Meta(Rc::new(type_of_name(name))), Named::Type(name)))
    }

    /// A variable that holds a type is taken for the type of its name.
    fn variable(
        &mut self,
        id: u32,
        at: usize,
        name: &str,
        found: Type,
        source: Source,
    ) -> Compiled {
        if !matches!(self.bindings.substitute(&found, true), Type::Meta(_)) {
            return Ok((Node::variable(id, source), found));
        }
        match type_named(name) {
            Some(name) => Ok((Node::constant(id, Value::Type(name)), found)),
            None => Err(Fault::new(
                at,
                format!("reference to undefined type: {name}"),
            )),
        }
    }

    fn select(&mut self, id: u32, at: usize, select: Select) -> Compiled {
        if let Some((found, named)) = self.qualified(&select) {
            let node = match named {
                Named::Variable(source) => Node::variable(id, source),
                Named::Type(name) => Node::constant(id, Value::Type(name)),
            };
            return Ok((node, found));
        }
        let (operand, found) = self.expr(select.operand)?;
        let found = match self.bindings.substitute(&found, false) {
            Type::Map(entry) => entry.1.clone(),
            Type::Var(var) => {
                self.bindings.assign(&Type::Dyn, &Type::Var(var));
                Type::Dyn
            }
            found if found.is_dyn() => Type::Dyn,
            found => {
                let message = format!("type '{}' does not support field selection", shown(&found));
                return Err(Fault::new(at, message));
            }
        };
        let found = if select.test {
            Type::Bool
        } else {
            self.bindings.substitute(&found, false)
        };
        let field = Value::Text(Text::Shared(select.field.into()));
        Ok((operand.select(id, field, select.test), found))
    }

    /// What a dotted name stands for as a whole: a parameter with dots in its name, or a type.
    fn qualified(&self, select: &Select) -> Option<(Type, Named)> {
        let mut names = vec![&*select.field];
        let (mut select, mut test) = (select, select.test);
        let first = loop {
            match &select.operand.kind {
                Kind::Select(operand) if !test => {
                    names.push(&operand.field);
                    test = operand.test;
                    select = operand;
                }
                Kind::Ident(first) if !test => break first,
                _ => return None,
            }
        };
        if self
            .scopes
            .iter()
            .any(|scope| scope.in_loop && scope.var == *first)
        {
            return None;
        }
        names.push(first.strip_prefix('.').unwrap_or(first));
        names.reverse();
        self.global(&names.join("."))
    }

    fn call(&mut self, id: u32, at: usize, call: Call) -> Compiled {
        let member = call.target.is_some();
        let name = if member {
            &*call.name
        } else {
            call.name.strip_prefix('.').unwrap_or(&call.name)
        };
        let (mut nodes, mut types) = (Vec::new(), Vec::new());
        // Arguments first, as in cel-go: comprehensions in them change what the receiver may compare.
        for arg in call.args.into_iter().chain(call.target) {
            let (node, found) = self.expr(arg)?;
            nodes.push(node);
            types.push(found);
        }
        if member {
            nodes.rotate_right(1);
            types.rotate_right(1);
        }
        let function = Function::named(name).ok_or_else(|| undeclared(at, &call.name))?;
        let (found, cost) = self.resolve(at, name, function, member, &types)?;
        let node = Node::call(id, function, cost, nodes).map_err(|error| Fault::new(at, error))?;
        Ok((node, found))
    }

    /// The type of a call's value, and its cost.
    fn resolve(
        &mut self,
        at: usize,
        name: &str,
        function: Function,
        member: bool,
        args: &[Type],
    ) -> Result<(Type, Cost), Fault> {
        if matches!(function, Function::And | Function::Or) {
            for arg in args {
                self.expect(at, arg, &Type::Bool)?;
            }
            return Ok((Type::Bool, Cost::One));
        }
        let mut found: Option<(Type, Cost)> = None;
        for overload in function.overloads() {
            let style = overload.member == member && overload.args.len() == args.len();
            if !style || overload.cross && !self.cross {
                continue;
            }
            let Some(result) = self.matches(overload, args) else {
                continue;
            };
            found = Some(match found {
                None => (result, overload.cost),
                Some((first, _)) if first.is_dyn() || self.bindings.is_same(&result, &first) => {
                    (first, Cost::One)
                }
                Some(_) => (Type::Dyn, Cost::One),
            });
        }
        found.ok_or_else(|| {
            let args: Vec<Type> = args
                .iter()
                .map(|arg| self.bindings.substitute(arg, true))
                .collect();
            no_overload(at, name, member, &args)
        })
    }

    /// The overload's result, if it takes the arguments.
    fn matches(&mut self, overload: &Overload, args: &[Type]) -> Option<Type> {
        let generic = |sign: &Sign| {
            matches!(
                sign,
                Sign::A | Sign::B | Sign::ListA | Sign::MapAB | Sign::TypeA
            )
        };
        let vars = if overload.args.iter().any(generic) {
            [self.bindings.fresh(), self.bindings.fresh()]
        } else {
            [Type::Dyn, Type::Dyn]
        };
        let wanted: Vec<Type> = overload
            .args
            .iter()
            .map(|sign| instance(*sign, &vars))
            .collect();
        if !self.bindings.assign_all(args.iter().zip(&wanted)) {
            return None;
        }
        Some(
            self.bindings
                .substitute(&instance(overload.result, &vars), false),
        )
    }

    fn expect(&mut self, at: usize, found: &Type, wanted: &Type) -> Result<(), Fault> {
        if self.bindings.assign(found, wanted) {
            return Ok(());
        }
        Err(Fault::new(
            at,
            format!(
                "expected type '{}' but found '{}'",
                shown(wanted),
                shown(found)
            ),
        ))
    }

    /// The type of a list's elements so far, joined with that of one more.
    fn join(&mut self, so_far: Option<Type>, next: Type) -> Option<Type> {
        Some(match so_far {
            None => next,
            Some(so_far) if self.bindings.assign(&so_far, &next) => {
                self.bindings.most_general(&so_far, &next)
            }
            Some(_) => Type::Dyn,
        })
    }

    fn list(&mut self, id: u32, items: Vec<Expr>) -> Compiled {
        let (mut nodes, mut element) = (Vec::with_capacity(items.len()), None);
        for item in items {
            let (node, found) = self.expr(item)?;
            nodes.push(node);
            element = self.join(element, found);
        }
        let element = element.unwrap_or_else(|| self.bindings.fresh());
        Ok((Node::list(id, nodes), Type::list(element)))
    }

    fn map(&mut self, id: u32, at: usize, entries: Vec<(Expr, Expr)>) -> Compiled {
        let (mut nodes, mut key, mut value) = (Vec::with_capacity(entries.len()), None, None);
        for (key_expr, value_expr) in entries {
            let (key_node, found) = self.expr(key_expr)?;
            key = self.join(key, found);
            let (value_node, found) = self.expr(value_expr)?;
            value = self.join(value, found);
            nodes.push((key_node, value_node));
        }
        let key = key.unwrap_or_else(|| self.bindings.fresh());
        let value = value.unwrap_or_else(|| self.bindings.fresh());
        let node = Node::map(id, nodes).map_err(|error| Fault::new(at, error))?;
        Ok((node, Type::map(key, value)))
    }

    fn fold(&mut self, id: u32, fold: Fold) -> Compiled {
        let (range_at, condition_at, step_at) = (fold.range.at, fold.condition.at, fold.step.at);
        let (range, range_type) = self.expr(fold.range)?;
        let (init, gathered) = self.expr(fold.init)?;
        self.cross = true;
        let item = match self.bindings.substitute(&range_type, false) {
            Type::List(element) => (*element).clone(),
            Type::Map(entry) => entry.0.clone(),
            Type::Var(var) => {
                self.bindings.assign(&Type::Dyn, &Type::Var(var));
                Type::Dyn
            }
            Type::Dyn => Type::Dyn,
            range => {
                let message = format!(
                    "expression of type '{}' cannot be range of a comprehension (must be list, map, or dynamic)",
                    shown(&range)
                );
                return Err(Fault::new(range_at, message));
            }
        };
        self.scopes.push(Scope {
            var: fold.var,
            item,
            gathered: gathered.clone(),
            in_loop: true,
        });
        let (condition, found) = self.expr(fold.condition)?;
        self.expect(condition_at, &Type::Bool, &found)?;
        let (step, found) = self.expr(fold.step)?;
        self.expect(step_at, &gathered, &found)?;
        if let Some(scope) = self.scopes.last_mut() {
            scope.in_loop = false;
        }
        let (result, found) = self.expr(fold.result)?;
        self.scopes.pop();
        let found = self.bindings.substitute(&found, false);
        let fold = plan::Fold {
            range,
            init,
            condition,
            step,
            result,
        };
        Ok((Node::new(id, Op::Fold(Box::new(fold))), found))
    }
}

/// What a name stands for.
enum Named {
    Variable(Source),
    Type(&'static str),
}

fn literal_type(value: &Value<'_>) -> Type {
    match value {
        Value::Bool(_) => Type::Bool,
        Value::Int(_) => Type::Int,
        Value::Uint(_) => Type::Uint,
        Value::Double(_) => Type::Double,
        Value::Text(_) => Type::String,
        Value::Bytes(_) => Type::Bytes,
        _ => Type::Null,
    }
}

fn type_of_name(name: &str) -> Type {
    match name {
        "bool" => Type::Bool,
        "bytes" => Type::Bytes,
        "double" => Type::Double,
        "int" => Type::Int,
        "list" => Type::list(Type::Dyn),
        "map" => Type::map(Type::Dyn, Type::Dyn),
        "null_type" => Type::Null,
        "string" => Type::String,
        "uint" => Type::Uint,
        "google.protobuf.Duration" => Type::Duration,
        "google.protobuf.Timestamp" => Type::Timestamp,
        _ => Type::Meta(Rc::new(Type::Dyn)),
    }
}

fn instance(sign: Sign, vars: &[Type; 2]) -> Type {
    let [a, b] = vars;
    match sign {
        Sign::Bool => Type::Bool,
        Sign::Int => Type::Int,
        Sign::Uint => Type::Uint,
        Sign::Double => Type::Double,
        Sign::Text => Type::String,
        Sign::Bytes => Type::Bytes,
        Sign::Duration => Type::Duration,
        Sign::Timestamp => Type::Timestamp,
        Sign::Ip => Type::Ip,
        Sign::Dyn => Type::Dyn,
        Sign::A => a.clone(),
        Sign::B => b.clone(),
        Sign::ListA => Type::list(a.clone()),
        Sign::MapAB => Type::map(a.clone(), b.clone()),
        Sign::TypeA => Type::Meta(Rc::new(a.clone())),
    }
}

fn undeclared(at: usize, name: &str) -> Fault {
    Fault::new(
        at,
        format!(
            "undeclared reference to '{}' (in container '')",
            short(name)
        ),
    )
}

fn no_overload(at: usize, name: &str, member: bool, args: &[Type]) -> Fault {
    let (target, args) = args.split_at(usize::from(member).min(args.len()));
    let target: String = target
        .iter()
        .map(|target| format!("{}.", shown(target)))
        .collect();
    let args: Vec<String> = args.iter().map(shown).collect();
    Fault::new(
        at,
        format!(
            "found no matching overload for '{name}' applied to '{target}({})'",
            args.join(", ")
        ),
    )
}

/// A type as a text; its beginning where it is long, for types can be far longer than expressions.
pub(crate) fn shown(t: &Type) -> String {
    struct Short(String);
    impl std::fmt::Write for Short {
        fn write_str(&mut self, part: &str) -> std::fmt::Result {
            if self.0.len() + part.len() > MAX_SHOWN {
                return Err(std::fmt::Error);
            }
            self.0.push_str(part);
            Ok(())
        }
    }
    let mut short = Short(String::new());
    if write!(short, "{t}").is_err() {
        short.0.push('…');
    }
    short.0
}
