//! Static types, and how type variables are bound while an expression is checked.

use std::fmt;
use std::rc::Rc;

/// A type as the checker knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Type {
    Dyn,
    /// Behaves as [`Type::Dyn`]; parameters of type `any`.
    Any,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Duration,
    Timestamp,
    Ip,
    /// The type of a type; what of is not compared.
    Meta(Rc<Type>),
    List(Rc<Type>),
    Map(Rc<(Type, Type)>),
    /// A type variable.
    Var(usize),
}

impl Type {
    pub(crate) fn list(element: Type) -> Self {
        Type::List(Rc::new(element))
    }

    pub(crate) fn map(key: Type, value: Type) -> Self {
        Type::Map(Rc::new((key, value)))
    }

    pub(crate) fn is_dyn(&self) -> bool {
        matches!(self, Type::Dyn | Type::Any)
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Type::Dyn => "dyn",
            Type::Any => "any",
            Type::Null => "null",
            Type::Bool => "bool",
            Type::Int => "int",
            Type::Uint => "uint",
            Type::Double => "double",
            Type::String => "string",
            Type::Bytes => "bytes",
            Type::Duration => "duration",
            Type::Timestamp => "timestamp",
            Type::Ip => "IPAddress",
            Type::Meta(of) => return write!(f, "type({of})"),
            Type::List(element) => return write!(f, "list({element})"),
            Type::Map(entry) => return write!(f, "map({}, {})", entry.0, entry.1),
            Type::Var(n) => return write!(f, "_var{n}"),
        })
    }
}

/// The bindings of type variables. What one attempt bound is taken back when it fails.
#[derive(Default)]
pub(crate) struct Bindings {
    vars: Vec<Option<Type>>,
    undo: Vec<(usize, Option<Type>)>,
    work: usize,
}

/// Steps that checking one expression may take. Types can grow exponentially with an expression's length.
const MAX_WORK: usize = 500_000;

impl Bindings {
    pub(crate) fn fresh(&mut self) -> Type {
        self.vars.push(None);
        Type::Var(self.vars.len() - 1)
    }

