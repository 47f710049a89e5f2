//! From a predicate's text to its tree. The grammar:
//!
//! ```text
//! either  = both { "or" both }
//! both    = not { "and" not }
//! not     = "not" not | test
//! test    = "(" either ")" | "exists" "(" pointer ")" | "contains" "(" value "," value ")"
//!         | value compare value | value [ "not" ] "in" "[" literal { "," literal } "]" | pointer
//! compare = "==" | "!=" | "<" | "<=" | ">" | ">="
//! value   = pointer | literal
//! literal = string | number | "true" | "false" | "null"
//! ```

use crate::lexer::{Placed, Token, tokens};
use json_scan::{Number, Pointers};
use std::fmt;

/// Predicates nested deeper than this are refused.
pub const NESTING_MAX: u32 = 32;
/// Predicates with more bytes than this are refused.
pub const LENGTH_MAX: usize = 16 * 1024;

/// A predicate that cannot be parsed: where, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// Counted in characters, from 1.
    pub column: usize,
    what: String,
    near: String,
}

impl ParseError {
    pub(crate) fn new(source: &str, at: usize, what: impl Into<String>) -> Self {
        let near: String = source[at..].chars().take(20).collect();
        ParseError {
            column: source[..at].chars().count() + 1,
            what: what.into(),
            near,
        }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ParseError { column, what, near } = self;
        if near.is_empty() {
            write!(f, "column {column}, the end: {what}")
        } else {
            write!(f, "column {column}, at `{near}`: {what}")
        }
    }
}

impl std::error::Error for ParseError {}

