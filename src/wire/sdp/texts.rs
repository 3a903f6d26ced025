//! Lists of short texts, each in one piece of memory, which clones share: every section of every call has two of them.

use std::{fmt, sync::Arc};

/// Payload types or format names, in order of preference.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct FormatNames(Arc<str>);

impl FormatNames {
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.split_ascii_whitespace()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Of words, as the grammar has them (`token` of RFC 8866 section 9).
impl<T: AsRef<str>> FromIterator<T> for FormatNames {
    fn from_iter<I: IntoIterator<Item = T>>(names: I) -> Self {
        let mut text = String::new();
        for name in names {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(name.as_ref());
        }
        Self(text.into())
    }
}

impl fmt::Debug for FormatNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Name and value of an `a=` line.
pub type Attribute<'a> = (&'a str, Option<&'a str>);

/// `a=` lines in order.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Attributes(Arc<str>);

impl Attributes {
    pub fn iter(&self) -> impl Iterator<Item = Attribute<'_>> {
        self.0.split_terminator(LINE_END).map(|line| match line.split_once(':') {
            Some((name, value)) => (name, Some(value)),
            None => (line, None),
        })
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Where a line ends in the text: no part of one has it.
const LINE_END: char = '\n';

/// Names without `:`, and values of one line.
impl<N: AsRef<str>, V: AsRef<str>> FromIterator<(N, Option<V>)> for Attributes {
    fn from_iter<I: IntoIterator<Item = (N, Option<V>)>>(attributes: I) -> Self {
        let mut text = String::new();
        for (name, value) in attributes {
            text.push_str(name.as_ref());
            if let Some(value) = value {
                text.push(':');
                text.push_str(value.as_ref());
            }
            text.push(LINE_END);
        }
        Self(text.into())
    }
}

impl fmt::Debug for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_hold_what_they_are_made_of() {
        let names: FormatNames = ["0", "8", "101"].into_iter().collect();
        assert_eq!(names.iter().collect::<Vec<_>>(), ["0", "8", "101"]);
        assert!(FormatNames::default().is_empty() && FormatNames::default().iter().next().is_none());

        let lines = [("rtpmap", Some("0 PCMU/8000")), ("inactive", None), ("fmtp", Some("")), ("x", Some("a:b"))];
        let attributes: Attributes = lines.into_iter().collect();
        assert_eq!(attributes.iter().collect::<Vec<_>>(), lines);
        assert!(Attributes::default().is_empty() && Attributes::default().iter().next().is_none());
    }
}
