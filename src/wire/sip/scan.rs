//! Lines, fields and byte classes: the lowest layer of reading, shared by framer, index and views, so that they cannot
//! disagree about where a line or a header section ends.

use std::ops::Range;

use wide::{u8x16, u8x32};

/// A physical line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Where its text ends.
    pub(super) end: usize,
    /// Where the next line starts.
    pub(super) next: usize,
    /// Whether it ends with CRLF and holds no other CR (RFC 3261 section 7).
    pub(super) is_clean: bool,
    pub(super) is_ascii: bool,
    /// Whether it holds a NUL that is not the second half of an escape in a quoted string (RFC 3261 section 25.1,
    /// `quoted-pair`).
    pub(super) has_bare_nul: bool,
}

/// The line that starts at `from`, or `None` while its end is not there. A bare LF ends a line too, but not a clean one.
#[inline(always)]
pub(super) fn line(bytes: &[u8], from: usize) -> Option<Line> {
    let end = printable_end(bytes, from);
    match bytes[end..] {
        [b'\r', b'\n', ..] => Some(Line { end, next: end + 2, is_clean: true, is_ascii: true, has_bare_nul: false }),
        _ => odd_line(bytes, from),
    }
}

/// As [`line`], for one that holds more than printable ASCII.
fn odd_line(bytes: &[u8], from: usize) -> Option<Line> {
    let mut line = Line { end: from, next: from, is_clean: true, is_ascii: true, has_bare_nul: false };
    loop {
        line.end = printable_end(bytes, line.end);
        match (*bytes.get(line.end)?, bytes.get(line.end + 1)) {
            (b'\r', Some(b'\n')) => return Some(Line { next: line.end + 2, ..line }),
            (b'\n', _) => return Some(Line { next: line.end + 1, is_clean: false, ..line }),
            (b'\r', _) => line.is_clean = false,
            (0, _) => line.has_bare_nul |= line.end == from || bytes[line.end - 1] != b'\\',
            (byte, _) => line.is_ascii &= byte.is_ascii(),
        }
        line.end += 1;
    }
}

/// Bytes of a line that are looked at at once: more than any known header name and its colon has.
pub(super) const BLOCK_BYTES: usize = 32;

/// Where the printable ASCII ends that starts at `from`, which is all that most lines hold.
#[inline(always)]
pub(super) fn printable_end(text: &[u8], mut from: usize) -> usize {
    while let Some(block) = text.get(from..).and_then(<[u8]>::first_chunk) {
        let odd = odd_bytes(u8x32::new(*block));
        if odd != 0 {
            return from + first(odd);
        }
        from += BLOCK_BYTES;
    }
    let is_printable = |byte: &&u8| byte.cast_signed() >= 0x20;
    from + text.get(from..).unwrap_or_default().iter().take_while(is_printable).count()
}

/// A bit for each byte that is no printable ASCII, the lowest for the first. They are the highest bits of the bytes, which
/// control characters get by the subtraction, and bytes beyond ASCII have.
#[inline(always)]
pub(super) fn odd_bytes(block: u8x32) -> u32 {
    ((block - u8x32::splat(b' ')) | block).to_bitmask()
}

/// The index of the lowest bit, or the number of bits.
pub(super) const fn first(mask: u32) -> usize {
    mask.trailing_zeros() as usize
}

/// The first index of any of `wanted`. As `memchr`, but quicker where the next few bytes hold one, as in parts of values.
#[inline]
pub(super) fn find<const N: usize>(text: &[u8], wanted: [u8; N]) -> Option<usize> {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    let (chunks, rest) = text.as_chunks::<8>();
    for (i, chunk) in chunks.iter().enumerate() {
        let hits = wanted.iter().fold(0, |hits, byte| {
            // Sets the highest bit of the first byte that is zero, and none below it.
            let differences = u64::from_le_bytes(*chunk) ^ u64::from_le_bytes([*byte; 8]);
            hits | differences.wrapping_sub(ONES) & !differences & (ONES << 7)
        });
        if hits != 0 {
            return Some(i * 8 + (hits.trailing_zeros() / 8) as usize);
        }
    }
    rest.iter().position(|byte| wanted.contains(byte)).map(|at| chunks.len() * 8 + at)
}

/// As [`find`], where the text before the first is of some length.
#[inline]
pub(super) fn find_far<const N: usize>(text: &[u8], wanted: [u8; N]) -> Option<usize> {
    let (blocks, rest) = text.as_chunks();
    for (i, block) in blocks.iter().enumerate() {
        let hits = is_any_of(u8x16::new(*block), wanted).to_bitmask();
        if hits != 0 {
            return Some(i * block.len() + first(hits));
        }
    }
    find(rest, wanted).map(|at| text.len() - rest.len() + at)
}

