//! Regular expressions in RE2's syntax, as Go's `regexp` reads it.
//!
//! They are rewritten for the `regex` crate, whose syntax differs in places: its `\d`, `\w`, `\s` and `\b` know all of
//! Unicode, its classes have operators, and it lacks `\Q…\E` and octal escapes. Both match in linear time.

use std::fmt::Write as _;

use regex::{Regex, RegexBuilder};

use crate::error::short;

/// The largest count of a repetition.
const MAX_REPEAT: u32 = 1_000;

/// The size of a constant pattern in bytes, compiled once with its condition.
pub(crate) const MAX_CONSTANT: usize = 10 << 20;
/// The size of a pattern that an evaluation brings. Compiling takes a time in proportion, which no cost counts.
pub(crate) const MAX_COMPUTED: usize = 2 << 20;

/// Compiles a pattern to at most `max_size` bytes.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn compile(pattern: &str, max_size: usize) -> Result<Regex, String> {
    let invalid = |cause: &str| format!("error parsing regexp: {cause} in '{}'", short(pattern));
    let rewritten = Rewriter::rewrite(pattern).map_err(invalid)?;
    RegexBuilder::new(&rewritten)
        .size_limit(max_size)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => {
                invalid("expression too large; shorten its repetitions")
            }
            error => invalid(
                error
                    .to_string()
                    .rsplit("error: ")
                    .next()
                    .unwrap_or_default(),
            ),
        })
}

type Rewritten = Result<(), &'static str>;

struct Rewriter<'p> {
    rest: &'p str,
    out: String,
    /// How often the last piece repeats its innermost, and the most of any piece so far of each open group.
    last_repeats: u32,
    group_repeats: Vec<u32>,
}

