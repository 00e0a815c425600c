//! What stands behind the colon of a `define`.

use super::{Kind, Mistake, Parsed, Parser, Part};
use crate::authorization_model::{
    Difference, Empty, ObjectRelation, RelationReference, TupleToUserset, Userset, Usersets,
};

/// Deepest nesting of parentheses. Beyond what a model may nest; it only bounds the stack.
const MAX_PARENTHESES: usize = 100;

/// Words that join operands, so cannot be one.
const OPERATORS: [&str; 5] = ["or", "and", "but", "from", "with"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operator {
    Or,
    And,
    ButNot,
}

impl Operator {
    fn text(self) -> &'static str {
        match self {
            Self::Or => "or",
            Self::And => "and",
            Self::ButNot => "but not",
        }
    }
}

impl Parser<'_> {
    /// A rewrite and the type restrictions in it.
    pub(super) fn definition(&mut self) -> Parsed<(Userset, Vec<RelationReference>)> {
        let mut restrictions = None;
        let rewrite = self.expression(&mut restrictions, 0)?;
        Ok((rewrite, restrictions.unwrap_or_default()))
    }

    fn expression(
        &mut self,
        restrictions: &mut Option<Vec<RelationReference>>,
        depth: usize,
    ) -> Parsed<Userset> {
        let first = self.operand(restrictions, depth)?;
        let Some(operator) = self.operator()? else {
            return Ok(first);
        };
        let second = self.operand(restrictions, depth)?;
        if operator == Operator::ButNot {
            return match self.next_operator() {
                None => Ok(Userset::Difference(Box::new(Difference {
                    base: first,
                    subtract: second,
                }))),
                Some(Operator::ButNot) => Err(self.mistake(
                    "'but not' can stand once: put what is left of the second one into parentheses",
                )),
                Some(other) => Err(self.mixed(operator, other)),
            };
        }
        let mut child = vec![first, second];
        while let Some(next) = self.next_operator() {
            if next != operator {
                return Err(self.mixed(operator, next));
            }
            self.operator()?;
            child.push(self.operand(restrictions, depth)?);
        }
        let children = Usersets { child };
        Ok(if operator == Operator::Or {
            Userset::Union(children)
        } else {
            Userset::Intersection(children)
        })
    }

    fn mixed(&self, operator: Operator, other: Operator) -> Mistake {
        self.mistake(format!(
            "'{}' and '{}' cannot be mixed: put one of them into parentheses",
            operator.text(),
            other.text()
        ))
    }

    /// The operator that stands next.
    fn next_operator(&self) -> Option<Operator> {
        match self.token.text {
            "or" => Some(Operator::Or),
            "and" => Some(Operator::And),
            "but" => Some(Operator::ButNot),
            _ => None,
        }
    }

    fn operator(&mut self) -> Parsed<Option<Operator>> {
        let operator = self.next_operator();
        if operator.is_some() {
            self.advance();
        }
        if operator == Some(Operator::ButNot) {
            self.keyword("not")?;
        }
        Ok(operator)
    }

    fn operand(
        &mut self,
        restrictions: &mut Option<Vec<RelationReference>>,
        depth: usize,
    ) -> Parsed<Userset> {
        match self.token.kind {
            Kind::Mark('(') if depth == MAX_PARENTHESES => {
                Err(self.mistake(format!("parentheses are nested more than {MAX_PARENTHESES} deep: give a part a relation of its own")))
            }
            Kind::Mark('(') => {
                self.advance();
                let inner = self.expression(restrictions, depth + 1)?;
                self.mark(')')?;
                Ok(inner)
            }
            Kind::Mark('[') => {
                let at = self.token.at;
                let list = self.restrictions()?;
                match restrictions.replace(list) {
                    Some(other) if restrictions.as_ref() != Some(&other) => {
                        Err(Mistake { at, message: "a relation has one list of type restrictions: merge the two into one".to_owned() })
                    }
                    _ => Ok(Userset::This(Empty {})),
                }
            }
            _ => self.relation_operand(),
        }
    }

    fn relation_operand(&mut self) -> Parsed<Userset> {
        const EXPECTED: &str = "a relation, '[' or '('";
        if OPERATORS.contains(&self.token.text) {
            return Err(self.unexpected(EXPECTED));
        }
        let (at, object_type) = (self.token.at, self.object_type());
        let relation = self.name(EXPECTED)?.to_owned();
        if self.token.text != "from" {
            self.places
                .note(Part::Use(object_type, relation.clone()), at);
            return Ok(Userset::ComputedUserset(object_relation(relation)));
        }
        self.advance();
        let tupleset_at = self.token.at;
        let tupleset = self.name("a relation")?.to_owned();
        for (part, at) in [
            (
                Part::Use(object_type.clone(), tupleset.clone()),
                tupleset_at,
            ),
            (
                Part::Tupleset(object_type.clone(), tupleset.clone()),
                tupleset_at,
            ),
            (
                Part::From(object_type, relation.clone(), tupleset.clone()),
                at,
            ),
        ] {
            self.places.note(part, at);
        }
        Ok(Userset::TupleToUserset(TupleToUserset {
            tupleset: object_relation(tupleset),
            computed_userset: object_relation(relation),
        }))
    }

    fn restrictions(&mut self) -> Parsed<Vec<RelationReference>> {
        let mut list = Vec::new();
        self.advance();
        loop {
            self.skip_newlines();
            list.push(self.restriction()?);
            self.skip_newlines();
            if self.is_mark(']') {
                self.advance();
                return Ok(list);
            }
            if !self.is_mark(',') {
                return Err(self.unexpected("',' or ']'"));
            }
            self.advance();
        }
    }

    fn restriction(&mut self) -> Parsed<RelationReference> {
        let at = self.token.at;
        let mut restriction = RelationReference {
            type_name: self.name("a type")?.to_owned(),
            ..RelationReference::default()
        };
        if self.is_mark(':') {
            self.advance();
            self.mark('*')?;
            restriction.wildcard = Some(Empty {});
        } else if self.is_mark('#') {
            self.advance();
            restriction.relation = Some(self.name("a relation")?.to_owned());
        }
        let (object_type, relation) = (self.object_type(), self.relation.to_owned());
        self.places.note(
            Part::Restriction(object_type, relation, written(&restriction)),
            at,
        );
        if self.token.text == "with" {
            self.advance();
            let at = self.token.at;
            restriction.condition = self.condition_reference()?;
            self.places
                .note(Part::Condition(restriction.condition.clone()), at);
        }
        Ok(restriction)
    }
}

/// A restriction as errors name it: without its condition.
fn written(restriction: &RelationReference) -> String {
    let name = &restriction.type_name;
    match &restriction.relation {
        Some(relation) => format!("{name}#{relation}"),
        None if restriction.wildcard.is_some() => format!("{name}:*"),
        None => name.clone(),
    }
}

fn object_relation(relation: String) -> ObjectRelation {
    ObjectRelation {
        object: String::new(),
        relation,
    }
}
