//! The parser: CEL's grammar by recursive descent, with cel-go's bounds on nesting.

use crate::ast::{Call, Expr, Kind, Select};
use crate::error::Fault;
use crate::lex::{Token, tokens};

/// How deep rules of one kind nest, and how deep operators, selections and calls do: cel-go's limit.
const MAX_DEPTH: usize = 250;
/// The longest expression, in characters: cel-go's limit.
const MAX_LENGTH: usize = 100_000;

/// Names that are no variables and no global functions.
const RESERVED: [&str; 17] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// Parses an expression.
///
/// # Errors
/// The first place that is not CEL.
pub(crate) fn parse(source: &str) -> Result<Expr, Fault> {
    let length = source.chars().count();
    if length > MAX_LENGTH {
        let message =
            format!("expression code point size exceeds limit: size: {length}, limit {MAX_LENGTH}");
        return Err(Fault::new(0, message));
    }
    let mut parser = Parser {
        tokens: tokens(source)?,
        next: 0,
        ids: 0,
        depths: [0; 3],
    };
    let node = parser.expr()?;
    match parser.peek() {
        Token::End => Ok(node.expr),
        _ => Err(parser.unexpected()),
    }
}

/// An expression, and how many operators, selections and calls nest in it.
pub(crate) struct Node {
    pub(crate) expr: Expr,
    pub(crate) depth: usize,
}

type Parsed = Result<Node, Fault>;

/// A rule whose nesting is bounded.
#[derive(Clone, Copy)]
enum Rule {
    Expr,
    Relation,
    Calc,
}

pub(crate) struct Parser<'s> {
    tokens: Vec<(usize, Token<'s>)>,
    pub(crate) next: usize,
    ids: u32,
    depths: [usize; 3],
}

