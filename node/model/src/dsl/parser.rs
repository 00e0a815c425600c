//! Recursive descent, a line at a time: a mistake costs its line, and reading goes on at the next one that begins with
//! a keyword.

mod condition;
mod relation;

use std::collections::BTreeMap;

use super::lexer::{Kind, Lexer, Token};
use super::places::{Part, Places};
use super::{DslError, MAX_ERRORS};
use crate::authorization_model::{AuthorizationModel, Metadata, RelationMetadata, TypeDefinition};

/// What a line may begin with after the heading.
const KEYWORDS: [&str; 6] = [
    "type",
    "relations",
    "define",
    "condition",
    "extend",
    "module",
];

/// The model, and where its parts stand.
pub(super) fn parse(text: &str) -> Result<(AuthorizationModel, Places), Vec<DslError>> {
    let mut parser = Parser::new(text);
    parser.model();
    if parser.mistakes.is_empty() {
        Ok((parser.model, parser.places))
    } else {
        Err(parser.errors())
    }
}

/// A mistake at a byte of the text.
struct Mistake {
    at: usize,
    message: String,
}

type Parsed<T> = Result<T, Mistake>;

/// Where in the model a line stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    /// In no type.
    Outside,
    /// Below `type`.
    Type,
    /// Below `relations`, which stands at this byte and has no `define` yet.
    Relations(usize),
    /// Below a `define`.
    Defines,
}

