//! What a single value may look like: each function takes the text of one value and returns it checked, or why not.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::RangeInclusive,
    path::PathBuf,
};

use super::{Network, NotifyTarget, reader::Fault};
use crate::{
    policy::{emergency::table, number},
    types::Secret,
};

/// Longest free text: it travels in SIP headers and location documents.
const TEXT_CHARS_MAX: usize = 128;
const HTTPS_PORT: u16 = 443;
/// Media ports two legs of one call need, RTP and RTCP each.
const MEDIA_PORTS_MIN: u16 = 4;

/// Text for people: not empty, no control characters (they could break a SIP header).
pub(super) fn free_text(text: &str) -> Result<String, Fault> {
    let is_printable = !text.trim().is_empty() && !text.chars().any(char::is_control);
    if is_printable && text.chars().count() <= TEXT_CHARS_MAX {
        return Ok(text.to_owned());
    }
    let what = if is_printable { "is too long" } else { "is empty or holds control characters" };
    Err(Fault::new(what, format!("1 to {TEXT_CHARS_MAX} printable characters")))
}

pub(super) fn path(text: &str) -> Result<PathBuf, Fault> {
    if text.is_empty() || text.contains('\0') {
        return Err(Fault::new("is not a path", "a path, absolute or relative to the working directory"));
    }
    Ok(PathBuf::from(text))
}

/// A SIP token (RFC 3261 section 25.1): header names, trunk names.
pub(super) fn token(text: &str) -> Result<String, Fault> {
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&b);
    if text.is_empty() || !text.bytes().all(is_token) {
        return Err(Fault::new("is not a SIP token", "letters, digits, - and _"));
    }
    Ok(text.to_owned())
}

/// A host name or IP address as it stands in a URI, in lower case.
pub(super) fn host(text: &str) -> Result<String, Fault> {
    let remedy = "a host name such as pbx.example.com, an IPv4 address, or an IPv6 address in brackets";
    let bracketed = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    if let Some(bracketed) = bracketed {
        let ip = bracketed.parse::<Ipv6Addr>().map_err(|_| Fault::new("is not an IPv6 address", remedy))?;
        return Ok(format!("[{ip}]"));
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err(Fault::new("has no brackets", format!("\"[{text}]\"")));
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // A last label of digits is an IPv4 address or a mistake (RFC 3261 section 25.1, toplabel).
    let is_numeric = name.rsplit('.').next().is_some_and(number::is_digits);
    let is_name = name.len() <= 253 && name.split('.').all(is_label);
    if !is_name || is_numeric && name.parse::<Ipv4Addr>().is_err() {
        return Err(Fault::new("is neither a host name nor an IP address", remedy));
    }
    Ok(name.to_ascii_lowercase())
}

/// `sip:USER@DOMAIN` or `https://HOST/PATH`. The path of the latter may be a secret, and no fault repeats it.
pub(super) fn notify_target(text: &str) -> Result<NotifyTarget, Fault> {
    const REMEDY: &str = "\"sip:reception@pbx.example.com\" or \"https://desk.example.com/hook\"";
    let fault = || Fault::new("is neither a SIP URI with a user nor an https URL", REMEDY);
    if let Some(address) = text.strip_prefix("sip:") {
        let (user, domain) = address.split_once('@').ok_or_else(fault)?;
        return Ok(NotifyTarget::Sip { user: token(user).map_err(|_| fault())?, host: host(domain)? });
    }
    let rest = text.strip_prefix("https://").ok_or_else(fault)?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let is_path = path.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
    let port = |digits: &str| digits.parse::<u16>().ok().filter(|port| *port != 0);
    let (name, port) = match authority.rsplit_once(':').filter(|(_, digits)| !digits.ends_with(']')) {
        Some((name, digits)) => (name, port(digits).ok_or_else(fault)?),
        None => (authority, HTTPS_PORT),
    };
    if !is_path {
        return Err(fault());
    }
    let path = if path.is_empty() { "/" } else { path };
    Ok(NotifyTarget::Https { host: host(name)?, port, path: Secret::new(path.to_owned()) })
}

/// A host name, in lower case.
pub(super) fn domain(text: &str) -> Result<String, Fault> {
    let name = host(text).ok().filter(|name| name.parse::<Ipv4Addr>().is_err() && !name.starts_with('['));
    name.ok_or_else(|| Fault::new("is not a host name", "a host name such as sip.carrier.example"))
}

/// `address` or `address:port`. The address must be one that can be announced: peers answer to it.
pub(super) fn listen(text: &str, default_port: u16) -> Result<SocketAddr, Fault> {
    let example = format!(
        "an address of this machine such as 192.0.2.10, 192.0.2.10:{default_port} or [2001:db8::10]:{default_port}"
    );
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    let with_default = |ip: IpAddr| SocketAddr::new(ip, default_port);
    let address = text.parse::<SocketAddr>().or_else(|_| bare.parse().map(with_default));
    let address = address.map_err(|_| Fault::new("is not an IP address with an optional port", example))?;
    announceable(address.ip())?;
    Ok(address)
}

/// One DNS server.
pub(super) fn dns_server(text: &str) -> Result<SocketAddr, Fault> {
    const PORT: u16 = 53;
    let remedy = "an address such as 192.0.2.53, 192.0.2.53:53 or [2001:db8::53]:53";
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    let address = text.parse().or_else(|_| bare.parse().map(|ip: IpAddr| SocketAddr::new(ip, PORT)));
    address
        .ok()
        .filter(|address: &SocketAddr| address.port() != 0 && announceable(address.ip()).is_ok())
        .ok_or_else(|| Fault::new("is not the address of a DNS server", remedy))
}

/// One address for media.
pub(super) fn media_address(text: &str) -> Result<IpAddr, Fault> {
    let ip = text.parse().map_err(|_| {
        Fault::new("is not an IP address", "an address of this machine without port or brackets, such as 192.0.2.10")
    })?;
    announceable(ip)?;
    Ok(ip)
}

fn announceable(ip: IpAddr) -> Result<(), Fault> {
    let what = if ip.is_unspecified() {
        "is no address that a peer can answer to"
    } else if ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST) {
        "is not the address of one machine"
    } else {
        return Ok(());
    };
    Err(Fault::new(what, "each address of this machine that phones can reach, one by one"))
}

