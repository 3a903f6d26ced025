//! A small reader of Rust source: tokens with their lines, the paths they name, and which of them are test code.
//! It knows as much of the language as the rules need, and no more.

use std::{collections::BTreeMap, fs, path::Path};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    Word(String),
    /// The content of a string literal, as written.
    Text(String),
    Mark(char),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) token: Token,
    pub(crate) line: usize,
}

/// A path as code names it, with `crate`, `self` and `super` resolved: `["crate", "wire", "sip"]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) segments: Vec<String>,
    pub(crate) line: usize,
}

/// One source file.
#[derive(Clone, Debug)]
pub(crate) struct File {
    /// Relative to the package, such as `src/wire/sip/mod.rs`.
    pub(crate) path: String,
    pub(crate) text: String,
    /// Without test code.
    pub(crate) tokens: Vec<Placed>,
    pub(crate) all_tokens: Vec<Placed>,
    /// The module the file is: `["crate", "wire", "sip"]`.
    pub(crate) module: Vec<String>,
}

impl File {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let all_tokens = tokens(text);
        let tokens = without_tests(&all_tokens);
        Self { path: path.to_owned(), text: text.to_owned(), tokens, all_tokens, module: module_of(path) }
    }

    /// Every path that code outside tests names.
    pub(crate) fn paths(&self) -> Vec<Named> {
        paths(&self.tokens, &self.module)
    }

    /// Every path, test code included.
    pub(crate) fn all_paths(&self) -> Vec<Named> {
        paths(&self.all_tokens, &self.module)
    }

    /// Modules declared by `mod name;`, and whether only for tests.
    pub(crate) fn declared_modules(&self) -> Vec<(String, bool)> {
        let declared = |tokens: &[Placed]| -> Vec<String> {
            tokens
                .windows(3)
                .filter_map(|w| match (&w[0].token, &w[1].token, &w[2].token) {
                    (Token::Word(word), Token::Word(name), Token::Mark(';')) if word == "mod" => Some(name.clone()),
                    _ => None,
                })
                .collect()
        };
        let real = declared(&self.tokens);
        declared(&self.all_tokens).into_iter().map(|name| (name.clone(), !real.contains(&name))).collect()
    }
}

/// All Rust files under a folder, by path relative to `root`.
pub(crate) fn read_tree(root: &Path, folder: &str) -> BTreeMap<String, File> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(root.join(&folder)) else { continue };
        for entry in entries.flatten() {
            let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
            if entry.path().is_dir() {
                folders.push(path);
            } else if Path::new(&path).extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(entry.path()).expect("source is UTF-8");
                found.insert(path.clone(), File::new(&path, &text));
            }
        }
    }
    found
}

fn module_of(path: &str) -> Vec<String> {
    let inner = path.trim_start_matches("src/").trim_end_matches(".rs");
    let inner = inner.trim_end_matches("/mod");
    let mut module = vec!["crate".to_owned()];
    if inner != "lib" && inner != "main" {
        module.extend(inner.split('/').map(str::to_owned));
    }
    module
}