#[inline(always)]
fn is_any_of<const N: usize>(block: u8x16, bytes: [u8; N]) -> u8x16 {
    bytes.iter().fold(u8x16::ZERO, |found, byte| found | block.simd_eq(u8x16::splat(*byte)))
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
    let colon = find(text, [b':'])?;
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
#[inline]
pub(super) fn trim(text: &str) -> &str {
    &text[trimmed(text.as_bytes(), 0..text.len())]
}

/// Without blanks at the start.
#[inline]
pub(super) fn trim_start(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = text {
        text = rest;
    }
    text
}

/// Without blanks at the end.
#[inline]
pub(super) fn trim_end(mut text: &[u8]) -> &[u8] {
    while let [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// Shortens a range of `text` by the blanks at either end.
#[inline(always)]
pub(super) fn trimmed(text: &[u8], Range { mut start, mut end }: Range<usize>) -> Range<usize> {
    while start < end && matches!(text[start], b' ' | b'\t') {
        start += 1;
    }
    while start < end && matches!(text[end - 1], b' ' | b'\t') {
        end -= 1;
    }
    start..end
}

/// The text before and after the first `delimiter`, an ASCII character.
pub(super) fn split_once(text: &str, delimiter: u8) -> Option<(&str, &str)> {
    let at = find(text.as_bytes(), [delimiter])?;
    Some((&text[..at], &text[at + 1..]))
}

/// White space within a line.
pub(super) const BLANK: u8 = 1;
/// RFC 3261 section 25.1, `token`.
pub(super) const TOKEN: u8 = 2;
/// A parameter value without quotes. Wider than `token / host`, because extensions' parameters are.
pub(super) const PARAM: u8 = 4;
/// A user part of a SIP URI without password, parameters or escapes that need a look; a host name too.
pub(super) const USER: u8 = 16;
/// What may follow the host of a SIP URI that has no headers.
pub(super) const URI_REST: u8 = 32;
/// A host name or IPv4 address. The underscore is no part of the grammar, but of the names that people give machines.
pub(super) const HOST: u8 = 8;

const CLASSES: [u8; 256] = {
    let mut table = [PARAM; 256];
    let mut byte = 0u8;
    loop {
        let is_name = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        table[byte as usize] = match byte {
            b' ' | b'\t' => BLANK,
            b'!' | b'%' | b'*' | b'+' | b'`' | b'\'' | b'~' => TOKEN | PARAM | USER | URI_REST,
            b',' | b';' => URI_REST,
            b'"' | b'<' | b'>' | b'\\' | 0x7f => 0,
            b'@' | b'?' => PARAM,
            _ if is_name => TOKEN | PARAM | HOST | USER | URI_REST,
            _ if byte > b' ' && byte.is_ascii() => PARAM | URI_REST,
            _ if byte > b' ' => PARAM,
            _ => 0,
        };
        if byte == u8::MAX {
            break table;
        }
        byte += 1;
    }
};

pub(super) fn is_token_byte(byte: u8) -> bool {
    is_of(byte, TOKEN)
}

#[inline]
fn is_of(byte: u8, class: u8) -> bool {
    CLASSES[usize::from(byte)] & class != 0
}

/// The first index from `at` on whose byte is not of `class`.
#[inline]
pub(super) fn skip(text: &[u8], at: usize, class: u8) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    at + rest.iter().position(|byte| !is_of(*byte, class)).unwrap_or(rest.len())
}

/// As [`skip`], for what has some length and is followed by more text; of [`HOST`], [`PARAM`] or [`URI_REST`].
#[inline(always)]
pub(super) fn skip_long(text: &[u8], mut at: usize, class: u8) -> usize {
    while let Some(block) = text.get(at..).and_then(<[u8]>::first_chunk) {
        let strange = (!members(u8x16::new(*block), class)).to_bitmask();
        if strange != 0 {
            return at + first(strange);
        }
        at += block.len();
    }
    skip(text, at, class)
}

/// Which bytes are of `class`, as [`CLASSES`] has it.
#[inline(always)]
fn members(block: u8x16, class: u8) -> u8x16 {
    let is = |byte| block.simd_eq(u8x16::splat(byte));
    let is_within = |block: u8x16, first, last: u8| {
        let above = block - u8x16::splat(first);
        above.min(u8x16::splat(last - first)).simd_eq(above)
    };
    match class {
        HOST => {
            let is_letter = is_within(block | u8x16::splat(0x20), b'a', b'z');
            is_letter | (is_within(block, b'-', b'9') & !is(b'/')) | is(b'_')
        }
        PARAM => is_within(block, b'!', 0xff) & !is_any_of(block, *b"\"<>\\,;\x7f"),
        URI_REST => is_within(block, b'!', b'~') & !is_any_of(block, *b"\"<>\\@?"),
        _ => unreachable!("no caller skips others"),
    }
}

/// What may stand in a URI: anything but white space, control characters, quotes and angle brackets.
pub(super) fn is_uri_text(text: &str) -> bool {
    // No early end: most texts are good, and so the compiler can compare many bytes at once.
    text.bytes().fold(true, |is_good, b| is_good & (b > b' ') & (b != b'"') & (b != b'<') & (b != b'>') & (b != 0x7f))
}

/// A non-empty run of token bytes.
pub(super) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && skip(text, 0, TOKEN) == text.len()
}

/// A decimal number without sign; `None` if it holds anything else or does not fit.
pub(super) fn number<T: TryFrom<u64>>(text: &[u8]) -> Option<T> {
    let add = |number: u64, byte: &u8| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    };
    let number = text.iter().try_fold(0, add).filter(|_| !text.is_empty())?;
    T::try_from(number).ok()
}