struct Parser<'a> {
    text: &'a str,
    lexer: Lexer<'a>,
    token: Token<'a>,
    section: Section,
    model: AuthorizationModel,
    places: Places,
    /// The relation whose definition is being read.
    relation: &'a str,
    mistakes: Vec<Mistake>,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        let mut lexer = Lexer::new(text);
        let token = lexer.next();
        Self {
            text,
            lexer,
            token,
            section: Section::Outside,
            model: AuthorizationModel::default(),
            places: Places::default(),
            relation: "",
            mistakes: Vec::new(),
        }
    }

    fn model(&mut self) {
        self.skip_newlines();
        if self.token.text == "module" {
            return self.mistakes.push(self.modules_unsupported());
        }
        if let Err(mistake) = self.heading() {
            self.recover(mistake);
        }
        loop {
            self.skip_newlines();
            if self.token.kind == Kind::End || self.mistakes.len() >= MAX_ERRORS {
                break;
            }
            if let Err(mistake) = self.line() {
                self.recover(mistake);
            }
        }
        if let Err(mistake) = self.leave_section() {
            self.mistakes.push(mistake);
        }
        for definition in &mut self.model.type_definitions {
            definition
                .metadata
                .take_if(|metadata| metadata.relations.is_empty());
        }
    }

    fn heading(&mut self) -> Parsed<()> {
        self.keyword("model")?;
        self.line_end()?;
        self.skip_newlines();
        self.keyword("schema")?;
        let version = self.token;
        if !matches!(version.text, "1.1" | "1.2") {
            return Err(self.unexpected("the schema version 1.1 or 1.2"));
        }
        self.model.schema_version = version.text.to_owned();
        self.advance();
        self.line_end()
    }

    fn line(&mut self) -> Parsed<()> {
        match self.token.text {
            "type" => self.type_line(),
            "relations" => self.relations_line(),
            "define" => self.define_line(),
            "condition" => self.condition_lines(),
            "extend" | "module" => {
                self.section = Section::Type;
                Err(self.modules_unsupported())
            }
            _ => Err(self.unexpected("'type', 'relations', 'define' or 'condition'")),
        }
    }

    fn type_line(&mut self) -> Parsed<()> {
        self.advance();
        let at = self.token.at;
        let name = self.name("a type name")?;
        self.leave_section()?;
        self.section = Section::Type;
        if self
            .model
            .type_definitions
            .iter()
            .any(|definition| definition.name == name)
        {
            return Err(Mistake {
                at,
                message: format!("type '{name}' is already defined"),
            });
        }
        self.places.note(Part::Type(name.to_owned()), at);
        self.model.type_definitions.push(TypeDefinition {
            name: name.to_owned(),
            relations: BTreeMap::new(),
            metadata: Some(Metadata::default()),
        });
        self.line_end()
    }

    fn relations_line(&mut self) -> Parsed<()> {
        if self.section != Section::Type {
            return Err(self.mistake("'relations' must follow its 'type', once"));
        }
        self.section = Section::Relations(self.token.at);
        self.advance();
        self.line_end()
    }

    fn define_line(&mut self) -> Parsed<()> {
        if !matches!(self.section, Section::Relations(_) | Section::Defines) {
            return Err(self.mistake("'define' must stand below the 'relations' of a type"));
        }
        self.section = Section::Defines;
        self.advance();
        let at = self.token.at;
        let name = self.name("a relation name")?;
        self.relation = name;
        self.places
            .note(Part::Relation(self.object_type(), name.to_owned()), at);
        self.mark(':')?;
        let (rewrite, restrictions) = self.definition()?;
        self.line_end()?;
        let Some(definition) = self.model.type_definitions.last_mut() else {
            return Ok(());
        };
        if definition
            .relations
            .insert(name.to_owned(), rewrite)
            .is_some()
        {
            return Err(Mistake {
                at,
                message: format!("'{name}' is already defined in '{}'", definition.name),
            });
        }
        let metadata = RelationMetadata {
            directly_related_user_types: restrictions,
            ..RelationMetadata::default()
        };
        definition
            .metadata
            .get_or_insert_default()
            .relations
            .insert(name.to_owned(), metadata);
        Ok(())
    }

    /// The type whose relations are being read.
    fn object_type(&self) -> String {
        let last = self.model.type_definitions.last();
        last.map(|definition| definition.name.clone())
            .unwrap_or_default()
    }

    fn leave_section(&mut self) -> Parsed<()> {
        match std::mem::replace(&mut self.section, Section::Outside) {
            Section::Relations(at) => Err(Mistake {
                at,
                message: "'relations' must be followed by at least one 'define'".to_owned(),
            }),
            _ => Ok(()),
        }
    }

    fn advance(&mut self) {
        self.token = self.lexer.next();
    }

    fn skip_newlines(&mut self) {
        while self.token.kind == Kind::Newline {
            self.advance();
        }
    }

    fn is_mark(&self, mark: char) -> bool {
        self.token.kind == Kind::Mark(mark)
    }

    fn mark(&mut self, mark: char) -> Parsed<()> {
        if !self.is_mark(mark) {
            return Err(self.unexpected(&format!("'{mark}'")));
        }
        self.advance();
        Ok(())
    }

    fn keyword(&mut self, word: &str) -> Parsed<()> {
        if self.token.text != word {
            return Err(self.unexpected(&format!("'{word}'")));
        }
        self.advance();
        Ok(())
    }

    /// A name: a letter or `_`, then letters, digits, `_`, `-`, `.` and `/`.
    fn name(&mut self, expected: &str) -> Parsed<&'a str> {
        let text = self.token.text;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
        let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if self.token.kind != Kind::Word || !starts || !text.chars().all(plain) {
            return Err(self.unexpected(expected));
        }
        self.advance();
        Ok(text)
    }

    fn line_end(&mut self) -> Parsed<()> {
        match self.token.kind {
            Kind::Newline | Kind::End => Ok(()),
            _ => Err(self.unexpected("the end of the line")),
        }
    }

    fn mistake(&self, message: impl Into<String>) -> Mistake {
        Mistake {
            at: self.token.at,
            message: message.into(),
        }
    }

    fn unexpected(&self, expected: &str) -> Mistake {
        let found = match self.token.kind {
            Kind::Newline => "the end of the line".to_owned(),
            Kind::End => "the end of the text".to_owned(),
            _ => format!("'{}'", self.token.text),
        };
        self.mistake(format!("expected {expected}, found {found}"))
    }

    fn modules_unsupported(&self) -> Mistake {
        self.mistake("modules are not supported: write the model as one text that begins with 'model' and defines each type once")
    }

    /// Notes a mistake and goes on at the next line that begins with a keyword.
    fn recover(&mut self, mistake: Mistake) {
        self.mistakes.push(mistake);
        loop {
            while !matches!(self.token.kind, Kind::Newline | Kind::End) {
                self.advance();
            }
            self.skip_newlines();
            if self.token.kind == Kind::End || KEYWORDS.contains(&self.token.text) {
                break;
            }
        }
    }

    fn errors(mut self) -> Vec<DslError> {
        self.mistakes.sort_by_key(|mistake| mistake.at);
        self.mistakes
            .iter()
            .map(|mistake| DslError::at(self.text, mistake.at, mistake.message.clone()))
            .collect()
    }
}