/// Whether strangers can reach it from anywhere (IANA's registries of special-purpose addresses).
pub(super) fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let is_shared = matches!(ip.octets(), [100, 64..=127, ..] | [198, 18 | 19, ..]);
            let is_special = ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_documentation();
            !is_shared && !is_special && !ip.is_unspecified() && !ip.is_multicast() && !ip.is_broadcast()
        }
        // 2000::/3 but for documentation.
        IpAddr::V6(ip) => ip.segments()[0] & 0xe000 == 0x2000 && ip.segments()[..2] != [0x2001, 0x0db8],
    }
}

/// `"off"`, or a loopback address with an optional port.
pub(super) fn loopback_listen(text: &str, default_port: u16) -> Result<Option<SocketAddr>, Fault> {
    if text == "off" {
        return Ok(None);
    }
    let remedy = format!(
        "\"127.0.0.1:{default_port}\", \"[::1]:{default_port}\" or \"off\"; for other machines tls, and a token of `ringdown token add`"
    );
    let address = listen(text, default_port).map_err(|fault| Fault { remedy: remedy.clone(), ..fault })?;
    if !address.ip().is_loopback() {
        return Err(Fault::new("is reachable from other machines", remedy));
    }
    Ok(Some(address))
}

/// `low-high`, both included.
pub(super) fn ports(text: &str) -> Result<RangeInclusive<u16>, Fault> {
    let remedy = "two ports from 1024 to 65535 as in \"10000-29999\", room for at least four";
    let fault = |what: &str| Fault::new(what, remedy);
    let (low, high) = text.split_once('-').ok_or_else(|| fault("is not a range"))?;
    let port = |text: &str| text.trim().parse::<u16>().map_err(|_| fault("does not hold two port numbers"));
    let (low, high) = (port(low)?, port(high)?);
    if low < 1024 {
        return Err(fault("reaches into the system's ports"));
    }
    if high.saturating_sub(low) < MEDIA_PORTS_MIN - 1 {
        return Err(fault("has no room for a call"));
    }
    Ok(low..=high)
}

