//! PIDF-LO documents with a civic address (RFC 4119, 5139, 6848), printed for the ERL of an emergency call.
//!
//! Printing is total: whatever the address holds, the document is well-formed XML and valid against the schemas of those
//! RFCs. Nothing here knows whose address it is.

use std::{collections::BTreeMap, fmt};

use super::xml::Escaped;
use crate::types::{Duration, Instant};

/// Elements of a civic address in the order of RFC 5139 section 4, which is significant.
pub const ELEMENTS: [&str; 31] = [
    "country", "A1", "A2", "A3", "A4", "A5", "A6", "PRM", "PRD", "RD", "STS", "POD", "POM", "RDSEC", "RDBR", "RDSUBBR",
    "HNO", "HNS", "LMK", "LOC", "FLR", "NAM", "PC", "BLD", "UNIT", "ROOM", "SEAT", "PLC", "PCN", "POBOX", "ADDCODE",
];

/// Extension elements (RFC 6848 section 3); they follow all others.
pub const EXTENSION_ELEMENTS: [&str; 4] = ["STP", "HNP", "MP", "PN"];

/// How long a recipient may keep the location (RFC 4119 section 2.2.2).
const RETENTION: Duration = Duration::from_secs(24 * 60 * 60);

/// A civic address, its elements in schema order.
#[derive(Clone, PartialEq, Eq)]
pub struct CivicAddress(Vec<(&'static str, String)>);

impl CivicAddress {
    /// By element name. Names outside [`ELEMENTS`] and [`EXTENSION_ELEMENTS`], empty values and a `country` that is not two
    /// capital letters are left out: the schema has no place for them.
    pub fn new(elements: &BTreeMap<String, String>) -> Self {
        let all = ELEMENTS.into_iter().chain(EXTENSION_ELEMENTS);
        let present = all.filter_map(|name| elements.get(name).map(|value| (name, value.clone())));
        let is_valid = |&(name, ref value): &(&str, String)| match name {
            "country" => value.len() == 2 && value.bytes().all(|b| b.is_ascii_uppercase()),
            _ => !value.trim().is_empty(),
        };
        Self(present.filter(is_valid).collect())
    }

    fn has_extension(&self) -> bool {
        self.0.iter().any(|(name, _)| EXTENSION_ELEMENTS.contains(name))
    }
}

impl fmt::Debug for CivicAddress {
    /// An address may be somebody's home.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CivicAddress([redacted])")
    }
}

/// What the location belongs to: carriers differ in which they read (RFC 5491 section 3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// RFC 3863.
    Tuple,
    /// RFC 4479; `uuid` becomes the device identifier.
    Device { uuid: [u8; 16] },
}

/// The `pres:` URI of a number at a host as it stands in a SIP URI. The brackets of an IPv6 address have no place in it
/// (RFC 3986 section 3.3) and are percent-encoded.
pub fn pres_uri(number: &str, host: &str) -> String {
    format!("pres:{number}@{}", host.replace('[', "%5B").replace(']', "%5D"))
}

/// One document, printed with `Display`. Lines end in CRLF, because it travels in a MIME body.
#[derive(Clone, Copy, Debug)]
pub struct Document<'a> {
    /// See [`pres_uri`].
    pub entity: &'a str,
    /// An XML name.
    pub id: &'a str,
    pub subject: Subject,
    pub address: &'a CivicAddress,
    /// Dates the document.
    pub now: Instant,
}

impl fmt::Display for Document<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(concat!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n",
            "<presence\r\n",
            "  xmlns=\"urn:ietf:params:xml:ns:pidf\"\r\n",
            "  xmlns:gp=\"urn:ietf:params:xml:ns:pidf:geopriv10\"\r\n",
            "  xmlns:gbp=\"urn:ietf:params:xml:ns:pidf:geopriv10:basicPolicy\"\r\n",
            "  xmlns:ca=\"urn:ietf:params:xml:ns:pidf:geopriv10:civicAddr\"\r\n",
        ))?;
        if self.address.has_extension() {
            f.write_str("  xmlns:cae=\"urn:ietf:params:xml:ns:pidf:geopriv10:civicAddr:ext\"\r\n")?;
        }
        if let Subject::Device { .. } = self.subject {
            f.write_str("  xmlns:dm=\"urn:ietf:params:xml:ns:pidf:data-model\"\r\n")?;
        }
        write!(f, "  entity=\"{}\">\r\n", Escaped(self.entity))?;
        let (id, timestamp) = (Escaped(self.id), rfc3339(self.now));
        match self.subject {
            Subject::Tuple => {
                write!(f, "  <tuple id=\"{id}\">\r\n    <status>\r\n")?;
                self.write_geopriv(f)?;
                write!(f, "    </status>\r\n    <timestamp>{timestamp}</timestamp>\r\n  </tuple>\r\n")?;
            }
            Subject::Device { uuid } => {
                write!(f, "  <dm:device id=\"{id}\">\r\n")?;
                self.write_geopriv(f)?;
                write!(f, "    <dm:deviceID>{}</dm:deviceID>\r\n", UuidUrn(uuid))?;
                write!(f, "    <dm:timestamp>{timestamp}</dm:timestamp>\r\n  </dm:device>\r\n")?;
            }
        }
        f.write_str("</presence>\r\n")
    }
}