impl<'p> Rewriter<'p> {
    fn rewrite(pattern: &'p str) -> Result<String, &'static str> {
        let mut rewriter = Self {
            rest: pattern,
            out: String::with_capacity(pattern.len() + 16),
            last_repeats: 1,
            group_repeats: vec![1],
        };
        let mut repeated = false;
        while let Some(c) = rewriter.next() {
            let was_repeated = std::mem::replace(&mut repeated, false);
            if !matches!(c, '*' | '+' | '?' | '{' | ')') {
                rewriter.last_repeats = 1;
            }
            match c {
                '(' => rewriter.group()?,
                '[' => rewriter.class()?,
                '.' | '^' | '$' | '|' => rewriter.out.push(c),
                ')' => rewriter.close()?,
                '*' | '+' | '?' => {
                    rewriter.out.push(c);
                    repeated = true;
                }
                '{' => repeated = rewriter.counts()?,
                '\\' => rewriter.escape()?,
                c => rewriter.literal(c),
            }
            if repeated {
                if was_repeated {
                    return Err("invalid nested repetition operator");
                }
                if rewriter.eat("?") {
                    rewriter.out.push('?');
                }
            }
        }
        Ok(rewriter.out)
    }

    fn next(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let next = chars.next();
        self.rest = chars.as_str();
        next
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn eat(&mut self, prefix: &str) -> bool {
        match self.rest.strip_prefix(prefix) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn literal(&mut self, c: char) {
        if c.is_ascii_alphanumeric() || !c.is_ascii() {
            self.out.push(c);
        } else {
            self.code(u32::from(c));
        }
    }

    fn code(&mut self, code: u32) {
        let _infallible = write!(self.out, "\\x{{{code:x}}}");
    }

    fn close(&mut self) -> Rewritten {
        self.last_repeats = self.group_repeats.pop().unwrap_or(1);
        self.out.push(')');
        self.note_repeats()
    }

    /// Notes the last piece's repetitions in its group; Go bounds their product.
    fn note_repeats(&mut self) -> Rewritten {
        let most = self.group_repeats.last_mut().ok_or("unexpected )")?;
        *most = self.last_repeats.max(*most);
        if *most > MAX_REPEAT {
            Err("invalid repeat count")
        } else {
            Ok(())
        }
    }

    /// What follows an opening bracket. Nothing is captured, for only whether a text matches is asked.
    fn group(&mut self) -> Rewritten {
        self.group_repeats.push(1);
        if !self.eat("?") {
            self.out.push_str("(?:");
            return Ok(());
        }
        if self.eat("P<") || self.eat("<") {
            let (name, rest) = self.rest.split_once('>').ok_or("invalid named capture")?;
            let valid =
                !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            self.rest = rest;
            self.out.push_str("(?:");
            return if valid {
                Ok(())
            } else {
                Err("invalid named capture")
            };
        }
        self.flags()
    }

    fn flags(&mut self) -> Rewritten {
        let invalid = "invalid or unsupported Perl syntax";
        let (mut on, mut off, mut negated) = (String::new(), String::new(), false);
        let end = loop {
            match self
                .next()
                .ok_or("missing argument to repetition operator")?
            {
                c @ ('i' | 'm' | 's' | 'U') => {
                    let flags = if negated { &mut off } else { &mut on };
                    if !flags.contains(c) {
                        flags.push(c);
                    }
                }
                '-' if !negated => negated = true,
                end @ (':' | ')') => break end,
                _ => return Err(invalid),
            }
        };
        if negated && off.is_empty() {
            return Err(invalid);
        }
        if end == ')' {
            self.group_repeats.pop();
        }
        on.retain(|flag| !off.contains(flag));
        match (on.is_empty() && off.is_empty(), end) {
            (true, ':') => self.out.push_str("(?:"),
            (true, _) => self.out.push_str("(?:)"),
            (false, end) => {
                let minus = if off.is_empty() { "" } else { "-" };
                let _infallible = write!(self.out, "(?{on}{minus}{off}{end}");
            }
        }
        Ok(())
    }

    /// `{n}`, `{n,}` or `{n,m}` after its opening brace; anything else makes the brace a literal.
    fn counts(&mut self) -> Result<bool, &'static str> {
        let Some((counts, rest)) = self
            .rest
            .split_once('}')
            .filter(|(counts, _)| is_counts(counts))
        else {
            self.literal('{');
            return Ok(false);
        };
        let (min, max) = counts.split_once(',').unwrap_or((counts, counts));
        let count = |text: &str| {
            text.parse::<u32>()
                .ok()
                .filter(|count| *count <= MAX_REPEAT)
        };
        let invalid = "invalid repeat count";
        let low = count(min).ok_or(invalid)?;
        if !max.is_empty() && count(max).filter(|max| low <= *max).is_none() {
            return Err(invalid);
        }
        let times = if max.is_empty() {
            low
        } else {
            count(max).unwrap_or(low)
        };
        self.last_repeats = self.last_repeats.saturating_mul(times.max(1));
        self.note_repeats()?;
        let _infallible = write!(self.out, "{{{counts}}}");
        self.rest = rest;
        Ok(true)
    }

    /// What follows a backslash outside of a class.
    fn escape(&mut self) -> Rewritten {
        match self.peek() {
            Some('A') => self.out.push_str("\\A"),
            Some('z') => self.out.push_str("\\z"),
            Some('b') => self.out.push_str("(?-u:\\b)"),
            Some('B') => self.out.push_str("(?-u:\\B)"),
            Some('Q') => {
                let quoted = self.rest.get(1..).unwrap_or_default();
                let (quoted, rest) = quoted.split_once("\\E").unwrap_or((quoted, ""));
                quoted.chars().for_each(|c| self.literal(c));
                self.rest = rest;
                return Ok(());
            }
            Some(c) if perl_class(c).is_some() => {
                let class = perl_class(c).unwrap_or_default();
                let _infallible = write!(self.out, "[{class}]");
            }
            Some('p' | 'P') => return self.property(),
            _ => {
                let code = self.escaped()?;
                self.code(code);
                return Ok(());
            }
        }
        self.next();
        Ok(())
    }

    /// `\pN`, `\p{Name}`, `\p{^Name}` and their negations by `\P`.
    fn property(&mut self) -> Rewritten {
        let invalid = "invalid character class range";
        let mut negated = self.next() == Some('P');
        let first = self.next().ok_or(invalid)?;
        let mut name = first.to_string();
        if first == '{' {
            let (inner, rest) = self.rest.split_once('}').ok_or(invalid)?;
            self.rest = rest;
            let plain = inner.strip_prefix('^');
            negated ^= plain.is_some();
            plain.unwrap_or(inner).clone_into(&mut name);
        }
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_') {
            return Err(invalid);
        }
        let _infallible = write!(self.out, "\\{}{{{name}}}", if negated { 'P' } else { 'p' });
        Ok(())
    }

    /// The character that an escape sequence stands for.
    fn escaped(&mut self) -> Result<u32, &'static str> {
        let invalid = "invalid escape sequence";
        let c = self
            .next()
            .ok_or("trailing backslash at end of expression")?;
        match c {
            '1'..='7' if !matches!(self.peek(), Some('0'..='7')) => Err(invalid),
            '0'..='7' => {
                let mut code = c.to_digit(8).unwrap_or_default();
                for _ in 0..2 {
                    let Some(digit) = self.peek().and_then(|c| c.to_digit(8)) else {
                        break;
                    };
                    code = code * 8 + digit;
                    self.next();
                }
                Ok(code)
            }
            'x' => {
                let hex = if self.eat("{") {
                    let (hex, rest) = self.rest.split_once('}').ok_or(invalid)?;
                    self.rest = rest;
                    hex
                } else {
                    let (hex, rest) = self.rest.split_at_checked(2).ok_or(invalid)?;
                    self.rest = rest;
                    hex
                };
                let valid = !hex.is_empty() && hex.bytes().all(|b| b.is_ascii_hexdigit());
                let code = u32::from_str_radix(hex, 16).ok().filter(|_| valid);
                code.filter(|code| char::from_u32(*code).is_some())
                    .ok_or(invalid)
            }
            'a' => Ok(7),
            'f' => Ok(12),
            'n' => Ok(10),
            'r' => Ok(13),
            't' => Ok(9),
            'v' => Ok(11),
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => Ok(u32::from(c)),
            _ => Err(invalid),
        }
    }

