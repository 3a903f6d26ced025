//! Indexes the header lines of nearly every message, thirty-two bytes at a time.
//!
//! As in [`super::usual`], what is found is what the full reader of [`super::message`] finds too, and nothing means that it
//! has to look. To it is left what few messages have: folds, text beyond printable ASCII, faults, an empty value, and blanks
//! in other places than the one behind the colon.

use wide::u8x32;

use super::{
    frame::ContentLength,
    message::{Field, Span},
    name::Name,
    scan::{self, BLOCK_BYTES, first, odd_bytes, printable_end},
};
use crate::types::limits::SIP_HEADER_BYTES_MAX;

/// The header section of a message.
pub(super) struct Head {
    pub(super) start_line_len: usize,
    /// Header lines.
    pub(super) count: usize,
    pub(super) length: ContentLength,
    pub(super) body_at: usize,
}

/// Reads the header section of `text`, which has at most `SIP_MESSAGE_BYTES_MAX` bytes, and puts its lines into `fields`.
#[inline(always)]
pub(super) fn read(text: &[u8], fields: &mut [Field]) -> Option<Head> {
    let start_line_len = printable_end(text, 0);
    let [b'\r', b'\n', after] = text[start_line_len..].first_chunk()? else { return None };
    if start_line_len == 0 || is_blank(*after) {
        return None;
    }
    let (mut at, mut count, mut length) = (start_line_len + 2, 0, ContentLength::default());
    while let Some((field, end)) = line(text, at)? {
        if field.name == Name::ContentLength {
            length.add(&text[field.value.range()]).ok()?;
        }
        *fields.get_mut(count)? = field;
        count += 1;
        at = end + 2;
    }
    Some(Head { start_line_len, count, length, body_at: at + 2 })
}

/// The line that starts at `at`, and where it ends; the inner `None` stands for the empty line.
#[inline(always)]
fn line(text: &[u8], at: usize) -> Option<Option<(Field, usize)>> {
    let rest = text.get(at..)?;
    let block = match rest.first_chunk() {
        Some(block) => u8x32::new(*block),
        None => padded(rest),
    };
    let end = match odd_bytes(block) {
        0 => printable_end(text, at + BLOCK_BYTES),
        odd => at + first(odd),
    };
    if end == at {
        return rest.starts_with(b"\r\n").then_some(None);
    }
    let [b'\r', b'\n', after] = text.get(end..)?.first_chunk()? else { return None };
    let name_len = first(same_bytes(block, u8x32::splat(b':')));
    let value_at = at + name_len + 2;
    let (value_first, value_last) = (text.get(value_at..end)?.first()?, text[end - 1]);
    let is_usual = text[value_at - 1] == b' ' && *value_first > b' ' && value_last > b' ' && !is_blank(*after);
    if !is_usual || end - at > SIP_HEADER_BYTES_MAX {
        return None;
    }
    let name_text = &rest[..name_len];
    let (known, written) = Name::candidate(name_text)?;
    let is_known = first(!same_bytes(block, u8x32::new(*written))) > name_len;
    let name = if is_known { known } else { other(name_text)? };
    Some(Some((Field { name, name_text: Span::new(at..at + name_len), value: Span::new(value_at..end) }, end)))
}

/// A name that is not written as RFCs write it, or is not known.
#[cold]
fn other(name: &[u8]) -> Option<Name> {
    scan::is_token(name).then(|| Name::from_bytes(name))
}

const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// The end of a message, with zeros behind it.
#[cold]
fn padded(text: &[u8]) -> u8x32 {
    let mut block = [0; BLOCK_BYTES];
    block[..text.len()].copy_from_slice(text);
    u8x32::new(block)
}

#[inline(always)]
fn same_bytes(one: u8x32, other: u8x32) -> u32 {
    one.simd_eq(other).to_bitmask()
}
