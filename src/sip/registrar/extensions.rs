//! How a REGISTER came, and which extensions it takes part in: flows (RFC 5626), Path (RFC 3327), GRUU (RFC 5627).
//!
//! Service-Route (RFC 3608), which trunks may tell this server, is never sent to devices: a device sends everything to where it registered, and its proxies, if it has
//! any, find us without being told.

use crate::{
    types::{
        Flow,
        limits::{BINDING_TEXT_BYTES_MAX, PATH_MAX},
    },
    wire::sip::{Message, Name, NameAddr, Uri},
};

use super::request::Refusal;

/// Option tags that a REGISTER may require.
pub const EXTENSIONS: [&str; 4] = ["gin", "gruu", "outbound", "path"];

/// The part of a REGISTER that says how the device is reached.
#[derive(Debug)]
pub(super) struct Way<'a> {
    /// Proxies towards the device, the nearest to us first, as they stand in the request.
    pub(super) path: Vec<&'a str>,
    /// The flow of the request is a proxy's, not the device's own.
    pub(super) is_proxied: bool,
    /// The device can have several flows.
    pub(super) has_outbound: bool,
    /// We keep the flow, and it is a connection: the device is told how often to ping. For UDP it knows better itself how
    /// long its NAT remembers (RFC 5626 section 4.4.2).
    pub(super) is_timed: bool,
    pub(super) wants_gruu: bool,
}

impl<'a> Way<'a> {
    pub(super) fn read(request: &'a Message, flow: &Flow) -> Result<Self, Refusal> {
        let path: Vec<&str> = request.values(Name::Path).collect();
        if path.len() > PATH_MAX || !path.iter().all(|hop| is_path(hop)) {
            return Err(Refusal::MALFORMED_PATH);
        }
        // A proxy on the way has put itself between us and a device that does not know of it (RFC 3327 section 5.3).
        if !path.is_empty() && !supports(request, "path") {
            return Err(Refusal::NO_PATH);
        }
        let is_proxied = !path.is_empty() || request.values(Name::Via).count() > 1;
        let has_outbound = supports(request, "outbound");
        let is_timed = !is_proxied && flow.transport.is_reliable();
        Ok(Self { path, is_proxied, has_outbound, is_timed, wants_gruu: supports(request, "gruu") })
    }

    /// Whether the proxy next to the device keeps its flow (RFC 5626 sections 5.1 and 6). Without a proxy we do.
    pub(super) fn keeps_flow(&self) -> bool {
        let edge = self.path.last().and_then(|hop| NameAddr::parse(hop)).and_then(|hop| Uri::parse(hop.uri));
        !self.is_proxied || edge.is_some_and(|uri| uri.params.has("ob"))
    }
}

/// The parameter of a bulk contact (RFC 6140 section 5.2), which has no value.
pub(super) fn is_bnc(part: &str) -> bool {
    part.split('=').next().is_some_and(|name| name.eq_ignore_ascii_case("bnc"))
}

fn supports(request: &Message, tag: &str) -> bool {
    let tags = request.values(Name::Supported).chain(request.values(Name::Require));
    tags.map(str::trim).any(|supported| supported.eq_ignore_ascii_case(tag))
}

/// A loose route (RFC 3327 section 4 demands `lr`): what is copied into Route needs no second thought then.
fn is_path(hop: &str) -> bool {
    let uri = NameAddr::parse(hop).and_then(|hop| Uri::parse(hop.uri));
    hop.len() <= BINDING_TEXT_BYTES_MAX && uri.is_some_and(|uri| uri.is_sip() && uri.params.has("lr"))
}

#[cfg(test)]
mod tests {
    use crate::{
        sip::registrar::{
            Input,
            tests::{Answer, Fixture, refused, tls, udp},
        },
        types::{ConnectionId, limits::PATH_MAX},
    };

    const PROXIED: &str = "Via: SIP/2.0/TCP 10.0.0.1;branch=z9hG4bK2\n";

    fn flow_of(reg_id: u32, port: u16) -> String {
        format!(
            "Supported: outbound\n\
             Contact: <sip:a@192.0.2.1:{port};ob>;reg-id={reg_id};+sip.instance=\"<urn:uuid:1>\";expires=600\n"
        )
    }