impl Document<'_> {
    fn write_geopriv(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("      <gp:geopriv>\r\n        <gp:location-info>\r\n")?;
        f.write_str("          <ca:civicAddress xml:lang=\"en\">\r\n")?;
        for (name, value) in &self.address.0 {
            let prefix = if EXTENSION_ELEMENTS.contains(name) { "cae" } else { "ca" };
            write!(f, "            <{prefix}:{name}>{}</{prefix}:{name}>\r\n", Escaped(value))?;
        }
        // `true`: an XML boolean. The `yes` of several RFCs' examples is not valid.
        write!(
            f,
            "          </ca:civicAddress>\r\n        </gp:location-info>\r\n        <gp:usage-rules>\r\n          \
             <gbp:retransmission-allowed>true</gbp:retransmission-allowed>\r\n          \
             <gbp:retention-expiry>{}</gbp:retention-expiry>\r\n        </gp:usage-rules>\r\n        \
             <gp:method>Manual</gp:method>\r\n      </gp:geopriv>\r\n",
            rfc3339(self.now + RETENTION)
        )
    }
}

/// A random UUID (RFC 9562 section 5.4) as `urn:uuid:`.
struct UuidUrn([u8; 16]);

impl fmt::Display for UuidUrn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.0;
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        f.write_str("urn:uuid:")?;
        for (i, byte) in bytes.iter().enumerate() {
            let hyphen = if matches!(i, 4 | 6 | 8 | 10) { "-" } else { "" };
            write!(f, "{hyphen}{byte:02x}")?;
        }
        Ok(())
    }
}

/// `2026-01-15T09:30:00Z`. Instants end in the year 2554, well inside what the date library holds.
pub fn rfc3339(at: Instant) -> String {
    let seconds = i64::try_from(at.unix_s()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX).to_string()
}

/// `Thu, 15 Jan 2026 09:30:00 GMT`, as Date has it (RFC 3261 section 20.17).
pub fn http_date(at: Instant) -> String {
    let seconds = i64::try_from(at.unix_s()).unwrap_or(i64::MAX);
    let at = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX);
    let printed = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at);
    printed.expect("years up to 9999 have four digits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_written_as_sip_has_it() {
        assert_eq!(http_date(Instant::from_unix_ms(1_768_469_400_000)), "Thu, 15 Jan 2026 09:30:00 GMT");
    }

    fn address(elements: &[(&str, &str)]) -> CivicAddress {
        CivicAddress::new(&elements.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect())
    }

    fn print(address: &CivicAddress, subject: Subject) -> String {
        let now = Instant::from_unix_ms(1_768_469_400_000);
        Document { entity: "pres:+12025550100@pbx.example.com", id: "erl-company", subject, address, now }.to_string()
    }

    #[test]
    fn a_tuple_document_is_printed_line_by_line() {
        let address = address(&[("PC", "28001"), ("STP", "Calle"), ("country", "ES"), ("NAM", "Example & <Hijos>")]);
        let expected = r#"<?xml version="1.0" encoding="UTF-8"?>
<presence
  xmlns="urn:ietf:params:xml:ns:pidf"
  xmlns:gp="urn:ietf:params:xml:ns:pidf:geopriv10"
  xmlns:gbp="urn:ietf:params:xml:ns:pidf:geopriv10:basicPolicy"
  xmlns:ca="urn:ietf:params:xml:ns:pidf:geopriv10:civicAddr"
  xmlns:cae="urn:ietf:params:xml:ns:pidf:geopriv10:civicAddr:ext"
  entity="pres:+12025550100@pbx.example.com">
  <tuple id="erl-company">
    <status>
      <gp:geopriv>
        <gp:location-info>
          <ca:civicAddress xml:lang="en">
            <ca:country>ES</ca:country>
            <ca:NAM>Example &amp; &lt;Hijos&gt;</ca:NAM>
            <ca:PC>28001</ca:PC>
            <cae:STP>Calle</cae:STP>
          </ca:civicAddress>
        </gp:location-info>
        <gp:usage-rules>
          <gbp:retransmission-allowed>true</gbp:retransmission-allowed>
          <gbp:retention-expiry>2026-01-16T09:30:00Z</gbp:retention-expiry>
        </gp:usage-rules>
        <gp:method>Manual</gp:method>
      </gp:geopriv>
    </status>
    <timestamp>2026-01-15T09:30:00Z</timestamp>
  </tuple>
</presence>
"#;
        assert_eq!(print(&address, Subject::Tuple), expected.replace('\n', "\r\n"));
    }

    #[test]
    fn a_device_document_names_a_random_uuid_of_version_4() {
        let text = print(&address(&[("country", "GB")]), Subject::Device { uuid: [0xff; 16] });
        assert!(text.contains("<dm:deviceID>urn:uuid:ffffffff-ffff-4fff-bfff-ffffffffffff</dm:deviceID>"));
        assert!(text.contains("<dm:timestamp>2026-01-15T09:30:00Z</dm:timestamp>"));
        assert!(!text.contains("civicAddr:ext"), "a namespace without use is not declared");
    }

    #[test]
    fn what_the_schema_cannot_hold_is_left_out() {
        let address = address(&[("country", "us"), ("HOUSE", "5"), ("A1", " "), ("RD", "a\u{0}b\u{fffe}\"c\"")]);
        let text = print(&address, Subject::Tuple);
        assert!(text.contains("<ca:RD>ab&quot;c&quot;</ca:RD>"));
        assert!(!text.contains("country") && !text.contains("HOUSE") && !text.contains("A1>"));
    }

    #[test]
    fn an_address_is_not_printed_by_debug() {
        assert!(!format!("{:?}", address(&[("RD", "Private Road")])).contains("Private"));
    }
}