    /// Whether the expression took more steps than are allowed; answers are worthless from then on.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.work > MAX_WORK
    }

    /// Whether values of type `from` go where `to` is wanted; binds variables if so.
    pub(crate) fn assign(&mut self, from: &Type, to: &Type) -> bool {
        self.assign_all(std::iter::once((from, to)))
    }

    /// As [`Self::assign`], for all pairs or none.
    pub(crate) fn assign_all<'t>(
        &mut self,
        mut pairs: impl Iterator<Item = (&'t Type, &'t Type)>,
    ) -> bool {
        self.undo.clear();
        let assignable = pairs.all(|(from, to)| self.unify(from, to));
        if !assignable {
            while let Some((var, old)) = self.undo.pop() {
                if let Some(slot) = self.vars.get_mut(var) {
                    *slot = old;
                }
            }
        }
        assignable
    }

    /// `t` with its bound variables replaced, and the unbound ones by `dyn` if asked to.
    pub(crate) fn substitute(&mut self, t: &Type, to_dyn: bool) -> Type {
        self.work += 1;
        if self.is_exhausted() {
            return Type::Dyn;
        }
        match t {
            Type::Var(n) => match self.bound(*n) {
                Some(bound) => self.substitute(&bound, to_dyn),
                None if to_dyn => Type::Dyn,
                None => t.clone(),
            },
            Type::List(element) => Type::list(self.substitute(element, to_dyn)),
            Type::Map(entry) => {
                let key = self.substitute(&entry.0, to_dyn);
                Type::map(key, self.substitute(&entry.1, to_dyn))
            }
            Type::Meta(of) => Type::Meta(Rc::new(self.substitute(of, to_dyn))),
            t => t.clone(),
        }
    }

    fn bound(&self, var: usize) -> Option<Type> {
        self.vars.get(var).cloned().flatten()
    }

    fn bind(&mut self, var: usize, to: Type) {
        if let Some(slot) = self.vars.get_mut(var) {
            self.undo.push((var, slot.replace(to)));
        }
    }

    fn unify(&mut self, a: &Type, b: &Type) -> bool {
        self.work += 1;
        if self.is_exhausted() {
            return false;
        }
        if let Type::Var(var) = b {
            match self.try_bind(a, *var) {
                (true, _) => return true,
                (false, true) => return false,
                (false, false) => {}
            }
        }
        if let Type::Var(var) = a {
            return self.try_bind(b, *var).0;
        }
        match (a, b) {
            _ if a.is_dyn() || b.is_dyn() => true,
            (Type::Null, other) | (other, Type::Null) => {
                matches!(
                    other,
                    Type::Null | Type::Ip | Type::Duration | Type::Timestamp
                )
            }
            (Type::Meta(_), Type::Meta(_)) => true,
            (Type::List(a), Type::List(b)) => self.unify(a, b),
            (Type::Map(a), Type::Map(b)) => self.unify(&a.0, &b.0) && self.unify(&a.1, &b.1),
            _ => a == b,
        }
    }

    /// Whether `var` may stand for `t`, and whether it was bound before.
    fn try_bind(&mut self, t: &Type, var: usize) -> (bool, bool) {
        if *t == Type::Var(var) {
            return (true, true);
        }
        if let Some(bound) = self.bound(var) {
            if self.same(t, &bound) {
                return (true, true);
            }
            if !self.unify(t, &bound) {
                return (false, true);
            }
            let general = if self.less_specific(t, &bound) {
                t.clone()
            } else {
                bound
            };
            if !self.occurs(var, &general) {
                self.bind(var, general);
            }
            return (true, true);
        }
        let free = !self.occurs(var, t);
        if free {
            self.bind(var, t.clone());
        }
        (free, false)
    }

    fn same(&mut self, a: &Type, b: &Type) -> bool {
        self.work += 1;
        if self.is_exhausted() {
            return false;
        }
        match (a, b) {
            (Type::List(a), Type::List(b)) | (Type::Meta(a), Type::Meta(b)) => self.same(a, b),
            (Type::Map(a), Type::Map(b)) => self.same(&a.0, &b.0) && self.same(&a.1, &b.1),
            _ => a == b,
        }
    }

    /// Whether `a` equals `b` or is more general by a `dyn` or variable.
    fn less_specific(&mut self, a: &Type, b: &Type) -> bool {
        self.work += 1;
        if self.is_exhausted() {
            return false;
        }
        match (a, b) {
            (Type::Dyn | Type::Any | Type::Var(_), _) => true,
            (_, Type::Dyn | Type::Any | Type::Var(_)) => false,
            (Type::List(a), Type::List(b)) => self.less_specific(a, b),
            (Type::Map(a), Type::Map(b)) => {
                self.less_specific(&a.0, &b.0) && self.less_specific(&a.1, &b.1)
            }
            (Type::Meta(_), Type::Meta(_)) => true,
            _ => a == b,
        }
    }

    /// The more general of two types that unify.
    pub(crate) fn most_general(&mut self, a: &Type, b: &Type) -> Type {
        if self.less_specific(a, b) {
            a.clone()
        } else {
            b.clone()
        }
    }

    /// Whether two types are the same, variables by name.
    pub(crate) fn is_same(&mut self, a: &Type, b: &Type) -> bool {
        self.same(a, b)
    }

    fn occurs(&mut self, var: usize, within: &Type) -> bool {
        self.work += 1;
        if self.is_exhausted() {
            return true;
        }
        match within {
            Type::Var(n) if *n == var => true,
            Type::Var(n) => self.bound(*n).is_some_and(|bound| self.occurs(var, &bound)),
            Type::List(t) | Type::Meta(t) => self.occurs(var, t),
            Type::Map(entry) => self.occurs(var, &entry.0) || self.occurs(var, &entry.1),
            _ => false,
        }
    }
}
