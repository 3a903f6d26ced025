//! Walks a TOML document table by table and reports everything it cannot use, with line and key.
//!
//! Only this file knows the TOML library. It knows no key: [`super::sections`] asks for each by name, and what was never
//! asked for is unknown.

use std::{cell::RefCell, ops::RangeInclusive};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{Problem, Severity};

/// Why a value is not accepted: what it is not (to stand behind the value), and what would be accepted.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) what: String,
    pub(super) remedy: String,
}

impl Fault {
    pub(super) fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: remedy.into() }
    }
}

/// Parses `text`, lets `build` read it through the root [`Section`] and `further` look at what it built, which is returned
/// unless something is wrong.
pub(super) fn read<T>(
    text: &str,
    build: impl FnOnce(&mut Section<'_>) -> T,
    further: impl FnOnce(&T) -> Vec<Problem>,
) -> Result<(T, Vec<Problem>), Vec<Problem>> {
    let report = Report { text, problems: RefCell::default() };
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        // What follows a syntax error may mean anything; reading on would report keys that are not wrong.
        for error in errors {
            let line = error.span().map_or(0, |span| report.line(span.start));
            let remedy = "TOML: key = value, text in quotes, tables as [name]";
            report.add(Severity::Error, line, String::new(), error.message().replace('\n', ", "), remedy.to_owned());
        }
        return Err(report.problems.into_inner());
    }
    let mut root =
        Section { report: &report, path: String::new(), line: 0, table: Some(table.get_ref()), asked: Vec::new() };
    let built = build(&mut root);
    root.finish();
    let mut problems = report.problems.into_inner();
    problems.extend(further(&built));
    // Where no line can be named, the problem is something that is missing: last.
    problems.sort_by_key(|p| (p.line == 0, p.line));
    if problems.iter().any(|p| p.severity == Severity::Error) { Err(problems) } else { Ok((built, problems)) }
}

/// Collects problems while sections are read.
struct Report<'t> {
    text: &'t str,
    problems: RefCell<Vec<Problem>>,
}

impl Report<'_> {
    fn add(&self, severity: Severity, line: usize, key: String, message: String, remedy: String) {
        self.problems.borrow_mut().push(Problem { severity, line, key, message, remedy });
    }

    /// 1-based line of a byte offset.
    fn line(&self, offset: usize) -> usize {
        let before = &self.text.as_bytes()[..offset.min(self.text.len())];
        before.split(|&b| b == b'\n').count()
    }
}

/// One table, present or not. Asking for a key makes it known; [`Section::finish`] refuses the others.
pub(super) struct Section<'t> {
    report: &'t Report<'t>,
    path: String,
    line: usize,
    table: Option<&'t DeTable<'t>>,
    asked: Vec<&'static str>,
}

impl<'t> Section<'t> {
    /// Text that `parse` accepts. `None`: absent, or reported.
    pub(super) fn text<T>(&mut self, key: &'static str, parse: impl Fn(&str) -> Result<T, Fault>) -> Option<T> {
        let value = self.value(key)?;
        self.accept(&self.key(key), value, parse)
    }

    /// As [`Section::text`], for a value that no message may show.
    pub(super) fn private_text<T>(&mut self, key: &'static str, parse: impl Fn(&str) -> Result<T, Fault>) -> Option<T> {
        let value = self.value(key)?;
        match value.get_ref().as_str().map(parse) {
            Some(Ok(parsed)) => return Some(parsed),
            Some(Err(fault)) => self.error(key, format!("the value {}", fault.what), fault.remedy),
            None => self.error(key, "the value is not text".to_owned(), "text in quotes"),
        }
        None
    }