/// The name of a network interface.
pub(super) fn interface(text: &str) -> Result<String, Fault> {
    const BYTES_MAX: usize = 15;
    let is_name = |c: char| c.is_ascii_graphic() && c != '/' && c != ':';
    if text.is_empty() || text.len() > BYTES_MAX || !text.chars().all(is_name) {
        let remedy = "1 to 15 characters as `ip link` shows them, such as \"eth0\"";
        return Err(Fault::new("is not the name of an interface", remedy));
    }
    Ok(text.to_owned())
}

/// `address/bits`, or one address.
pub(super) fn network(text: &str) -> Result<Network, Fault> {
    let fault = || Fault::new("is not a network", "an address prefix such as \"10.0.0.0/8\" or \"2001:db8::/32\"");
    let (address, bits) = text.split_once('/').map_or((text, None), |(a, b)| (a, Some(b)));
    let address: IpAddr = address.parse().map_err(|_| fault())?;
    let width: u8 = if address.is_ipv4() { 32 } else { 128 };
    let prefix_bits = match bits {
        Some(bits) => bits.parse().ok().filter(|b| *b <= width).ok_or_else(fault)?,
        None => width,
    };
    let network = Network { address, prefix_bits };
    let first = network.first();
    if first != address {
        return Err(Fault::new("has bits set behind its prefix", format!("\"{first}/{prefix_bits}\"")));
    }
    Ok(network)
}

/// `+` and 7 to 15 digits.
pub(super) fn e164(text: &str) -> Result<String, Fault> {
    if !number::is_e164(text) {
        return Err(Fault::new(
            "is not an E.164 number",
            "+, country code and number without separators: \"+12025550100\"",
        ));
    }
    Ok(text.to_owned())
}

/// A number as it is dialled: 2 to 15 digits.
pub(super) fn short_number(text: &str) -> Result<String, Fault> {
    if !number::is_digits(text) || !(2..=number::E164_DIGITS_MAX).contains(&text.len()) {
        return Err(Fault::new("is not a number as it is dialled", "2 to 15 digits in quotes, without separators"));
    }
    Ok(text.to_owned())
}

/// An internal number: 1 to 15 digits.
pub(super) fn extension(text: &str) -> Result<String, Fault> {
    if !number::is_digits(text) || text.len() > number::E164_DIGITS_MAX {
        return Err(Fault::new("is not an extension", "1 to 15 digits in quotes"));
    }
    Ok(text.to_owned())
}

pub(super) fn outside_prefix(text: &str) -> Result<String, Fault> {
    if !number::is_digits(text) || text.len() > 3 {
        return Err(Fault::new("is not an outside prefix", "1 to 3 digits in quotes, such as \"9\""));
    }
    Ok(text.to_owned())
}