/// A test on one document. Pointers are slots of the set that was parsed along.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Test {
    All(Vec<Test>),
    Any(Vec<Test>),
    Not(Box<Test>),
    Compare(Operand, Comparison, Operand),
    In(Operand, Vec<Literal>),
    Contains(Operand, Operand),
    Exists(usize),
    True(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    Unequal,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Operand {
    Pointer(usize),
    Literal(Literal),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Literal {
    Null,
    Bool(bool),
    Number(Number),
    Text(Vec<u8>),
}

/// Parses a predicate; the pointers in it are added to `pointers`.
pub(crate) fn parse(source: &str, pointers: &mut Pointers) -> Result<Test, ParseError> {
    if source.len() > LENGTH_MAX {
        return Err(ParseError::new(
            source,
            0,
            format!("a predicate may have {LENGTH_MAX} bytes at most"),
        ));
    }
    let mut parser = Parser {
        source,
        tokens: tokens(source)?,
        next: 0,
        pointers,
    };
    let test = parser.either(0)?;
    match parser.peek() {
        Token::End => Ok(test),
        _ => Err(parser.error("expected and, or, or the end")),
    }
}

struct Parser<'s> {
    source: &'s str,
    /// Ends with [`Token::End`], which is never passed.
    tokens: Vec<Placed>,
    next: usize,
    pointers: &'s mut Pointers,
}

impl Parser<'_> {
    fn either(&mut self, nesting: u32) -> Result<Test, ParseError> {
        if nesting >= NESTING_MAX {
            return Err(self.error(format!("nested deeper than {NESTING_MAX}")));
        }
        let mut tests = vec![self.both(nesting)?];
        while self.take_word("or") {
            tests.push(self.both(nesting)?);
        }
        Ok(one_or(tests, Test::Any))
    }

    fn both(&mut self, nesting: u32) -> Result<Test, ParseError> {
        let mut tests = vec![self.negated(nesting)?];
        while self.take_word("and") {
            tests.push(self.negated(nesting)?);
        }
        Ok(one_or(tests, Test::All))
    }

    fn negated(&mut self, nesting: u32) -> Result<Test, ParseError> {
        let mut negate = false;
        while self.take_word("not") {
            negate = !negate;
        }
        let test = self.test(nesting)?;
        Ok(if negate { Test::Not(Box::new(test)) } else { test })
    }

    fn test(&mut self, nesting: u32) -> Result<Test, ParseError> {
        if self.take_sign("(") {
            let test = self.either(nesting + 1)?;
            self.expect_sign(")")?;
            return Ok(test);
        }
        if self.take_word("exists") {
            self.expect_sign("(")?;
            let Operand::Pointer(slot) = self.operand()? else {
                self.next -= 1;
                return Err(self.error("exists() takes a pointer, such as /a"));
            };
            self.expect_sign(")")?;
            return Ok(Test::Exists(slot));
        }
        if self.take_word("contains") {
            self.expect_sign("(")?;
            let haystack = self.operand()?;
            self.expect_sign(",")?;
            let needle = self.operand()?;
            self.expect_sign(")")?;
            return Ok(Test::Contains(haystack, needle));
        }
        let left = self.operand()?;
        self.behind_operand(left)
    }

    fn behind_operand(&mut self, left: Operand) -> Result<Test, ParseError> {
        let comparison = match self.peek() {
            Token::Sign("==") => Comparison::Equal,
            Token::Sign("!=") => Comparison::Unequal,
            Token::Sign("<") => Comparison::Less,
            Token::Sign("<=") => Comparison::AtMost,
            Token::Sign(">") => Comparison::Greater,
            Token::Sign(">=") => Comparison::AtLeast,
            _ => {
                let negate = self.take_word("not");
                if self.take_word("in") {
                    let test = Test::In(left, self.literals()?);
                    return Ok(if negate { Test::Not(Box::new(test)) } else { test });
                }
                return match left {
                    Operand::Pointer(slot) if !negate => Ok(Test::True(slot)),
                    _ => Err(self.error("expected a comparison (== != < <= > >=) or in")),
                };
            }
        };
        self.next += 1;
        Ok(Test::Compare(left, comparison, self.operand()?))
    }

    fn literals(&mut self) -> Result<Vec<Literal>, ParseError> {
        self.expect_sign("[")?;
        let mut literals = Vec::new();
        loop {
            match self.operand()? {
                Operand::Literal(literal) => literals.push(literal),
                Operand::Pointer(_) => {
                    self.next -= 1;
                    return Err(self.error("in takes a list of strings, numbers, true, false and null"));
                }
            }
            if !self.take_sign(",") {
                self.expect_sign("]")?;
                return Ok(literals);
            }
        }
    }

    fn operand(&mut self) -> Result<Operand, ParseError> {
        let operand = match self.peek().clone() {
            Token::Pointer(pointer) => match self.pointers.add(&pointer) {
                Ok(slot) => Operand::Pointer(slot),
                Err(error) => return Err(self.error(error.to_string())),
            },
            Token::Text(text) => Operand::Literal(Literal::Text(text.into_bytes())),
            Token::Number(number) => Operand::Literal(Literal::Number(number)),
            Token::Word(word) => match word.as_str() {
                "true" => Operand::Literal(Literal::Bool(true)),
                "false" => Operand::Literal(Literal::Bool(false)),
                "null" => Operand::Literal(Literal::Null),
                "and" | "or" | "in" | "not" | "exists" | "contains" => return Err(self.error(EXPECTED_VALUE)),
                _ => {
                    let hint =
                        format!("{word:?} is no value: a field is written /{word}, a string \"{word}\"");
                    return Err(self.error(hint));
                }
            },
            Token::Sign(_) | Token::End => return Err(self.error(EXPECTED_VALUE)),
        };
        self.next += 1;
        Ok(operand)
    }

    fn peek(&self) -> &Token {
        &self.tokens[self.next].token
    }

    fn take_word(&mut self, word: &str) -> bool {
        let taken = matches!(self.peek(), Token::Word(w) if w == word);
        self.next += usize::from(taken);
        taken
    }

    fn take_sign(&mut self, sign: &str) -> bool {
        let taken = matches!(self.peek(), Token::Sign(s) if *s == sign);
        self.next += usize::from(taken);
        taken
    }

    fn expect_sign(&mut self, sign: &str) -> Result<(), ParseError> {
        if self.take_sign(sign) {
            Ok(())
        } else {
            Err(self.error(format!("expected {sign}")))
        }
    }

    fn error(&self, what: impl Into<String>) -> ParseError {
        ParseError::new(self.source, self.tokens[self.next].at, what)
    }
}

const EXPECTED_VALUE: &str = "expected a pointer such as /a, a string, a number, true, false or null";

fn one_or(mut tests: Vec<Test>, many: fn(Vec<Test>) -> Test) -> Test {
    if tests.len() == 1 {
        tests.remove(0)
    } else {
        many(tests)
    }
}