    /// What follows an opening square bracket.
    fn class(&mut self) -> Rewritten {
        let missing = "missing closing ]";
        self.out.push('[');
        if self.eat("^") {
            self.out.push('^');
        }
        let mut first = true;
        while first || self.peek() != Some(']') {
            first = false;
            if self.posix()? || self.class_escape()? {
                continue;
            }
            let low = self.class_char()?;
            self.code(low);
            let range = self
                .rest
                .strip_prefix('-')
                .is_some_and(|rest| !rest.is_empty() && !rest.starts_with(']'));
            if range {
                self.next();
                let high = self.class_char()?;
                if high < low {
                    return Err("invalid character class range");
                }
                self.out.push('-');
                self.code(high);
            }
            if self.rest.is_empty() {
                return Err(missing);
            }
        }
        self.next();
        self.out.push(']');
        Ok(())
    }

    fn class_char(&mut self) -> Result<u32, &'static str> {
        match self.next().ok_or("missing closing ]")? {
            '\\' => self.escaped(),
            c => Ok(u32::from(c)),
        }
    }

    /// `[:name:]`, if one is next.
    fn posix(&mut self) -> Result<bool, &'static str> {
        let Some((name, rest)) = self
            .rest
            .strip_prefix("[:")
            .and_then(|rest| rest.split_once(":]"))
        else {
            return Ok(false);
        };
        if !POSIX.contains(&name.strip_prefix('^').unwrap_or(name)) {
            return Err("invalid character class range");
        }
        let _infallible = write!(self.out, "[:{name}:]");
        self.rest = rest;
        Ok(true)
    }

    /// `\d` and its like, or a property, if one is next.
    fn class_escape(&mut self) -> Result<bool, &'static str> {
        let Some(kind) = self
            .rest
            .strip_prefix('\\')
            .and_then(|rest| rest.chars().next())
        else {
            return Ok(false);
        };
        if let Some(class) = perl_class(kind) {
            let _infallible = write!(self.out, "[{class}]");
            self.rest = self.rest.get(2..).unwrap_or_default();
            return Ok(true);
        }
        if !matches!(kind, 'p' | 'P') {
            return Ok(false);
        }
        self.next();
        self.property()?;
        Ok(true)
    }
}

const POSIX: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
    "space", "upper", "word", "xdigit",
];

/// The members of Perl's classes, which are of ASCII.
fn perl_class(kind: char) -> Option<&'static str> {
    Some(match kind {
        'd' => "0-9",
        'D' => "^0-9",
        's' => r"\t\n\x0c\r ",
        'S' => r"^\t\n\x0c\r ",
        'w' => "0-9A-Za-z_",
        'W' => "^0-9A-Za-z_",
        _ => return None,
    })
}

fn is_counts(counts: &str) -> bool {
    let is_number = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|b| b.is_ascii_digit())
            && (text == "0" || !text.starts_with('0'))
    };
    match counts.split_once(',') {
        None => is_number(counts),
        Some((min, max)) => is_number(min) && (max.is_empty() || is_number(max)),
    }
}