/// Length of the quoted string that `text` starts with, quotes included (RFC 3261 section 25.1). `None` if it has no end.
pub(super) fn quoted_len(text: &[u8]) -> Option<usize> {
    debug_assert_eq!(text.first(), Some(&b'"'), "callers look for the opening quote");
    let mut at = 1;
    loop {
        at += find_far(text.get(at..)?, [b'"', b'\\'])?;
        if text[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;

    #[test]
    fn only_crlf_makes_a_clean_line() {
        let clean = Line { end: 2, next: 4, is_clean: true, is_ascii: true, has_bare_nul: false };
        assert_eq!(line(b"ab\r\ncd", 0), Some(clean));
        assert_eq!(line(b"ab\ncd", 0), Some(Line { next: 3, is_clean: false, ..clean }));
        assert_eq!(line(b"a\rb\r\n", 0), Some(Line { end: 3, next: 5, is_clean: false, ..clean }));
        assert_eq!(line(b"ab\r", 0), None);
        assert_eq!(line(b"ab", 0), None);
    }

    #[test]
    fn a_line_tells_what_it_holds_besides_printable_ascii() {
        let found = |text: &str| line(text.as_bytes(), 0).map(|line| (line.is_clean, line.is_ascii, line.has_bare_nul));
        assert_eq!(found("tab\there\u{7f}\r\n"), Some((true, true, false)));
        assert_eq!(found("na\u{ef}ve\r\n"), Some((true, false, false)));
        assert_eq!(found("\"a\\\0\"\r\n"), Some((true, true, false)));
        assert_eq!(found("\0\r\n"), Some((true, true, true)));
        assert_eq!(found("a\0\r\n"), Some((true, true, true)));
    }

    #[test]
    fn a_class_is_the_same_for_one_byte_and_for_sixteen() {
        for (class, byte) in
            [HOST, PARAM, URI_REST].into_iter().flat_map(|class| (0..=u8::MAX).map(move |b| (class, b)))
        {
            let found = members(u8x16::splat(byte), class).to_bitmask();
            assert_eq!(found, if is_of(byte, class) { 0xffff } else { 0 }, "{class} {byte:#x}");
        }
    }

    proptest! {
        #[test]
        fn what_is_skipped_in_blocks_is_what_is_skipped_byte_by_byte(
            text in vec(prop_oneof![9 => Just(b'a'), 1 => any::<u8>()], 0..60),
            at in 0..70_usize,
        ) {
            for class in [HOST, PARAM, URI_REST] {
                prop_assert_eq!(skip_long(&text, at, class), skip(&text, at, class));
            }
        }

        #[test]
        fn a_line_ends_where_reading_byte_by_byte_finds_its_end(
            text in vec(prop_oneof![20 => Just(b'a'), 1 => select(b"\r\n\t\0\\ \x7f\x80\xff".to_vec())], 0..200),
        ) {
            let end = text.iter().position(|byte| *byte == b'\n');
            let expected = end.map(|lf| {
                let is_crlf = lf > 0 && text[lf - 1] == b'\r';
                let end = if is_crlf { lf - 1 } else { lf };
                let inside = &text[..end];
                Line {
                    end,
                    next: lf + 1,
                    is_clean: is_crlf && !inside.contains(&b'\r'),
                    is_ascii: inside.is_ascii(),
                    has_bare_nul: (0..end).any(|at| text[at] == 0 && (at == 0 || text[at - 1] != b'\\')),
                }
            });
            prop_assert_eq!(line(&text, 0), expected);
        }

        #[test]
        fn the_first_wanted_byte_is_found(text in vec(0x39..0x3c_u8, 0..40), start in 0..40_usize) {
            let text = &text[start.min(text.len())..];
            prop_assert_eq!(find(text, [b':']), text.iter().position(|byte| *byte == b':'));
            prop_assert_eq!(find(text, [b'9', b';']), text.iter().position(|byte| matches!(byte, b'9' | b';')));
            prop_assert_eq!(find_far(text, [b':']), find(text, [b':']));
        }
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
        assert_eq!(number::<u32>(b"0068"), Some(68));
        for bad in ["", "+1", "-1", "1 ", "4294967296"] {
            assert_eq!(number::<u32>(bad.as_bytes()), None, "{bad:?}");
        }
    }
}
