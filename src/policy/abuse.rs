//! Who is known to come with no good intent.

/// User-Agent values of programs that search for extensions and guess passwords. None of them is a telephone or a tool of
/// an operator; whoever writes something else there is left to the limits on refused credentials.
const SCANNERS: [&str; 14] = [
    "friendly-scanner",
    "friendly-request",
    "sipvicious",
    "sipcli",
    "sip-scan",
    "sipscan",
    "sipptk",
    "siparmyknife",
    "sundayddr",
    "sivus",
    "iwar",
    "pplsip",
    "vaxsipuseragent",
    "vaxipuseragent",
];

/// Whether a request with this User-Agent is dropped unanswered: an answer would tell the scanner where to go on.
pub fn is_scanner(user_agent: &str) -> bool {
    let agent = user_agent.as_bytes();
    SCANNERS
        .iter()
        .any(|scanner| agent.get(..scanner.len()).is_some_and(|start| start.eq_ignore_ascii_case(scanner.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scanners_are_known_in_any_case_and_version_and_telephones_are_not_taken_for_them() {
        for scanner in ["friendly-scanner", "SIPVicious", "sipcli/v1.8", "VaxSIPUserAgent/3.1", "iWar"] {
            assert!(is_scanner(scanner), "{scanner}");
        }
        for phone in ["", "s", "SIPp 3.6", "baresip v1.0.0", "Linphonec/5.1", "My friendly-scanner", "sipc"] {
            assert!(!is_scanner(phone), "{phone}");
        }
    }
}