/// Splits source into words, string literals and marks; comments, characters, lifetimes and numbers are left out.
fn tokens(text: &str) -> Vec<Placed> {
    let chars: Vec<char> = text.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let (mut out, mut i, mut line) = (Vec::new(), 0, 1);
    while i < chars.len() {
        let (begin, begin_line) = (i, line);
        let mut push = |token| out.push(Placed { token, line: begin_line });
        match at(i) {
            '/' if at(i + 1) == '/' => {
                while i < chars.len() && at(i) != '\n' {
                    i += 1;
                }
            }
            '/' if at(i + 1) == '*' => i = after_block_comment(&chars, i),
            '"' => {
                let end = after_string(&chars, i);
                push(Token::Text(chars[i + 1..end.saturating_sub(1).max(i + 1)].iter().collect()));
                i = end;
            }
            '\'' if at(i + 1) == '\\' => {
                // An escaped character: to the closing quote after it.
                i += 3;
                while i < chars.len() && at(i) != '\'' {
                    i += 1;
                }
                i += 1;
            }
            '\'' if at(i + 2) == '\'' => i += 3,
            // A lifetime.
            '\'' => {
                i += 1;
                while is_word(at(i)) {
                    i += 1;
                }
            }
            c if c.is_ascii_digit() => {
                while is_word(at(i)) || (at(i) == '.' && at(i + 1).is_ascii_digit()) {
                    i += 1;
                }
            }
            c if is_word(c) => {
                while is_word(at(i)) {
                    i += 1;
                }
                let word: String = chars[begin..i].iter().collect();
                let hashes = (0..).take_while(|k| at(i + k) == '#').count();
                let is_raw = matches!(word.as_str(), "r" | "br" | "cr") && at(i + hashes) == '"';
                if is_raw {
                    let close: String = format!("\"{}", "#".repeat(hashes));
                    let rest: String = chars[i + hashes + 1..].iter().collect();
                    let content = rest.split(&close).next().unwrap_or_default();
                    push(Token::Text(content.to_owned()));
                    i += hashes + 1 + content.chars().count() + close.len();
                } else if !(matches!(word.as_str(), "b" | "c") && matches!(at(i), '"' | '\'')) {
                    push(Token::Word(word));
                }
            }
            c if c.is_whitespace() => i += 1,
            c => {
                push(Token::Mark(c));
                i += 1;
            }
        }
        line += chars[begin..i.min(chars.len())].iter().filter(|c| **c == '\n').count();
    }
    out
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

fn after_block_comment(chars: &[char], begin: usize) -> usize {
    let (mut depth, mut i) = (0usize, begin);
    while i < chars.len() {
        match (chars[i], chars.get(i + 1)) {
            ('/', Some('*')) => {
                depth += 1;
                i += 2;
            }
            ('*', Some('/')) => {
                depth -= 1;
                i += 2;
                if depth == 0 {
                    return i;
                }
            }
            _ => i += 1,
        }
    }
    i
}

fn after_string(chars: &[char], begin: usize) -> usize {
    let mut i = begin + 1;
    while i < chars.len() && chars[i] != '"' {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    (i + 1).min(chars.len())
}

/// Drops every item under `#[cfg(test)]`, and files that are one as a whole have no tokens left.
fn without_tests(tokens: &[Placed]) -> Vec<Placed> {
    let (mut out, mut i) = (Vec::new(), 0);
    while i < tokens.len() {
        if is_marked_as_test(&tokens[i..]) {
            i = after_item(tokens, i);
        } else {
            out.push(tokens[i].clone());
            i += 1;
        }
    }
    out
}

/// `# [ cfg ( ... test ... ) ]`, but not `not(test)`.
fn is_marked_as_test(tokens: &[Placed]) -> bool {
    let word = |i: usize, w: &str| matches!(tokens.get(i).map(|t| &t.token), Some(Token::Word(t)) if t == w);
    let mark = |i: usize, m: char| tokens.get(i).is_some_and(|t| t.token == Token::Mark(m));
    if !(mark(0, '#') && mark(1, '[') && word(2, "cfg")) {
        return false;
    }
    let attribute = tokens.iter().take_while(|t| t.token != Token::Mark(']'));
    let words: Vec<&str> = attribute
        .filter_map(|t| match &t.token {
            Token::Word(w) => Some(w.as_str()),
            Token::Text(_) | Token::Mark(_) => None,
        })
        .collect();
    words.contains(&"test") && !words.contains(&"not")
}

/// The end of the item that begins here with its attributes: its closing brace, or its semicolon.
fn after_item(tokens: &[Placed], begin: usize) -> usize {
    let (mut depth, mut i) = (0usize, begin);
    while i < tokens.len() {
        match tokens[i].token {
            Token::Mark('(' | '[' | '{') => depth += 1,
            Token::Mark(')' | ']') => depth = depth.saturating_sub(1),
            Token::Mark('}') => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return i + 1;
                }
            }
            Token::Mark(';') if depth == 0 => return i + 1,
            Token::Mark(_) | Token::Word(_) | Token::Text(_) => {}
        }
        i += 1;
    }
    i
}

/// Every path in the tokens, groups of `use` taken apart.
fn paths(tokens: &[Placed], module: &[String]) -> Vec<Named> {
    let (mut out, mut i) = (Vec::new(), 0);
    // Inline modules: the depth at which each one's brace opened.
    let (mut inner, mut depth) = (Vec::<(String, usize)>::new(), 0usize);
    while i < tokens.len() {
        match &tokens[i].token {
            Token::Mark('{') => depth += 1,
            Token::Mark('}') => {
                depth = depth.saturating_sub(1);
                if inner.last().is_some_and(|(_, at)| *at == depth) {
                    inner.pop();
                }
            }
            Token::Word(word) if word == "mod" => {
                if let (Some(Token::Word(name)), Some(Token::Mark('{'))) =
                    (tokens.get(i + 1).map(|t| &t.token), tokens.get(i + 2).map(|t| &t.token))
                {
                    inner.push((name.clone(), depth));
                }
            }
            Token::Word(_) => {
                let mut here = module.to_vec();
                here.extend(inner.iter().map(|(name, _)| name.clone()));
                let mut found = Vec::new();
                i = tree(tokens, i, &[], &mut found);
                out.extend(found.into_iter().map(|n| Named { segments: resolve(n.segments, &here), line: n.line }));
                continue;
            }
            Token::Mark(_) | Token::Text(_) => {}
        }
        i += 1;
    }
    out
}

