//! Programs from text. White space is free, lists are read to a depth that no program has, and numbers that cannot be are
//! errors: the text may come from a stranger.

use super::{Argument, Function, Literal, Operation, Program, Scalar, Type, Value};

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {problem}")]
pub struct ParseError {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// What is wrong.
    pub problem: String,
}

/// Lists within lists: more than any tensor has axes.
const DEPTH: u32 = 16;

/// Operations of a function: far more than any compiler takes, and few enough to be read.
const MOST_OPERATIONS: usize = 1 << 20;

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

type Parsed<T> = Result<T, ParseError>;

/// Reads all of a text.
pub fn program(text: &str) -> Parsed<Program> {
    let mut parser = Parser { text, at: 0 };
    parser.word("program")?;
    parser.sign("(")?;
    let version = parser.until(&[')'], "a version")?;
    parser.sign(")")?;
    parser.sign("[")?;
    parser.word("buildInfo")?;
    parser.sign("=")?;
    let build_info = parser.dictionary()?;
    parser.sign("]")?;
    parser.sign("{")?;
    let mut functions = Vec::new();
    while !parser.taken("}") {
        functions.push(parser.function()?);
    }
    parser.space();
    match parser.rest() {
        "" => Ok(Program { version, build_info, functions }),
        _ => Err(parser.wrong("the program ended before this")),
    }
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn wrong(&self, problem: impl Into<String>) -> ParseError {
        let before = &self.text[..self.at];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        ParseError {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            problem: problem.into(),
        }
    }

    fn expected(&self, what: &str) -> ParseError {
        let found: String = self.rest().chars().take_while(|letter| *letter != '\n').take(20).collect();
        match found.is_empty() {
            true => self.wrong(format!("expected {what}, and the text ends")),
            false => self.wrong(format!("expected {what}, found `{found}`")),
        }
    }

    fn space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    /// Takes a sign when it is next.
    fn taken(&mut self, sign: &str) -> bool {
        self.space();
        let is_next = self.rest().starts_with(sign);
        if is_next {
            self.at += sign.len();
        }
        is_next
    }

    fn sign(&mut self, sign: &str) -> Parsed<()> {
        if self.taken(sign) { Ok(()) } else { Err(self.expected(&format!("`{sign}`"))) }
    }

    /// The word that is next, if one is; nothing is taken.
    fn peek(&mut self) -> &'a str {
        self.space();
        let rest = self.rest();
        let end = rest.find(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'));
        &rest[..end.unwrap_or(rest.len())]
    }

    fn name(&mut self, what: &str) -> Parsed<String> {
        let word = self.peek();
        if word.is_empty() || word.starts_with(|letter: char| letter.is_ascii_digit()) {
            return Err(self.expected(what));
        }
        self.at += word.len();
        Ok(word.to_owned())
    }

    fn word(&mut self, word: &str) -> Parsed<()> {
        if self.peek() != word {
            return Err(self.expected(&format!("`{word}`")));
        }
        self.at += word.len();
        Ok(())
    }

    /// What stands before one of some signs.
    fn until(&mut self, ends: &[char], what: &str) -> Parsed<String> {
        self.space();
        let rest = self.rest();
        let end = rest.find(|letter: char| ends.contains(&letter) || letter == '\n').unwrap_or(rest.len());
        let text = rest[..end].trim();
        if text.is_empty() {
            return Err(self.expected(what));
        }
        self.at += end;
        Ok(text.to_owned())
    }

    /// Things with commas between, until an end.
    fn list<T>(&mut self, end: &str, mut one: impl FnMut(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        let mut all = Vec::new();
        if self.taken(end) {
            return Ok(all);
        }
        loop {
            all.push(one(self)?);
            if self.taken(end) {
                return Ok(all);
            }
            if !self.taken(",") {
                return Err(self.expected(&format!("`,` or `{end}`")));
            }
        }
    }

    fn dictionary(&mut self) -> Parsed<Vec<(String, String)>> {
        self.word("dict")?;
        self.sign("<")?;
        self.word("string")?;
        self.sign(",")?;
        self.word("string")?;
        self.sign(">")?;
        self.sign("(")?;
        self.sign("{")?;
        let pairs = self.list("}", |parser| {
            parser.sign("{")?;
            let name = parser.quoted()?;
            parser.sign(",")?;
            let value = parser.quoted()?;
            parser.sign("}")?;
            Ok((name, value))
        })?;
        self.sign(")")?;
        Ok(pairs)
    }

    fn function(&mut self) -> Parsed<Function> {
        self.word("func")?;
        let name = self.name("the name of a function")?;
        self.sign("<")?;
        let opset = self.name("a set of operations")?;
        self.sign(">")?;
        self.sign("(")?;
        let inputs = self.list(")", |parser| {
            let ty = parser.ty()?;
            Ok((ty, parser.name("the name of an input")?))
        })?;
        self.sign("{")?;
        let mut body = Vec::new();
        while !self.taken("}") {
            if body.len() == MOST_OPERATIONS {
                return Err(self.wrong(format!("a function has more than {MOST_OPERATIONS} operations")));
            }
            body.push(self.operation()?);
        }
        self.sign("->")?;
        self.sign("(")?;
        let outputs = self.list(")", |parser| parser.name("the name of an output"))?;
        self.sign(";")?;
        Ok(Function { name, opset, inputs, body, outputs })
    }

    fn operation(&mut self) -> Parsed<Operation> {
        let ty = self.ty()?;
        let result = self.name("the name of a result")?;
        self.sign("=")?;
        let op = self.name("an operation")?;
        self.sign("(")?;
        let arguments = self.list(")", |parser| {
            let name = parser.name("a parameter")?;
            parser.sign("=")?;
            Ok((name, parser.argument()?))
        })?;
        self.sign("[")?;
        let attributes = self.list("]", |parser| {
            let name = parser.name("an attribute")?;
            parser.sign("=")?;
            Ok((name, parser.value()?))
        })?;
        self.sign(";")?;
        Ok(Operation { ty, result, op, arguments, attributes })
    }

    fn argument(&mut self) -> Parsed<Argument> {
        if self.taken("(") {
            return Ok(Argument::Names(self.list(")", |parser| parser.name("a name"))?));
        }
        // A value begins with a type and a parenthesis; names that look like types are names.
        let begin = self.at;
        let word = self.peek();
        if word == "tensor" || Scalar::of(word).is_some() {
            let is_value = self.ty().is_ok() && self.taken("(");
            self.at = begin;
            if is_value {
                return Ok(Argument::Value(self.value()?));
            }
        }
        Ok(Argument::Name(self.name("a name or a value")?))
    }

    fn ty(&mut self) -> Parsed<Type> {
        let word = self.peek();
        if word != "tensor" {
            let scalar = self.scalar()?;
            return Ok(Type::Scalar(scalar));
        }
        self.at += word.len();
        self.sign("<")?;
        let scalar = self.scalar()?;
        self.sign(",")?;
        self.sign("[")?;
        let shape = self.list("]", |parser| {
            let size = parser.peek();
            let number: u64 = size.parse().map_err(|_| parser.expected("a size"))?;
            parser.at += size.len();
            Ok(number)
        })?;
        self.sign(">")?;
        Ok(Type::Tensor(scalar, shape))
    }

    fn scalar(&mut self) -> Parsed<Scalar> {
        let word = self.peek();
        let scalar = Scalar::of(word).ok_or_else(|| self.expected("a type"))?;
        self.at += word.len();
        Ok(scalar)
    }

    fn value(&mut self) -> Parsed<Value> {
        let ty = self.ty()?;
        self.sign("(")?;
        let literal = self.literal(0)?;
        self.sign(")")?;
        Ok(Value { ty, literal })
    }

    fn literal(&mut self, depth: u32) -> Parsed<Literal> {
        if depth > DEPTH {
            return Err(self.wrong(format!("lists are nested deeper than {DEPTH}")));
        }
        self.space();
        if self.rest().starts_with('"') {
            return Ok(Literal::Text(self.quoted()?));
        }
        if self.taken("[") {
            return Ok(Literal::List(self.list("]", |parser| parser.literal(depth + 1))?));
        }
        match self.peek() {
            "true" | "false" => {
                let value = self.peek() == "true";
                self.at += self.peek().len();
                Ok(Literal::Bool(value))
            }
            "BLOBFILE" => self.blob(),
            _ => self.number(),
        }
    }

    fn blob(&mut self) -> Parsed<Literal> {
        self.word("BLOBFILE")?;
        self.sign("(")?;
        self.word("path")?;
        self.sign("=")?;
        let path = self.value()?;
        self.sign(",")?;
        self.word("offset")?;
        self.sign("=")?;
        let offset = self.value()?;
        self.sign(")")?;
        match (path.literal, offset.literal) {
            (Literal::Text(path), Literal::Int(offset)) if offset >= 0 => {
                Ok(Literal::Blob { path, offset: offset.unsigned_abs() })
            }
            _ => Err(self.wrong("BLOBFILE takes a path as text and a place as a whole number")),
        }
    }

    fn number(&mut self) -> Parsed<Literal> {
        let rest = self.rest();
        let is_part = |letter: char| letter.is_ascii_alphanumeric() || "+-.".contains(letter);
        let end = rest.find(|letter| !is_part(letter)).unwrap_or(rest.len());
        let text = &rest[..end];
        let literal = match text.parse::<i64>() {
            Ok(whole) => Some(Literal::Int(whole)),
            Err(_) => hexadecimal(text).or_else(|| decimal(text)).map(Literal::Real),
        };
        let literal = literal.ok_or_else(|| self.expected("a literal"))?;
        self.at += end;
        Ok(literal)
    }

    fn quoted(&mut self) -> Parsed<String> {
        if !self.taken("\"") {
            return Err(self.expected("text in quotes"));
        }
        let mut text = String::new();
        let mut letters = self.rest().char_indices();
        while let Some((at, letter)) = letters.next() {
            match letter {
                '"' => {
                    self.at += at + 1;
                    return Ok(text);
                }
                '\\' => match letters.next() {
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, 't')) => text.push('\t'),
                    Some((_, 'r')) => text.push('\r'),
                    Some((_, escaped)) => text.push(escaped),
                    None => break,
                },
                // A forgotten quote is found on its line, and not where another begins.
                '\n' => break,
                other => text.push(other),
            }
        }
        Err(self.wrong("the text in quotes does not end on its line"))
    }
}

/// A decimal number with a point or an exponent; words such as `inf` and `nan` are none.
fn decimal(text: &str) -> Option<f64> {
    let plain = text.chars().all(|letter| letter.is_ascii_digit() || "+-.eE".contains(letter));
    let value: f64 =
        text.parse().ok().filter(|_| plain && text.contains(|letter: char| letter.is_ascii_digit()))?;
    value.is_finite().then_some(value)
}

/// `0x1.8p-3`: the form that C prints with `%a`.
fn hexadecimal(text: &str) -> Option<f64> {
    let (negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let digits = rest.strip_prefix("0x").or_else(|| rest.strip_prefix("0X"))?;
    let (mantissa, exponent) = digits.split_once(['p', 'P'])?;
    let exponent: i32 = exponent.parse().ok().filter(|exponent: &i32| exponent.abs() < 2000)?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() || whole.len() + fraction.len() > 14 {
        return None;
    }
    let bits = u64::from_str_radix(&format!("{whole}{fraction}"), 16).ok()?;
    let value = bits as f64 * 2f64.powi(exponent - 4 * fraction.len() as i32);
    value.is_finite().then_some(if negative { -value } else { value })
}
