//! Classification as an operator can try it out: the same code the server runs, in one word.

use super::{Dialled, OrdinaryKind, Site, classify};

/// Outside-line prefixes and own hosts that `ringdown dial-test` assumes.
const OUTSIDE_PREFIXES: [&str; 2] = ["9", "0"];
const OWN_HOSTS: [&str; 3] = ["pbx.example.com", "192.0.2.10", "[2001:db8::10]"];

/// `emergency`, `test`, `extension`, `external` or `invalid` for what a phone at a site in `region` dials. Addresses of a
/// foreign domain and everything in an unknown region are `invalid`: this server calls neither.
pub fn dial_test(region: &str, dialled: &str) -> &'static str {
    let Some(site) = Site::for_region(&region.to_ascii_uppercase(), &OUTSIDE_PREFIXES, &OWN_HOSTS) else {
        return "invalid";
    };
    match classify(dialled, &site) {
        Dialled::Emergency(_) => "emergency",
        Dialled::Test(_) => "test",
        Dialled::Ordinary(ordinary) => match ordinary.kind() {
            OrdinaryKind::Extension(_) => "extension",
            OrdinaryKind::External(_) => "external",
            OrdinaryKind::Foreign | OrdinaryKind::Invalid => "invalid",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_has_its_word() {
        for (dialled, word) in [
            ("911", "emergency"),
            ("933", "test"),
            ("1001", "extension"),
            ("+12025550100", "external"),
            ("", "invalid"),
            ("sip:911@other.example.net", "invalid"),
        ] {
            assert_eq!(dial_test("us", dialled), word, "{dialled}");
        }
        assert_eq!(dial_test("ZZ", "911"), "invalid");
    }
}