/// An ISO 3166-1 alpha-2 code in any case.
pub(super) fn region(text: &str) -> Result<String, Fault> {
    let code = text.to_ascii_uppercase();
    if table::region(&code).is_none() {
        return Err(Fault::new("is not a region", "a two-letter ISO 3166-1 code, such as \"US\" or \"DE\""));
    }
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listening_addresses_may_leave_out_the_port() {
        for (text, address) in [
            ("127.0.0.1", "127.0.0.1:5060"),
            ("192.0.2.10:5080", "192.0.2.10:5080"),
            ("::1", "[::1]:5060"),
            ("[::1]", "[::1]:5060"),
            ("[2001:db8::10]:0", "[2001:db8::10]:0"),
        ] {
            assert_eq!(listen(text, 5060).unwrap().to_string(), address);
        }
        for wrong in ["", "localhost", "192.0.2.10:", "192.0.2.10:99999", "0.0.0.0", "[::]:5060", "224.0.0.1", "1.2.3"]
        {
            assert!(listen(wrong, 5060).is_err(), "{wrong}");
        }
    }

    #[test]
    fn addresses_that_strangers_reach_are_public() {
        for public in ["8.8.8.8", "100.128.0.1", "198.20.0.1", "172.32.0.1", "2a00::1", "::ffff:8.8.8.8"] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for own in [
            "127.0.0.1",
            "10.1.2.3",
            "172.31.0.1",
            "192.168.0.1",
            "169.254.1.1",
            "100.64.0.1",
            "198.18.0.1",
            "192.0.2.1",
            "::1",
            "fe80::1",
            "fd00::1",
            "2001:db8::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(!is_public(own.parse().unwrap()), "{own}");
        }
    }

    #[test]
    fn the_admin_interface_listens_on_loopback_or_not_at_all() {
        assert_eq!(loopback_listen("off", 8060), Ok(None));
        assert_eq!(loopback_listen("127.0.0.1", 8060).unwrap().unwrap().port(), 8060);
        assert!(loopback_listen("192.0.2.10:8060", 8060).unwrap_err().remedy.contains("127.0.0.1:8060"));
    }

    #[test]
    fn hosts_are_names_or_addresses() {
        for (text, host_text) in [
            ("PBX.Example.com.", "pbx.example.com"),
            ("192.0.2.10", "192.0.2.10"),
            ("[2001:DB8::10]", "[2001:db8::10]"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(host(text).unwrap(), host_text);
        }
        for wrong in
            ["", ".", "a..b", "-a", "a b", "911", "1.2.3", "a_b", "::1", "[1.2.3.4]", "sip:x", "a:5060", "é.example"]
        {
            assert!(host(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_port_range_has_room_for_a_call() {
        assert_eq!(ports("10000-29999"), Ok(10000..=29999));
        assert_eq!(ports("20000 - 20003"), Ok(20000..=20003));
        for wrong in ["20000", "20000-", "20000-20002", "39999-20000", "80-90", "20000-70000", "a-b", "-1-5"] {
            assert!(ports(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_network_is_a_prefix_and_nothing_behind_it() {
        let parsed = network("10.0.0.0/8").unwrap();
        assert_eq!(parsed.prefix_bits, 8);
        assert_eq!(network("192.0.2.1").unwrap().prefix_bits, 32);
        assert_eq!(network("0.0.0.0/0").unwrap().prefix_bits, 0);
        assert_eq!(network("10.1.2.3/8").unwrap_err().remedy, "\"10.0.0.0/8\"");
        for wrong in ["10.0.0.0/33", "10.0.0.0/", "10.0.0/8", "2001:db8::/129", "x", "/8", "10.0.0.0/8/8"] {
            assert!(network(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_have_their_form() {
        assert!(e164("+12025550100").is_ok() && e164("12025550100").is_err() && e164("+911").is_err());
        assert!(short_number("933").is_ok() && short_number("9").is_err() && short_number("9-1-1").is_err());
        assert!(outside_prefix("9").is_ok() && outside_prefix("").is_err() && outside_prefix("9999").is_err());
        assert_eq!(region("us").as_deref(), Ok("US"));
        assert!(region("UK").is_err() && region("*").is_err());
    }

    #[test]
    fn a_notify_target_is_a_user_of_ours_or_a_web_server() {
        let sip = |user: &str| NotifyTarget::Sip { user: user.to_owned(), host: "pbx.example.com".to_owned() };
        let https = |host: &str, port, path: &str| {
            let path = Secret::new(path.to_owned());
            Ok(NotifyTarget::Https { host: host.to_owned(), port, path })
        };
        assert_eq!(notify_target("sip:reception@PBX.example.com"), Ok(sip("reception")));
        assert_eq!(notify_target("https://desk.example.com"), https("desk.example.com", 443, "/"));
        assert_eq!(notify_target("https://desk.example.com:8443/a?b=c"), https("desk.example.com", 8443, "/a?b=c"));
        assert_eq!(notify_target("https://[2001:db8::1]/x"), https("[2001:db8::1]", 443, "/x"));
        for wrong in [
            "reception",
            "sip:pbx.example.com",
            "sip:a b@pbx.example.com",
            "http://desk.example.com/",
            "https://desk.example.com:0/",
            "https://desk.example.com/a b",
            "https:///x",
            "mailto:desk@example.com",
        ] {
            assert!(notify_target(wrong).is_err(), "{wrong}");
        }
        let label = notify_target("https://desk.example.com/secret").unwrap();
        assert!(!format!("{label:?} {}", label.label()).contains("secret"));
    }

    #[test]
    fn free_text_cannot_break_a_header() {
        assert!(free_text("Example Corp & Söhne").is_ok());
        for wrong in ["", "  ", "a\r\nVia: x", "a\tb"] {
            assert!(free_text(wrong).is_err(), "{wrong:?}");
        }
        assert!(free_text(&"x".repeat(128)).is_ok() && free_text(&"x".repeat(129)).is_err());
    }
}
