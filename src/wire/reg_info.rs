//! Documents of the registration event package (RFC 3680): which contacts a user has. Always the full state.

use std::fmt;

use super::xml::Escaped;

/// One document, printed with `Display`.
#[derive(Clone, Copy, Debug)]
pub struct Document<'a> {
    /// Address-of-record.
    pub aor: &'a str,
    /// Counts the documents of one subscription from 0.
    pub version: u32,
    /// URIs of the registered contacts. Each is its own id, which stays the same as long as the contact is there.
    pub contacts: &'a [String],
}

pub const CONTENT_TYPE: &str = "application/reginfo+xml";

impl fmt::Display for Document<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.contacts.is_empty() { "init" } else { "active" };
        write!(
            f,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n<reginfo xmlns=\"urn:ietf:params:xml:ns:reginfo\" \
             version=\"{}\" state=\"full\">\r\n  <registration aor=\"{}\" id=\"r\" state=\"{state}\">\r\n",
            self.version,
            Escaped(self.aor)
        )?;
        for uri in self.contacts {
            let uri = Escaped(uri);
            write!(
                f,
                "    <contact id=\"{uri}\" state=\"active\" event=\"registered\">\r\n      <uri>{uri}</uri>\r\n    \
                 </contact>\r\n"
            )?;
        }
        f.write_str("  </registration>\r\n</reginfo>\r\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_printed_line_by_line() {
        let contacts = ["sip:a@192.0.2.1;x=<\">".to_owned()];
        let document = Document { aor: "sip:a@example.com", version: 0, contacts: &contacts };
        let expected = r#"<?xml version="1.0" encoding="UTF-8"?>
<reginfo xmlns="urn:ietf:params:xml:ns:reginfo" version="0" state="full">
  <registration aor="sip:a@example.com" id="r" state="active">
    <contact id="sip:a@192.0.2.1;x=&lt;&quot;&gt;" state="active" event="registered">
      <uri>sip:a@192.0.2.1;x=&lt;&quot;&gt;</uri>
    </contact>
  </registration>
</reginfo>
"#;
        assert_eq!(document.to_string(), expected.replace('\n', "\r\n"));
        let nobody = Document { contacts: &[], ..document }.to_string();
        assert!(nobody.contains("state=\"init\"") && !nobody.contains("<contact"));
    }
}
