//! Lines, fields and byte classes: the lowest layer of reading, shared by framer, index and views, so that they cannot
//! disagree about where a line or a header section ends.

use memchr::{memchr, memchr2};

/// A physical line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Where its text ends.
    pub(super) end: usize,
    /// Where the next line starts.
    pub(super) next: usize,
    /// Whether it ends with CRLF and holds no other CR (RFC 3261 section 7).
    pub(super) is_clean: bool,
}

/// The line that starts at `from`, or `None` while its end is not there. A bare LF ends a line too, but not a clean one.
pub(super) fn line(bytes: &[u8], from: usize) -> Option<Line> {
    let mut at = from;
    let mut is_clean = true;
    loop {
        at += memchr2(b'\r', b'\n', &bytes[at..])?;
        match (bytes[at], bytes.get(at + 1)) {
            (b'\n', _) => return Some(Line { end: at, next: at + 1, is_clean: false }),
            (_, Some(b'\n')) => return Some(Line { end: at, next: at + 2, is_clean }),
            (_, None) => return None,
            (_, Some(_)) => {
                is_clean = false;
                at += 1;
            }
        }
    }
}

/// Whether the line that starts at `next` continues the one before it (RFC 3261 section 7.3.1).
pub(super) fn is_folded(bytes: &[u8], next: usize) -> bool {
    matches!(bytes.get(next), Some(b' ' | b'\t'))
}

/// `name: value` fields of a raw header section, folds still inside the values. Lines without a colon are left out.
///
/// Starts at the field at `from`; ends at the empty line or with the bytes.
pub(super) fn fields(bytes: &[u8], from: usize) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut at = from;
    std::iter::from_fn(move || {
        let line = logical_line(bytes, at)?;
        let text = &bytes[at..line.end];
        at = line.next;
        (!text.is_empty()).then_some(text)
    })
    .filter_map(split_field)
}

/// The line that starts at `from` with all lines that continue it.
pub(super) fn logical_line(bytes: &[u8], from: usize) -> Option<Line> {
    let mut whole = line(bytes, from)?;
    while whole.end > from && is_folded(bytes, whole.next) {
        let more = line(bytes, whole.next)?;
        whole = Line { is_clean: whole.is_clean && more.is_clean, ..more };
    }
    Some(whole)
}

fn split_field(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = memchr(b':', text)?;
    Some((trim_lws(&text[..colon]), trim_lws(&text[colon + 1..])))
}

/// Without linear white space at either end, line breaks of folds included.
pub(super) fn trim_lws(mut text: &[u8]) -> &[u8] {
    const LWS: [u8; 4] = *b" \t\r\n";
    while let [first, rest @ ..] = text
        && LWS.contains(first)
    {
        text = rest;
    }
    while let [rest @ .., last] = text
        && LWS.contains(last)
    {
        text = rest;
    }
    text
}

/// Without blanks at either end. Values of the index hold no line breaks any more.
pub(super) fn trim(text: &str) -> &str {
    let is_text = |b: &u8| !matches!(b, b' ' | b'\t');
    let start = text.bytes().position(|b| is_text(&b)).unwrap_or(text.len());
    let end = text.as_bytes().iter().rposition(is_text).map_or(start, |last| last + 1);
    &text[start..end]
}

/// White space within a line.
pub(super) const BLANK: u8 = 1;
/// RFC 3261 section 25.1, `token`.
pub(super) const TOKEN: u8 = 2;
/// A parameter value without quotes. Wider than `token / host`, because extensions' parameters are.
pub(super) const PARAM: u8 = 4;
/// A host name or IPv4 address. The underscore is no part of the grammar, but of the names that people give machines.
pub(super) const HOST: u8 = 8;

const CLASSES: [u8; 256] = {
    let mut table = [PARAM; 256];
    let mut byte = 0u8;
    loop {
        let is_name = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        table[byte as usize] = match byte {
            b' ' | b'\t' => BLANK,
            b'!' | b'%' | b'*' | b'+' | b'`' | b'\'' | b'~' => TOKEN | PARAM,
            b'"' | b',' | b';' | b'<' | b'>' | b'\\' | 0x7f => 0,
            _ if is_name => TOKEN | PARAM | HOST,
            _ if byte > b' ' => PARAM,
            _ => 0,
        };
        if byte == u8::MAX {
            break table;
        }
        byte += 1;
    }
};

pub(super) const fn is_token_byte(byte: u8) -> bool {
    CLASSES[byte as usize] & TOKEN != 0
}

/// The first index from `at` on whose byte is not of `class`.
pub(super) fn skip(text: &[u8], mut at: usize, class: u8) -> usize {
    while text.get(at).is_some_and(|byte| CLASSES[usize::from(*byte)] & class != 0) {
        at += 1;
    }
    at
}

/// What may stand in a URI: anything but white space, control characters, quotes and angle brackets.
pub(super) fn is_uri_text(text: &str) -> bool {
    // No early end: most texts are good, and so the compiler can compare many bytes at once.
    text.bytes().fold(true, |is_good, b| is_good & (b > b' ') & (b != b'"') & (b != b'<') & (b != b'>') & (b != 0x7f))
}

/// A non-empty run of token bytes.
pub(super) fn is_token(text: &str) -> bool {
    !text.is_empty() && skip(text.as_bytes(), 0, TOKEN) == text.len()
}

/// A decimal number without sign; `None` if it holds anything else or does not fit.
pub(super) fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// Length of the quoted string that `text` starts with, quotes included (RFC 3261 section 25.1). `None` if it has no end.
pub(super) fn quoted_len(text: &[u8]) -> Option<usize> {
    debug_assert_eq!(text.first(), Some(&b'"'), "callers look for the opening quote");
    let mut at = 1;
    loop {
        at += memchr2(b'"', b'\\', text.get(at..)?)?;
        if text[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_crlf_makes_a_clean_line() {
        assert_eq!(line(b"ab\r\ncd", 0), Some(Line { end: 2, next: 4, is_clean: true }));
        assert_eq!(line(b"ab\ncd", 0), Some(Line { end: 2, next: 3, is_clean: false }));
        assert_eq!(line(b"a\rb\r\n", 0), Some(Line { end: 3, next: 5, is_clean: false }));
        assert_eq!(line(b"ab\r", 0), None);
        assert_eq!(line(b"ab", 0), None);
    }

    #[test]
    fn fields_keep_folds_and_end_at_the_empty_line() {
        let found: Vec<_> = fields(b"a : 1\r\n\t2\r\nno colon\r\nb:\r\n\r\nc: 3\r\n", 0).collect();
        assert_eq!(found, [(&b"a"[..], &b"1\r\n\t2"[..]), (b"b", b"")]);
    }

    #[test]
    fn an_escaped_quote_does_not_end_a_quoted_string() {
        assert_eq!(quoted_len(br#""a\"b"c"#), Some(6));
        assert_eq!(quoted_len(br#""a\\"c"#), Some(5));
        assert_eq!(quoted_len(br#""abc\""#), None);
        assert_eq!(quoted_len(br#""abc\"#), None);
    }

    #[test]
    fn numbers_have_no_sign_and_must_fit() {
        assert_eq!(number::<u32>("0068"), Some(68));
        for bad in ["", "+1", "-1", "1 ", "4294967296"] {
            assert_eq!(number::<u32>(bad), None, "{bad:?}");
        }
    }
}