    /// A list of texts that `parse` accepts, without duplicates. Every wrong element is reported, and a list that has one
    /// is `None`: what is left of it would only cause further reports.
    pub(super) fn texts<T: PartialEq>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, Fault>,
    ) -> Option<Vec<T>> {
        let value = self.value(key)?;
        let Some(elements) = value.get_ref().as_array() else {
            self.wrong_type(&self.key(key), value, "a list in brackets, such as [\"...\", \"...\"]");
            return None;
        };
        let mut accepted = Vec::new();
        for element in elements {
            let Some(parsed) = self.accept(&self.key(key), element, &parse) else { continue };
            if accepted.contains(&parsed) {
                let text = element.get_ref().as_str().unwrap_or_default();
                self.add(
                    Severity::Error,
                    self.line_at(element),
                    &self.key(key),
                    format!("{text:?} is listed twice"),
                    "each entry once",
                );
            }
            accepted.push(parsed);
        }
        (accepted.len() == elements.len()).then_some(accepted)
    }

    /// As [`Section::texts`], for values that no message may show: their place in the list stands for them.
    pub(super) fn private_texts<T: PartialEq>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, Fault>,
    ) -> Option<Vec<T>> {
        let value = self.value(key)?;
        let Some(elements) = value.get_ref().as_array() else {
            self.wrong_type(&self.key(key), value, "a list in brackets, such as [\"...\", \"...\"]");
            return None;
        };
        let mut accepted = Vec::new();
        for (number, element) in (1..).zip(elements) {
            let fault = match element.get_ref().as_str().map(&parse) {
                Some(Ok(parsed)) if accepted.contains(&parsed) => Fault::new("is listed twice", "each entry once"),
                Some(Ok(parsed)) => {
                    accepted.push(parsed);
                    continue;
                }
                Some(Err(fault)) => fault,
                None => Fault::new("is not text", "text in quotes"),
            };
            let message = format!("entry {number} {}", fault.what);
            self.add(Severity::Error, self.line_at(element), &self.key(key), message, fault.remedy);
        }
        (accepted.len() == elements.len()).then_some(accepted)
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&mut self, key: &'static str, choices: &[(&str, T)]) -> Option<T> {
        self.text(key, |text| {
            let found = choices.iter().find(|(word, _)| *word == text);
            found.map(|(_, choice)| *choice).ok_or_else(|| {
                let words: Vec<_> = choices.iter().map(|(word, _)| format!("{word:?}")).collect();
                Fault::new("is not known", format!("one of {}", words.join(", ")))
            })
        })
    }

    pub(super) fn boolean(&mut self, key: &'static str) -> Option<bool> {
        let value = self.value(key)?;
        let boolean = value.get_ref().as_bool();
        if boolean.is_none() {
            self.wrong_type(&self.key(key), value, "true or false, without quotes");
        }
        boolean
    }

    pub(super) fn integer(&mut self, key: &'static str, accepted: RangeInclusive<u16>) -> Option<u16> {
        let value = self.value(key)?;
        let remedy = format!("a whole number from {} to {}, without quotes", accepted.start(), accepted.end());
        let Some(integer) = value.get_ref().as_integer() else {
            self.wrong_type(&self.key(key), value, &remedy);
            return None;
        };
        let number = u16::from_str_radix(integer.as_str(), integer.radix()).ok().filter(|n| accepted.contains(n));
        if number.is_none() {
            self.error(key, format!("{integer} is out of range"), remedy);
        }
        number
    }

    /// A list of whole numbers, without duplicates; `None`: absent, or reported.
    pub(super) fn integers(&mut self, key: &'static str, accepted: RangeInclusive<u16>) -> Option<Vec<u16>> {
        let value = self.value(key)?;
        let remedy = format!("a list of whole numbers from {} to {}, each once", accepted.start(), accepted.end());
        let Some(elements) = value.get_ref().as_array() else {
            self.wrong_type(&self.key(key), value, &remedy);
            return None;
        };
        let mut numbers = Vec::new();
        for element in elements {
            let integer = element.get_ref().as_integer();
            let number = integer.and_then(|i| u16::from_str_radix(i.as_str(), i.radix()).ok());
            match number.filter(|n| accepted.contains(n) && !numbers.contains(n)) {
                Some(number) => numbers.push(number),
                None => {
                    let what = integer.map_or_else(|| element.get_ref().type_str().to_owned(), ToString::to_string);
                    self.error(key, format!("{what} is not accepted"), remedy.as_str());
                }
            }
        }
        (numbers.len() == elements.len()).then_some(numbers)
    }

    /// A table below this one; empty if absent.
    pub(super) fn section(&mut self, key: &'static str) -> Self {
        let value = self.value(key);
        let table = value.and_then(|v| v.get_ref().as_table());
        if let (Some(value), None) = (value, table) {
            self.wrong_type(&self.key(key), value, &format!("a table: [{}]", self.key(key)));
        }
        let line = if table.is_some() { self.line_of(key) } else { 0 };
        Self { report: self.report, path: self.key(key), line, table, asked: Vec::new() }
    }

    /// Tables below this one that the operator names, in the order of the file.
    pub(super) fn named_sections(&mut self) -> Vec<(String, Self)> {
        let mut sections = Vec::new();
        let mut entries: Vec<_> = self.table.into_iter().flatten().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        for (name, value) in entries {
            let path = self.key(name.get_ref());
            let table = value.get_ref().as_table();
            if table.is_none() {
                self.wrong_type(&path, value, &format!("a table: [{path}]"));
            }
            let line = self.report.line(name.span().start);
            sections
                .push((name.get_ref().to_string(), Self { report: self.report, path, line, table, asked: Vec::new() }));
        }
        self.table = None;
        sections
    }

    /// Texts under keys that the operator chooses; `parse` sees key and value. Faults speak of both.
    pub(super) fn named_texts<T>(&mut self, parse: impl Fn(&str, &str) -> Result<T, Fault>) -> Vec<T> {
        let mut parsed = Vec::new();
        for (name, value) in self.table.into_iter().flatten() {
            parsed.extend(self.accept(&self.key(name.get_ref()), value, |text| parse(name.get_ref(), text)));
        }
        self.table = None;
        parsed
    }

    /// Whether the key holds a list without elements.
    pub(super) fn is_empty_list(&self, key: &str) -> bool {
        let list = self.table.and_then(|t| t.get(key)).and_then(|v| v.get_ref().as_array());
        list.is_some_and(|elements| elements.is_empty())
    }

    pub(super) fn is_present(&self) -> bool {
        self.table.is_some()
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|t| t.contains_key(key))
    }

    /// Whether the key holds a table, for keys that take a word or a table.
    pub(super) fn holds_table(&self, key: &str) -> bool {
        self.table.and_then(|t| t.get(key)).is_some_and(|v| v.get_ref().is_table())
    }

    pub(super) fn error(&self, key: &str, message: impl Into<String>, remedy: impl Into<String>) {
        self.add(Severity::Error, self.line_of(key), &self.key(key), message, remedy);
    }

    pub(super) fn warn(&self, key: &str, message: impl Into<String>, remedy: impl Into<String>) {
        self.add(Severity::Warning, self.line_of(key), &self.key(key), message, remedy);
    }

    /// Refuses every key that was not asked for.
    pub(super) fn finish(&self) {
        for (name, _) in
            self.table.into_iter().flatten().filter(|(name, _)| !self.asked.contains(&name.get_ref().as_ref()))
        {
            let name_text = name.get_ref().as_ref();
            let remedy = match nearest(name_text, &self.asked) {
                Some(nearest) => format!("did you mean {nearest:?}?"),
                None => format!("remove it; known here: {}", self.asked.join(", ")),
            };
            let line = self.report.line(name.span().start);
            self.add(Severity::Error, line, &self.key(name_text), "this key is not known", remedy);
        }
    }

    fn value(&mut self, key: &'static str) -> Option<&'t Spanned<DeValue<'t>>> {
        self.asked.push(key);
        self.table?.get(key)
    }

    fn accept<T>(
        &self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        parse: impl Fn(&str) -> Result<T, Fault>,
    ) -> Option<T> {
        let Some(text) = value.get_ref().as_str() else {
            self.wrong_type(key, value, "text in quotes");
            return None;
        };
        let fault = match parse(text) {
            Ok(parsed) => return Some(parsed),
            Err(fault) => fault,
        };
        self.add(Severity::Error, self.line_at(value), key, format!("{text:?} {}", fault.what), fault.remedy);
        None
    }

    fn wrong_type(&self, key: &str, value: &Spanned<DeValue<'_>>, remedy: &str) {
        let message = format!("the value is of type {}", value.get_ref().type_str());
        self.add(Severity::Error, self.line_at(value), key, message, remedy);
    }

    fn add(&self, severity: Severity, line: usize, key: &str, message: impl Into<String>, remedy: impl Into<String>) {
        self.report.add(severity, line, key.to_owned(), message.into(), remedy.into());
    }

    /// The line of a key's value, or of the table where the key is absent or empty.
    pub(super) fn line_of(&self, key: &str) -> usize {
        let entry = self.table.and_then(|t| t.get_key_value(key));
        entry.map_or(self.line, |(name, _)| self.report.line(name.span().start))
    }

    fn line_at(&self, value: &Spanned<DeValue<'_>>) -> usize {
        self.report.line(value.span().start)
    }

    /// Dotted name of a key of this table; the table's own for an empty key.
    fn key(&self, key: &str) -> String {
        match (self.path.as_str(), key) {
            ("", key) => key.to_owned(),
            (path, "") => path.to_owned(),
            (path, key) => format!("{path}.{key}"),
        }
    }
}

