//! Which way a call has come: whom it was for, why it left, and how that is told to the next (Diversion of RFC 5806,
//! History-Info of RFC 7044, with the causes of RFC 4458 and RFC 7544).

use crate::{
    config::{Group, User},
    policy::reach::Cause,
    wire::sip::{Message, Name, RequestBuilder},
};

use super::{outgoing::escaped_user, received_history::ReceivedHistory};

/// Somebody the call was, or is, for.
#[derive(Clone, Debug)]
pub(super) struct Stop {
    pub party: Party,
    /// Its number outside: E.164, if it has one.
    pub line: Option<String>,
    /// Why the call went on from here; `None` where it is now.
    pub cause: Option<Cause>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Party {
    /// A user or ring group, by the extension.
    Extension(String),
    /// An outside number, as the trunk is sent it.
    Number(String),
}

impl Stop {
    pub(super) fn user(user: &User) -> Self {
        Self { party: Party::Extension(user.extension.clone()), line: user.direct_line.clone(), cause: None }
    }

    pub(super) fn group(group: &Group) -> Self {
        Self { party: Party::Extension(group.extension.clone()), line: group.direct_line.clone(), cause: None }
    }

    pub(super) fn number(number: &str) -> Self {
        Self { party: Party::Number(number.to_owned()), line: Some(number.to_owned()), cause: None }
    }

    /// Extensions mean nothing outside: a trunk is shown the outside number, or else `company_line`.
    fn uri(&self, domain: &str, company_line: Option<&str>) -> String {
        let (user, is_telephone) = match (&self.party, company_line) {
            (Party::Extension(extension), None) => (extension.as_str(), false),
            (Party::Extension(_), Some(company_line)) => (self.line.as_deref().unwrap_or(company_line), true),
            (Party::Number(number), _) => (number.as_str(), true),
        };
        format!("sip:{}@{domain}{}", escaped_user(user), if is_telephone { ";user=phone" } else { "" })
    }
}

/// Adds both headers for a call that was forwarded, here or `earlier`. `company_line`: of the trunk it goes to; `None` inside
/// the company.
pub(super) fn add(
    mut request: RequestBuilder,
    earlier: &ReceivedHistory,
    stops: &[Stop],
    domain: &str,
    company_line: Option<&str>,
) -> RequestBuilder {
    if stops.iter().all(|stop| stop.cause.is_none()) {
        return earlier.add_entries(earlier.add_diversions(request, domain), domain);
    }
    for (stop, cause) in stops.iter().rev().filter_map(|stop| stop.cause.map(|cause| (stop, cause))) {
        let uri = stop.uri(domain, company_line);
        request = request.header("Diversion", format_args!("<{uri}>;reason={};counter=1", cause.diversion_reason()));
    }
    request = earlier.add_entries(earlier.add_diversions(request, domain), domain);
    let mut index = earlier.last_index().map_or_else(|| String::from("1"), |last| format!("{last}.1"));
    let mut came_by: Option<Cause> = None;
    for stop in stops {
        let mut uri = stop.uri(domain, company_line);
        let mut mapped_from = String::new();
        if let Some(cause) = came_by {
            uri += &format!(";cause={}", cause.code());
            mapped_from = format!(";mp={index}");
            index += ".1";
        }
        if let Some(status) = stop.cause.and_then(answer) {
            uri += &format!("?Reason=SIP%3Bcause%3D{status}");
        }
        request = request.header("History-Info", format_args!("<{uri}>;index={index}{mapped_from}"));
        came_by = stop.cause;
    }
    request
}

/// The answer, given or implied, that made the call go on (RFC 7044 section 10.2); none where nobody was asked.
const fn answer(cause: Cause) -> Option<u16> {
    match cause {
        Cause::Unconditional | Cause::DoNotDisturb => None,
        Cause::Busy => Some(486),
        Cause::NoAnswer => Some(408),
        Cause::Unreachable => Some(480),
        Cause::Deflection => Some(302),
    }
}

/// How often a call was forwarded before it came here, by its Diversion headers (RFC 5806 section 4.2).
pub(super) fn count(request: &Message) -> usize {
    let counter = |value: &str| {
        let parameter = value.split(';').find_map(|p| p.trim().strip_prefix("counter="));
        parameter.and_then(|n| n.parse().ok()).unwrap_or(1_usize)
    };
    request.values(Name::Diversion).map(counter).fold(0, usize::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extension(number: &str, line: Option<&str>, cause: Option<Cause>) -> Stop {
        Stop { party: Party::Extension(number.to_owned()), line: line.map(str::to_owned), cause }
    }

    /// The values of both headers, in order.
    fn headers(stops: &[Stop], company_line: Option<&str>) -> (Vec<String>, Vec<String>) {
        let (request, earlier) = (RequestBuilder::new("INVITE", "sip:x@y"), ReceivedHistory::default());
        let request = add(request, &earlier, stops, "pbx.example.com", company_line);
        let message = Message::parse(request.finish()).unwrap();
        let values = |name| message.values(name).map(str::to_owned).collect();
        (values(Name::Diversion), values(Name::HistoryInfo))
    }

    #[test]
    fn a_call_that_went_straight_says_nothing() {
        assert_eq!(headers(&[extension("1001", None, None)], None), (vec![], vec![]));
        assert_eq!(headers(&[], None), (vec![], vec![]));
    }

    #[test]
    fn the_last_diversion_is_first_and_the_history_begins_at_the_beginning() {
        let stops = [
            extension("1001", Some("+12025551001"), Some(Cause::Busy)),
            extension("1002", None, Some(Cause::Unconditional)),
            Stop::number("+12025550177"),
        ];
        let inside = headers(&stops, None);
        assert_eq!(
            inside.0,
            [
                "<sip:1002@pbx.example.com>;reason=unconditional;counter=1",
                "<sip:1001@pbx.example.com>;reason=user-busy;counter=1"
            ]
        );
        assert_eq!(
            inside.1,
            [
                "<sip:1001@pbx.example.com?Reason=SIP%3Bcause%3D486>;index=1",
                "<sip:1002@pbx.example.com;cause=486>;index=1.1;mp=1",
                "<sip:+12025550177@pbx.example.com;user=phone;cause=302>;index=1.1.1;mp=1.1"
            ]
        );
        let outside = headers(&stops, Some("+12025550100"));
        assert_eq!(
            outside.0,
            [
                "<sip:+12025550100@pbx.example.com;user=phone>;reason=unconditional;counter=1",
                "<sip:+12025551001@pbx.example.com;user=phone>;reason=user-busy;counter=1"
            ]
        );
        assert!(!format!("{outside:?}").contains("1002@"), "an extension is shown to the carrier");
    }

    #[test]
    fn earlier_diversions_are_counted_with_their_counters() {
        let count = |lines: &str| {
            let text = format!("INVITE sip:a@b SIP/2.0\r\n{lines}Content-Length: 0\r\n\r\n");
            count(&Message::parse(text.into()).unwrap())
        };
        assert_eq!(count(""), 0);
        assert_eq!(count("Diversion: <sip:a@b>;reason=unknown, <sip:c@d>;counter=3\r\n"), 4);
        assert_eq!(count("Diversion: <sip:a@b>;counter=x\r\nDiversion: <sip:a@b>;counter=99999999999999999999\r\n"), 2);
        assert_eq!(
            count(&format!("Diversion: <sip:a@b>;counter={0}, <sip:a@b>;counter={0}\r\n", usize::MAX)),
            usize::MAX
        );
    }
}
