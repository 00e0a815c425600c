//! The macros `has`, `all`, `exists`, `exists_one`, `map` and `filter`.

use crate::ast::{ACCUMULATOR, Call, Expr, Fold, Kind, Select};
use crate::error::Fault;
use crate::parse::Parser;
use crate::value::Value;

impl Parser<'_> {
    /// The call, or what it stands for where it is one of a macro.
    pub(crate) fn expand(
        &mut self,
        at: usize,
        name: &str,
        target: Option<Expr>,
        mut args: Vec<Expr>,
    ) -> Result<Kind, Fault> {
        let is_macro = match (name, args.len()) {
            ("has", 1) => target.is_none(),
            ("all" | "exists" | "exists_one" | "filter", 2) | ("map", 2 | 3) => target.is_some(),
            _ => false,
        };
        if !is_macro {
            return Ok(Kind::Call(Box::new(Call {
                name: name.to_owned(),
                target,
                args,
            })));
        }
        let first = args.remove(0);
        let Some(range) = target else {
            return has(first);
        };
        let Kind::Ident(var) = &first.kind else {
            return Err(Fault::new(first.at, "argument must be a simple name"));
        };
        if var == "__result__" {
            return Err(Fault::new(
                first.at,
                "iteration variable overwrites accumulator variable",
            ));
        }
        let var = var.clone();
        let mut make = Maker { parser: self, at };
        let last = args.pop();
        let body = last.ok_or_else(|| Fault::new(at, "a macro without arguments"))?;
        let fold = match name {
            "all" => make.all(range, var, body),
            "exists" => make.exists(range, var, body),
            "filter" => make.gather(range, var, Some(body), first),
            "map" => make.gather(range, var, args.pop(), body),
            _ => make.exists_one(range, var, body),
        };
        Ok(Kind::Fold(Box::new(fold)))
    }
}

fn has(arg: Expr) -> Result<Kind, Fault> {
    match arg.kind {
        Kind::Select(select) => Ok(Kind::Select(Box::new(Select {
            test: true,
            ..*select
        }))),
        _ => Err(Fault::new(arg.at, "invalid argument to has() macro")),
    }
}

/// Makes nodes at the macro's place.
struct Maker<'p, 's> {
    parser: &'p mut Parser<'s>,
    at: usize,
}

impl Maker<'_, '_> {
    fn node(&mut self, kind: Kind) -> Expr {
        Expr {
            id: self.parser.id(),
            at: self.at,
            kind,
        }
    }

    fn literal(&mut self, value: Value<'static>) -> Expr {
        self.node(Kind::Literal(value))
    }

    fn accumulator(&mut self) -> Expr {
        self.node(Kind::Ident(ACCUMULATOR.to_owned()))
    }

    fn call(&mut self, name: &str, args: Vec<Expr>) -> Expr {
        self.node(Kind::Call(Box::new(Call {
            name: name.to_owned(),
            target: None,
            args,
        })))
    }

    fn all(&mut self, range: Expr, var: String, predicate: Expr) -> Fold {
        let init = self.literal(Value::Bool(true));
        let so_far = self.accumulator();
        let condition = self.call("@not_strictly_false", vec![so_far]);
        let so_far = self.accumulator();
        let step = self.call("_&&_", vec![so_far, predicate]);
        Fold {
            range,
            var,
            init,
            condition,
            step,
            result: self.accumulator(),
        }
    }

    fn exists(&mut self, range: Expr, var: String, predicate: Expr) -> Fold {
        let init = self.literal(Value::Bool(false));
        let so_far = self.accumulator();
        let not_yet = self.call("!_", vec![so_far]);
        let condition = self.call("@not_strictly_false", vec![not_yet]);
        let so_far = self.accumulator();
        let step = self.call("_||_", vec![so_far, predicate]);
        Fold {
            range,
            var,
            init,
            condition,
            step,
            result: self.accumulator(),
        }
    }

    fn exists_one(&mut self, range: Expr, var: String, predicate: Expr) -> Fold {
        let init = self.literal(Value::Int(0));
        let condition = self.literal(Value::Bool(true));
        let (count, one) = (self.accumulator(), self.literal(Value::Int(1)));
        let more = self.call("_+_", vec![count, one]);
        let same = self.accumulator();
        let step = self.call("_?_:_", vec![predicate, more, same]);
        let (count, one) = (self.accumulator(), self.literal(Value::Int(1)));
        Fold {
            range,
            var,
            init,
            condition,
            step,
            result: self.call("_==_", vec![count, one]),
        }
    }

    /// `map` and `filter`: what `item` is for each element that `predicate` lets through.
    fn gather(&mut self, range: Expr, var: String, predicate: Option<Expr>, item: Expr) -> Fold {
        let init = self.node(Kind::List(Vec::new()));
        let condition = self.literal(Value::Bool(true));
        let so_far = self.accumulator();
        let item = self.node(Kind::List(vec![item]));
        let mut step = self.call("_+_", vec![so_far, item]);
        if let Some(predicate) = predicate {
            let same = self.accumulator();
            step = self.call("_?_:_", vec![predicate, step, same]);
        }
        Fold {
            range,
            var,
            init,
            condition,
            step,
            result: self.accumulator(),
        }
    }
}