/// The known name most like `name`: a few letters away, or with all of `name` in it. `None` if none is like it.
fn nearest(name: &str, known: &[&'static str]) -> Option<&'static str> {
    let distance_to = |k: &str| edit_distance(&name.to_lowercase(), &k.to_lowercase());
    let (distance, nearest) = known.iter().map(|&k| (distance_to(k), k)).min()?;
    if distance <= nearest.len().div_ceil(3) {
        return Some(nearest);
    }
    known.iter().copied().find(|k| name.len() > 2 && k.contains(name))
}

/// Levenshtein's distance in characters, case included.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, &to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_key_is_answered_with_the_nearest_one() {
        let known = ["domain", "state_dir", "password_file", "A1"];
        assert_eq!(nearest("domian", &known), Some("domain"));
        assert_eq!(nearest("statedir", &known), Some("state_dir"));
        assert_eq!(nearest("password", &known), Some("password_file"));
        assert_eq!(nearest("a1", &known), Some("A1"));
        assert_eq!(nearest("recording", &known), None);
        assert_eq!(nearest("x", &[]), None);
    }

    #[test]
    fn edit_distance_counts_single_changes() {
        for (a, b, distance) in [("", "", 0), ("abc", "", 3), ("", "abc", 3), ("kitten", "sitting", 3), ("ab", "ba", 2)]
        {
            assert_eq!(edit_distance(a, b), distance, "{a} {b}");
        }
    }
}
