//! Which formats of an answer its offer allows.

use crate::wire::sdp::{Attribute, MediaSection};

/// Removes from `answer` the formats that `offer` does not list, and the attributes that describe them. What is left
/// is a subset of the offer in the answerer's order of preference; it may be empty.
///
/// The same codec under another payload type number is the same format: RFC 3264 section 6.1 only asks (SHOULD) for
/// the offer's number, and packets sent under the answer's number pass the relay unchanged.
pub(super) fn retain_offered(answer: &mut MediaSection, offer: &MediaSection) {
    let dropped = answer.formats.iter().filter(|format| !is_offered(format, answer, offer));
    let dropped: Vec<_> = dropped.map(str::to_owned).collect();
    if dropped.is_empty() {
        return;
    }
    let is_kept = |(name, value): &Attribute<'_>| {
        let is_per_format = matches!(*name, "rtpmap" | "fmtp" | "rtcp-fb");
        !(is_per_format && dropped.iter().any(|format| described(*value).0 == format))
    };
    answer.formats = answer.formats.iter().filter(|format| !dropped.iter().any(|dropped| dropped == format)).collect();
    answer.attributes = answer.attributes.iter().filter(is_kept).collect();
}

fn is_offered(format: &str, answer: &MediaSection, offer: &MediaSection) -> bool {
    let answered = answer.rtpmap(format);
    offer.formats.iter().any(|offered| match (answered, offer.rtpmap(offered)) {
        (Some(answered), Some(offered)) => is_same_encoding(answered, offered),
        // A static payload type needs no rtpmap (RFC 3551 section 6), so one side may leave it out.
        (Some(_), None) | (None, Some(_)) | (None, None) => format.eq_ignore_ascii_case(offered),
    })
}

/// Names compare in any case, and one channel is the default (RFC 8866 section 6.6).
fn is_same_encoding(a: &str, b: &str) -> bool {
    let [a, b] = [a, b].map(|text| text.strip_suffix("/1").unwrap_or(text));
    a.eq_ignore_ascii_case(b)
}

/// `<format> <description>` of an rtpmap, fmtp or rtcp-fb attribute.
fn described(value: Option<&str>) -> (&str, &str) {
    value.and_then(|v| v.split_once(' ')).map_or(("", ""), |(format, rest)| (format, rest.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::sdp;

    fn section(lines: &str) -> MediaSection {
        let body = format!("v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\nc=IN IP4 192.0.2.1\r\n{lines}");
        sdp::parse(body.as_bytes()).unwrap().media.remove(0)
    }

    /// Formats and attribute values left of `answer`.
    fn retained(offer: &str, answer: &str) -> (Vec<String>, Vec<String>) {
        let mut answer = section(answer);
        retain_offered(&mut answer, &section(offer));
        let values = answer.attributes.iter().filter_map(|(_, value)| value.map(str::to_owned));
        (answer.formats.iter().map(str::to_owned).collect(), values.collect())
    }

    const OFFER: &str = "m=audio 4000 RTP/AVP 0 8 96 101\r\n\
                         a=rtpmap:0 PCMU/8000\r\na=rtpmap:96 opus/48000/2\r\na=rtpmap:101 telephone-event/8000\r\n";

    #[test]
    fn formats_not_offered_go_with_their_attributes() {
        let answer = "m=audio 4000 RTP/AVP 8 18 0 97\r\na=rtpmap:18 G729/8000\r\na=fmtp:18 annexb=no\r\n\
                      a=rtpmap:97 speex/8000\r\na=rtcp-fb:97 nack\r\na=rtcp-fb:* nack\r\na=ptime:20\r\n";
        let (formats, attributes) = retained(OFFER, answer);
        assert_eq!(formats, ["8", "0"]);
        assert_eq!(attributes, ["* nack", "20"]);
    }

    #[test]
    fn a_codec_may_be_answered_under_another_number() {
        let answer = "m=audio 4000 RTP/AVP 111 100\r\n\
                      a=rtpmap:111 OPUS/48000/2\r\na=rtpmap:100 telephone-event/8000/1\r\n";
        assert_eq!(retained(OFFER, answer).0, ["111", "100"]);
    }

    #[test]
    fn one_number_for_two_codecs_is_no_match() {
        assert_eq!(retained(OFFER, "m=audio 4000 RTP/AVP 96 0\r\na=rtpmap:96 opus/48000\r\n").0, ["0"]);
    }

    #[test]
    fn a_static_payload_type_matches_with_and_without_rtpmap() {
        assert_eq!(retained(OFFER, "m=audio 4000 RTP/AVP 0 8\r\na=rtpmap:8 PCMA/8000\r\n").0, ["0", "8"]);
    }
}