impl<'s> Parser<'s> {
    pub(crate) fn peek(&self) -> Token<'s> {
        self.peek_at(0)
    }

    fn peek_at(&self, ahead: usize) -> Token<'s> {
        self.tokens
            .get(self.next + ahead)
            .map_or(Token::End, |(_, token)| *token)
    }

    pub(crate) fn at(&self) -> usize {
        self.tokens
            .get(self.next)
            .or(self.tokens.last())
            .map_or(0, |(at, _)| *at)
    }

    /// Whether the next token is `sign`, which is then passed.
    pub(crate) fn eat(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Token::Sign(s) if s == sign);
        self.next += usize::from(found);
        found
    }

    fn expect(&mut self, sign: &'static str) -> Result<(), Fault> {
        if self.eat(sign) {
            Ok(())
        } else {
            Err(self.unexpected())
        }
    }

    pub(crate) fn unexpected(&self) -> Fault {
        let found = match self.peek() {
            Token::End => "<EOF>".to_owned(),
            Token::Uint(text) => format!("{text}u"),
            Token::Escaped(text) => format!("`{text}`"),
            Token::Int(t)
            | Token::Float(t)
            | Token::Text(t)
            | Token::Bytes(t)
            | Token::Ident(t) => t.to_owned(),
            Token::Sign(sign) => sign.to_owned(),
        };
        Fault::new(
            self.at(),
            format!("Syntax error: unexpected input '{found}'"),
        )
    }

    pub(crate) fn id(&mut self) -> u32 {
        self.ids += 1;
        self.ids
    }

    fn node(&mut self, at: usize, kind: Kind, depth: usize) -> Parsed {
        if depth > MAX_DEPTH {
            return Err(too_deep(at));
        }
        Ok(Node {
            expr: Expr {
                id: self.id(),
                at,
                kind,
            },
            depth,
        })
    }

    fn call(&mut self, at: usize, name: &str, args: Vec<Node>) -> Parsed {
        let depth = args.iter().map(|arg| arg.depth).max().unwrap_or(0) + 1;
        let args = args.into_iter().map(|arg| arg.expr).collect();
        self.node(
            at,
            Kind::Call(Box::new(Call {
                name: name.to_owned(),
                target: None,
                args,
            })),
            depth,
        )
    }

    fn nested(&mut self, rule: Rule, parse: impl FnOnce(&mut Self) -> Parsed) -> Parsed {
        let at = self.at();
        match self.depths.get_mut(rule as usize) {
            Some(depth) if *depth < MAX_DEPTH => *depth += 1,
            _ => return Err(too_deep(at)),
        }
        let parsed = parse(self);
        if let Some(depth) = self.depths.get_mut(rule as usize) {
            *depth -= 1;
        }
        parsed
    }

    fn expr(&mut self) -> Parsed {
        self.nested(Rule::Expr, |parser| {
            let condition = parser.logic("||", "_||_")?;
            let at = parser.at();
            if !parser.eat("?") {
                return Ok(condition);
            }
            let truthy = parser.logic("||", "_||_")?;
            parser.expect(":")?;
            let falsy = parser.expr()?;
            parser.call(at, "_?_:_", vec![condition, truthy, falsy])
        })
    }

    /// A chain of `||` or of `&&`.
    fn logic(&mut self, sign: &'static str, name: &'static str) -> Parsed {
        let (mut terms, mut places) = (Vec::new(), Vec::new());
        loop {
            terms.push(if sign == "||" {
                self.logic("&&", "_&&_")?
            } else {
                self.relation()?
            });
            let at = self.at();
            if !self.eat(sign) {
                break;
            }
            places.push((self.id(), at));
        }
        let mut terms = terms.into_iter();
        balanced(name, &mut terms, &places).ok_or_else(|| self.unexpected())
    }

    fn relation(&mut self) -> Parsed {
        self.nested(Rule::Relation, |parser| {
            let mut left = parser.calc(0)?;
            loop {
                let name = match parser.peek() {
                    Token::Sign("<") => "_<_",
                    Token::Sign("<=") => "_<=_",
                    Token::Sign(">=") => "_>=_",
                    Token::Sign(">") => "_>_",
                    Token::Sign("==") => "_==_",
                    Token::Sign("!=") => "_!=_",
                    Token::Sign("in") => "@in",
                    _ => return Ok(left),
                };
                let at = parser.at();
                parser.next += 1;
                let right = parser.nested(Rule::Relation, |parser| parser.calc(0))?;
                left = parser.call(at, name, vec![left, right])?;
            }
        })
    }

    /// Sums, and with `min` 1 and above only products, and with 2 neither.
    fn calc(&mut self, min: u8) -> Parsed {
        self.nested(Rule::Calc, |parser| {
            let mut left = parser.unary()?;
            loop {
                let (name, strength) = match parser.peek() {
                    Token::Sign("+") => ("_+_", 0),
                    Token::Sign("-") => ("_-_", 0),
                    Token::Sign("*") => ("_*_", 1),
                    Token::Sign("/") => ("_/_", 1),
                    Token::Sign("%") => ("_%_", 1),
                    _ => return Ok(left),
                };
                if strength < min {
                    return Ok(left);
                }
                let at = parser.at();
                parser.next += 1;
                let right = parser.calc(strength + 1)?;
                left = parser.call(at, name, vec![left, right])?;
            }
        })
    }

    fn unary(&mut self) -> Parsed {
        let at = self.at();
        let mut count = 0;
        let (sign, name) = match self.peek() {
            Token::Sign("!") => ("!", "!_"),
            // A minus right before a number belongs to the number.
            Token::Sign("-") if !matches!(self.peek_at(1), Token::Int(_) | Token::Float(_)) => {
                ("-", "-_")
            }
            _ => return self.member(),
        };
        while self.eat(sign) {
            count += 1;
        }
        let operand = self.member()?;
        if count % 2 == 0 {
            return Ok(operand);
        }
        let depth = operand.depth;
        let call = Call {
            name: name.to_owned(),
            target: None,
            args: vec![operand.expr],
        };
        self.node(at, Kind::Call(Box::new(call)), depth)
    }

    fn member(&mut self) -> Parsed {
        let mut operand = self.primary()?;
        loop {
            let at = self.at();
            if self.eat(".") {
                operand = self.select(at, operand)?;
            } else if self.eat("[") {
                let index = self.expr()?;
                self.expect("]")?;
                operand = self.call(at, "_[_]", vec![operand, index])?;
            } else {
                return Ok(operand);
            }
        }
    }

    /// What follows a dot: a field, or a call with the operand as its receiver.
    fn select(&mut self, at: usize, operand: Node) -> Parsed {
        let (Token::Ident(name) | Token::Escaped(name)) = self.peek() else {
            return Err(self.unexpected());
        };
        let escaped = matches!(self.peek(), Token::Escaped(_));
        self.next += 1;
        let open = self.at();
        if escaped || !self.eat("(") {
            let depth = operand.depth + 1;
            let select = Select {
                operand: operand.expr,
                field: name.to_owned(),
                test: false,
            };
            return self.node(at, Kind::Select(Box::new(select)), depth);
        }
        let args = self.args()?;
        let depth = args
            .iter()
            .map(|arg| arg.depth)
            .max()
            .unwrap_or(0)
            .max(operand.depth)
            + 1;
        let args = args.into_iter().map(|arg| arg.expr).collect();
        let kind = self.expand(open, name, Some(operand.expr), args)?;
        self.node(open, kind, depth)
    }

    /// Arguments up to the closing bracket.
    fn args(&mut self) -> Result<Vec<Node>, Fault> {
        let mut args = Vec::new();
        if self.eat(")") {
            return Ok(args);
        }
        loop {
            args.push(self.expr()?);
            if self.eat(")") {
                return Ok(args);
            }
            self.expect(",")?;
        }
    }

    fn primary(&mut self) -> Parsed {
        let at = self.at();
        match self.peek() {
            Token::Sign("(") => {
                self.next += 1;
                let inner = self.expr()?;
                self.expect(")")?;
                Ok(inner)
            }
            Token::Sign("[") => {
                self.next += 1;
                self.list(at)
            }
            Token::Sign("{") => {
                self.next += 1;
                self.map(at)
            }
            Token::Ident(_) => self.ident(""),
            Token::Sign(".") => {
                self.next += 1;
                self.ident(".")
            }
            _ => {
                let value = self.literal()?;
                self.node(at, Kind::Literal(value), 0)
            }
        }
    }

    /// A variable or a global call; `dot` is what stood before it.
    fn ident(&mut self, dot: &str) -> Parsed {
        let at = self.at();
        let Token::Ident(name) = self.peek() else {
            return Err(self.unexpected());
        };
        if self.is_message() {
            return Err(Fault::new(
                at,
                format!("message literals are not supported, found '{name}{{'"),
            ));
        }
        self.next += 1;
        if RESERVED.contains(&name) {
            return Err(Fault::new(at, format!("reserved identifier: {name}")));
        }
        let open = self.at();
        let name = format!("{dot}{name}");
        if !self.eat("(") {
            return self.node(at, Kind::Ident(name), 0);
        }
        let args = self.args()?;
        let depth = args.iter().map(|arg| arg.depth).max().unwrap_or(0);
        let kind = self.expand(
            open,
            &name,
            None,
            args.into_iter().map(|arg| arg.expr).collect(),
        )?;
        self.node(open, kind, depth)
    }

    /// Whether a dotted name with a brace begins here.
    fn is_message(&self) -> bool {
        let mut ahead = 1;
        while let (Token::Sign("."), Token::Ident(_)) =
            (self.peek_at(ahead), self.peek_at(ahead + 1))
        {
            ahead += 2;
        }
        self.peek_at(ahead) == Token::Sign("{")
    }

    fn list(&mut self, at: usize) -> Parsed {
        let (mut items, mut depth) = (Vec::new(), 0);
        while !self.closed("]", items.is_empty())? {
            let item = self.expr()?;
            depth = depth.max(item.depth);
            items.push(item.expr);
        }
        self.node(at, Kind::List(items), depth)
    }

    fn map(&mut self, at: usize) -> Parsed {
        let (mut entries, mut depth) = (Vec::new(), 0);
        while !self.closed("}", entries.is_empty())? {
            let key = self.expr()?;
            self.expect(":")?;
            let value = self.expr()?;
            depth = depth.max(key.depth).max(value.depth);
            entries.push((key.expr, value.expr));
        }
        self.node(at, Kind::Map(entries), depth)
    }

    /// Passes what stands between two items, and answers whether none follows. A comma may stand before the end.
    fn closed(&mut self, end: &'static str, first: bool) -> Result<bool, Fault> {
        if self.eat(end) {
            return Ok(true);
        }
        let comma = self.eat(",");
        if comma && self.eat(end) {
            return Ok(true);
        }
        if comma == first {
            Err(self.unexpected())
        } else {
            Ok(false)
        }
    }
}

fn too_deep(at: usize) -> Fault {
    Fault::new(
        at,
        format!("expression recursion limit exceeded: {MAX_DEPTH}"),
    )
}

/// The terms joined by operators into a tree of the least depth; `ops` has one fewer than there are terms.
fn balanced(
    name: &str,
    terms: &mut impl Iterator<Item = Node>,
    ops: &[(u32, usize)],
) -> Option<Node> {
    if ops.is_empty() {
        return terms.next();
    }
    let (left_ops, rest) = ops.split_at(ops.len() / 2);
    let ((id, at), right_ops) = rest.split_first()?;
    let left = balanced(name, terms, left_ops)?;
    let right = balanced(name, terms, right_ops)?;
    let depth = left.depth.max(right.depth);
    let call = Call {
        name: name.to_owned(),
        target: None,
        args: vec![left.expr, right.expr],
    };
    Some(Node {
        expr: Expr {
            id: *id,
            at: *at,
            kind: Kind::Call(Box::new(call)),
        },
        depth,
    })
}
