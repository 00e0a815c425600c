//! `condition name(parameter: type, ...) { expression }`.

use std::collections::BTreeMap;

use super::super::{CONTAINER_TYPES, PARAMETER_TYPES};
use super::{Mistake, Parsed, Parser, Part, Section};
use crate::authorization_model::{Condition, ConditionParameter};

/// The condition whose expression comes with the tuple.
const INLINE: &str = "$expression";

impl Parser<'_> {
    pub(super) fn condition_lines(&mut self) -> Parsed<()> {
        self.leave_section()?;
        self.section = Section::Outside;
        self.advance();
        let at = self.token.at;
        let name = self.name("a condition name")?.to_owned();
        self.places.note(Part::Condition(name.clone()), at);
        let parameters = self.parameters(&name)?;
        self.skip_newlines();
        if !self.is_mark('{') {
            return Err(self.unexpected("'{'"));
        }
        let open = self.token.at;
        let Some(expression) = self.lexer.body(open) else {
            return Err(Mistake {
                at: open,
                message: format!("the expression of condition '{name}' is not closed by '}}'"),
            });
        };
        self.advance();
        self.line_end()?;
        let condition = Condition {
            name: name.clone(),
            expression,
            parameters,
            metadata: None,
        };
        if self
            .model
            .conditions
            .insert(name.clone(), condition)
            .is_some()
        {
            return Err(Mistake {
                at,
                message: format!("condition '{name}' is already defined"),
            });
        }
        Ok(())
    }

    /// The name behind `with`.
    pub(super) fn condition_reference(&mut self) -> Parsed<String> {
        if self.token.text == INLINE {
            self.advance();
            return Ok(INLINE.to_owned());
        }
        self.name("a condition").map(str::to_owned)
    }

    fn parameters(&mut self, condition: &str) -> Parsed<BTreeMap<String, ConditionParameter>> {
        let mut parameters = BTreeMap::new();
        self.mark('(')?;
        self.skip_newlines();
        while !self.is_mark(')') {
            let at = self.token.at;
            let name = self.name("a parameter name or ')'")?;
            self.mark(':')?;
            if parameters
                .insert(name.to_owned(), self.parameter_type()?)
                .is_some()
            {
                return Err(Mistake {
                    at,
                    message: format!(
                        "parameter '{name}' is already defined in condition '{condition}'"
                    ),
                });
            }
            self.skip_newlines();
            if self.is_mark(',') {
                self.advance();
                self.skip_newlines();
            } else if !self.is_mark(')') {
                return Err(self.unexpected("',' or ')'"));
            }
        }
        self.advance();
        Ok(parameters)
    }

    fn parameter_type(&mut self) -> Parsed<ConditionParameter> {
        let Some((_, container)) = CONTAINER_TYPES
            .into_iter()
            .find(|(name, _)| *name == self.token.text)
        else {
            return self.plain_type();
        };
        self.advance();
        self.mark('<')?;
        let element = self.plain_type()?;
        self.mark('>')?;
        Ok(ConditionParameter {
            type_name: container.to_owned(),
            generic_types: vec![element],
        })
    }

    fn plain_type(&mut self) -> Parsed<ConditionParameter> {
        let Some((_, type_name)) = PARAMETER_TYPES
            .into_iter()
            .find(|(name, _)| *name == self.token.text)
        else {
            let names: Vec<&str> = PARAMETER_TYPES
                .iter()
                .chain(&CONTAINER_TYPES)
                .map(|(name, _)| *name)
                .collect();
            return Err(self.unexpected(&format!("a parameter type ({})", names.join(", "))));
        };
        self.advance();
        Ok(ConditionParameter {
            type_name: type_name.to_owned(),
            generic_types: Vec::new(),
        })
    }
}