    fn header<'a>(answer: &'a Answer, name: &str) -> Vec<&'a str> {
        answer.headers.iter().filter(|(n, _)| *n == name).map(|(_, value)| value.as_str()).collect()
    }

    #[test]
    fn flows_of_one_device_stand_side_by_side_and_a_new_one_of_the_same_number_replaces_the_old() {
        let mut f = Fixture::default();
        let first = f.register_on("alice", tls(1), &flow_of(1, 1001));
        assert_eq!(header(&first, "Require"), ["outbound"]);
        assert_eq!(header(&first, "Flow-Timer"), ["120"]);
        f.register_on("alice", tls(2), &flow_of(2, 1002));
        assert_eq!(f.contacts("alice"), ["sip:a@192.0.2.1:1002;ob", "sip:a@192.0.2.1:1001;ob"]);
        let one_device: Vec<_> = f.registrar.contacts("alice").map(|b| b.reg_id).collect();
        assert_eq!(one_device, [Some(2)], "one device is called once");
        let answer = f.send("alice", tls(3), "reboot", 1, &flow_of(1, 1003));
        assert_eq!(answer.contacts[0], "<sip:a@192.0.2.1:1003;ob>;expires=600;reg-id=1;+sip.instance=\"<urn:uuid:1>\"");
        assert_eq!(f.contacts("alice"), ["sip:a@192.0.2.1:1003;ob", "sip:a@192.0.2.1:1002;ob"]);
        f.check();
        f.feed(Input::ConnectionClosed(ConnectionId(3)));
        assert_eq!(f.contacts("alice"), ["sip:a@192.0.2.1:1002;ob"], "a failed flow is gone at once");
        f.check();
    }

    #[test]
    fn devices_and_flows_with_the_same_private_contact_do_not_displace_each_other() {
        let mut f = Fixture::default();
        let contact = |instance: u32, reg_id: u32| {
            format!(
                "Supported: outbound\nContact: <sip:a@10.0.0.7>;reg-id={reg_id};+sip.instance=\"<urn:{instance}>\"\n"
            )
        };
        for (connection, instance, reg_id) in [(1, 1, 1), (2, 1, 2), (3, 2, 1)] {
            f.register_on("alice", tls(connection), &contact(instance, reg_id));
            f.check();
        }
        assert_eq!(f.registrar.len(), 3);
        f.register_on("alice", tls(3), "Contact: <sip:a@10.0.0.7>;+sip.instance=\"<urn:1>\"\n");
        assert_eq!(f.registrar.len(), 2, "without a number, the registration stands for the whole device");
        f.check();
    }

    #[test]
    fn a_number_counts_only_with_support_and_an_instance() {
        let ordinary = |headers: &str| {
            let mut f = Fixture::default();
            let answer = f.register_on("alice", tls(1), headers);
            assert_eq!(answer.status, 200);
            assert_eq!(header(&answer, "Require"), Vec::<&str>::new(), "{headers}");
            assert_eq!(f.registrar.contacts("alice").next().unwrap().reg_id, None);
        };
        ordinary(&flow_of(1, 1001).replace("Supported: outbound\n", ""));
        ordinary("Supported: outbound\nContact: <sip:a@x>;reg-id=1\n");
    }

    #[test]
    fn a_flow_over_udp_is_kept_without_a_timer_of_ours() {
        let mut f = Fixture::default();
        for (reg_id, remote) in [(1, "192.0.2.1:5062"), (2, "192.0.2.1:5063")] {
            let answer = f.register_on("alice", udp(remote), &flow_of(reg_id, 1001));
            assert_eq!(header(&answer, "Require"), ["outbound"]);
            assert_eq!(header(&answer, "Flow-Timer"), Vec::<&str>::new());
        }
        assert_eq!((f.registrar.len(), f.registrar.contacts("alice").count()), (2, 1));
        f.check();
    }

    #[test]
    fn a_bulk_contact_gets_each_number_in_the_place_of_its_parameter() {
        let mut f = Fixture::default();
        for (contact, uri) in [
            ("sip:198.51.100.3;bnc", "sip:+12025550200@198.51.100.3"),
            ("sips:[2001:db8::1]:5071;transport=tcp;BNC;x=1", "sips:+12025550200@[2001:db8::1]:5071;transport=tcp;x=1"),
            ("sip:pbx@198.51.100.3", "sip:pbx@198.51.100.3"),
        ] {
            f.register_on("pbx", tls(1), &format!("Supported: gruu\nContact: <{contact}>;+sip.instance=\"<urn:1>\"\n"));
            let binding = f.registrar.contacts("pbx").next().unwrap();
            assert_eq!(binding.uri_for("+12025550200"), uri);
        }
    }

    #[test]
    fn a_bulk_contact_with_a_user_is_refused() {
        let mut f = Fixture::default();
        for contact in ["sip:pbx@198.51.100.3;bnc", "sip:198.51.100.3:50@198.51.100.4;BNC"] {
            assert_eq!(f.register_on("pbx", tls(1), &format!("Contact: <{contact}>\n")), refused(400), "{contact}");
        }
    }

    #[test]
    fn a_wrong_number_or_two_flows_in_one_request_are_refused() {
        let mut f = Fixture::default();
        for bad in ["0", "x", "2147483648", ""] {
            let headers = flow_of(1, 1001).replace("reg-id=1", &format!("reg-id={bad}"));
            assert_eq!(f.register_on("alice", tls(1), &headers), refused(400), "{bad}");
        }
        let most = flow_of(1, 1001).replace("reg-id=1", "reg-id=2147483647");
        assert_eq!(f.register_on("alice", tls(1), &most).status, 200);
        let both = flow_of(1, 1001) + &flow_of(2, 1002);
        assert_eq!(f.register_on("alice", tls(1), &both), refused(400));
    }

    #[test]
    fn behind_a_proxy_that_keeps_no_flow_outbound_is_refused_with_439() {
        let mut f = Fixture::default();
        let path = "Supported: path\nPath: <sip:core.example.com;lr>\nPath: <sip:edge.example.com;lr>\n";
        let headers = format!("{PROXIED}{path}{}", flow_of(1, 1001));
        assert_eq!(f.register_on("alice", udp("192.0.2.8:5060"), &headers), refused(439));
        assert_eq!(f.register_on("alice", tls(1), &format!("{PROXIED}{}", flow_of(1, 1001))), refused(439));
        let keeping = headers.replace("edge.example.com;lr", "edge.example.com;lr;ob");
        let answer = f.register_on("alice", udp("192.0.2.8:5060"), &keeping);
        assert_eq!((answer.status, header(&answer, "Require")), (200, vec!["outbound"]));
        assert_eq!(header(&answer, "Flow-Timer"), Vec::<&str>::new(), "the proxy speaks for its own flow");
    }

    #[test]
    fn a_path_is_kept_in_order_and_shown_to_the_device() {
        let mut f = Fixture::default();
        let hops = ["<sip:core.example.com;lr>", "\"Edge, one\" <sips:edge.example.com;lr>;x=1"];
        let headers = format!("{PROXIED}Supported: path\nPath: {}\nPath: {}\nContact: <sip:a@x>\n", hops[0], hops[1]);
        let answer = f.register_on("alice", tls(1), &headers);
        assert_eq!(header(&answer, "Path"), hops);
        assert_eq!(f.registrar.contacts("alice").next().unwrap().path, hops);
        assert_eq!(f.registrar.owner_of(&tls(1)), None, "a proxy's connection proves no user");
        assert!(f.registrar.is_bound(&tls(1)));
        f.check();
    }

    #[test]
    fn a_path_the_device_does_not_know_of_or_that_cannot_be_a_route_is_refused() {
        let mut f = Fixture::default();
        let answer = f.register_on("alice", tls(1), &format!("{PROXIED}Path: <sip:p;lr>\nContact: <sip:a@x>\n"));
        assert_eq!((answer.status, header(&answer, "Unsupported")), (420, vec!["path"]));
        let with = |hops: &str| format!("{PROXIED}Supported: path\nPath: {hops}\nContact: <sip:a@x>\n");
        for bad in ["<sip:p>", "<tel:+1;lr>", "<sip:p;lr", &["<sip:p;lr>"; PATH_MAX + 1].join(", ")] {
            assert_eq!(f.register_on("alice", tls(1), &with(bad)), refused(400), "{bad}");
        }
        assert!(f.registrar.is_empty());
        assert_eq!(f.register_on("alice", tls(1), &with(&["<sip:p;lr>"; PATH_MAX].join(", "))).status, 200);
    }
}