/// Reads one path or `use` tree from `i` on; returns where it ends.
fn tree(tokens: &[Placed], begin: usize, prefix: &[String], out: &mut Vec<Named>) -> usize {
    let (mut segments, mut i) = (prefix.to_vec(), begin);
    let line = tokens[begin].line;
    loop {
        match tokens.get(i).map(|t| &t.token) {
            Some(Token::Word(word)) => {
                segments.push(word.clone());
                i += 1;
            }
            Some(Token::Mark('*')) => {
                segments.push("*".to_owned());
                i += 1;
                break;
            }
            Some(Token::Mark('{')) => {
                i += 1;
                while let Some(placed) = tokens.get(i) {
                    match placed.token {
                        Token::Mark('}') => break,
                        // `as name`: the name is no path.
                        Token::Word(ref word) if word == "as" => i += 2,
                        Token::Word(_) => i = tree(tokens, i, &segments, out),
                        Token::Mark(_) | Token::Text(_) => i += 1,
                    }
                }
                return i + 1;
            }
            _ => break,
        }
        let is_colon = |at: usize| tokens.get(at).is_some_and(|t| t.token == Token::Mark(':'));
        let goes_on = matches!(tokens.get(i + 2).map(|t| &t.token), Some(Token::Word(_) | Token::Mark('{' | '*')));
        if is_colon(i) && is_colon(i + 1) && goes_on {
            i += 2;
        } else {
            break;
        }
    }
    out.push(Named { segments, line });
    i
}

fn resolve(mut segments: Vec<String>, here: &[String]) -> Vec<String> {
    match segments.first().map(String::as_str) {
        Some("self") if segments.len() > 1 => {
            segments.splice(..1, here.iter().cloned());
        }
        Some("super") => {
            let ups = segments.iter().take_while(|s| *s == "super").count();
            let kept = here.len().saturating_sub(ups).max(1);
            segments.splice(..ups, here[..kept].iter().cloned());
        }
        _ => {}
    }
    segments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(path: &str, text: &str) -> Vec<String> {
        File::new(path, text).paths().into_iter().map(|n| n.segments.join("::")).filter(|p| p.contains("::")).collect()
    }

    #[test]
    fn comments_strings_characters_and_lifetimes_are_no_code() {
        let text = "// crate::a\n/* crate::b /* crate::c */ */ let x: &'a str = \"crate::d\"; let y = '\"'; \
                    let z = r#\"crate::\"e\"#; let w = b'\\''; crate::f";
        assert_eq!(named("src/wire/x.rs", text), ["crate::f"]);
        let texts: Vec<_> = tokens(text)
            .into_iter()
            .filter_map(|t| if let Token::Text(t) = t.token { Some(t) } else { None })
            .collect();
        assert_eq!(texts, ["crate::d", "crate::\"e"]);
    }

    #[test]
    fn groups_are_taken_apart_and_relative_paths_resolved() {
        let text =
            "use crate::{a::{b, c::d}, e as f, g::*}; use super::super::h; mod i { use super::j::k; } self::l::m";
        let wanted = [
            "crate::a::b",
            "crate::a::c::d",
            "crate::e",
            "crate::g::*",
            "crate::h",
            "crate::wire::x::j::k",
            "crate::wire::x::l::m",
        ];
        assert_eq!(named("src/wire/x.rs", text), wanted);
    }

    #[test]
    fn test_code_is_left_out() {
        let text = "#[cfg(test)] mod tests { use crate::a::b; } #[cfg(not(test))] fn f() { crate::c::d } \
                    #[cfg(test)] mod fixture; mod real; #[cfg(test)] use crate::e::f; crate::g::h";
        assert_eq!(named("src/wire/x.rs", text), ["crate::c::d", "crate::g::h"]);
        let file = File::new("src/wire/x.rs", text);
        assert_eq!(file.declared_modules(), [("fixture".to_owned(), true), ("real".to_owned(), false)]);
    }

    #[test]
    fn lines_are_counted_through_strings_and_comments() {
        let file = File::new("src/x.rs", "/* a\n */ \"b\nc\" // d\ncrate::e");
        assert_eq!(file.paths().first().map(|n| n.line), Some(4));
    }
}
