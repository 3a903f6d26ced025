//! Which keys there are: each table of the file, read into its part of the [`Config`] with defaults filled in.
//!
//! A value that is reported as wrong is replaced by its default here, so that reading can go on and find the next problem;
//! the configuration it would make is never returned.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
};

use super::{
    Admin, ClientCertificates, Company, Config, Dialing, Dns, Emergency, EmergencyRequestUri, Encryption, FromAddress,
    IdentityHeader, Log, LogFormat, Media, MediaBackend, Pbx, PidfElement, Privacy, PrivateAddress, Register,
    SandboxMode, Server, Sip, Tls, Trunk, TrunkLocation, TrunkServer, Unauthenticated, calling, checks, groups,
    inbound,
    reader::{Fault, Section},
    stir, value,
};
use crate::{
    policy::number::NumberForm,
    types::{Private, Transport, limits::PBX_NUMBERS_MAX},
    wire::pidf,
};

const LOOPBACK: &str = "127.0.0.1";
const ADMIN_PORT: u16 = 8060;
const ADMIN_TLS_PORT: u16 = 8061;
const WORKERS_MAX: u16 = 256;
/// No card has more.
const XDP_QUEUE_MAX: u16 = 1_023;
/// Longer than any voice packet lets wait for the next.
const SPIN_US_MAX: u16 = 10_000;
/// A day to ten years.
const DAYS_KEPT: RangeInclusive<u16> = 1..=3_650;
/// Six bits (RFC 2474 section 3).
const DSCPS: RangeInclusive<u16> = 0..=63;

pub(super) fn config(root: &mut Section<'_>) -> Config {
    let (sip, admin) = listeners(root.section("sip"), root.section("admin"));
    let server = server(root.section("server"), &sip);
    let tls = tls(root.section("tls"), &sip);
    let dns = dns(root.section("dns"));
    let media = media(root.section("media"), &sip);
    let trunk = |(name, section)| trunk(name, section, &tls);
    let trunks: Vec<_> = root.section("trunk").named_sections().into_iter().map(trunk).collect();
    let pbxs = root.section("pbx").named_sections().into_iter().map(|(name, s)| pbx(&name, s)).collect();
    let company = company(root.section("company"), &trunks);
    let mut dialing_section = root.section("dialing");
    let dialing = dialing(&mut dialing_section);
    let calling = calling::read(root.section("calling"), &trunks);
    let emergency = emergency(root.section("emergency"), &company, &trunks, (&server, &media));
    let privacy = privacy(root.section("privacy"));
    let log = log(root.section("log"));
    let groups = groups::read(root.section("group"));
    let inbound = inbound::read(root.section("inbound"));
    let stir = stir::read(root.section("stir"));
    let config = Config {
        server,
        sip,
        tls,
        dns,
        media,
        company,
        emergency,
        dialing,
        calling,
        trunks,
        pbxs,
        admin,
        privacy,
        log,
        groups,
        inbound,
        stir,
    };
    checks::voicemail(&dialing_section, &config);
    config
}

fn server(mut section: Section<'_>, sip: &Sip) -> Server {
    let server = Server {
        domain: section.text("domain", value::host).unwrap_or_else(|| LOOPBACK.to_owned()),
        state_dir: section.text("state_dir", value::path).unwrap_or_else(|| "state".into()),
        seal_key: section.text("seal_key", value::path),
    };
    if has_outside_listener(sip) && !section.has("domain") {
        let message = format!("phones on other machines cannot reach the default {:?}", server.domain);
        section.warn("domain", message, "the name or address that phones use for this server");
    }
    section.finish();
    server
}

fn has_outside_listener(sip: &Sip) -> bool {
    [&sip.udp, &sip.tcp, &sip.tls].into_iter().flatten().any(|address| !address.ip().is_loopback())
}

fn listeners(mut sip_section: Section<'_>, mut admin_section: Section<'_>) -> (Sip, Admin) {
    let mut read = |key, transport: Transport| {
        let port = transport.default_port();
        let default = || vec![SocketAddr::new(IpAddr::from([127, 0, 0, 1]), port)];
        sip_section.texts(key, |text| value::listen(text, port)).unwrap_or_else(default)
    };
    let [udp, tcp, tls] =
        [("udp", Transport::Udp), ("tcp", Transport::Tcp), ("tls", Transport::Tls)].map(|(key, t)| read(key, t));
    // CS3, as telephones and switches have it; RFC 4594 section 4.2 would have CS5.
    let sip = Sip { udp, tcp, tls, dscp: dscp(sip_section.integer("dscp", DSCPS), 24) };
    for (key, addresses) in [("udp", &sip.udp), ("tcp", &sip.tcp)] {
        if let Some(address) = addresses.iter().find(|address| value::is_public(address.ip())) {
            let message =
                format!("{} is a public address, where strangers read and forge what has no TLS", address.ip());
            sip_section.warn(key, message, format!("{key} = [], and phones and carriers on an address in tls"));
        }
    }
    let listen = admin_section.text("listen", |text| value::loopback_listen(text, ADMIN_PORT));
    let admin = Admin {
        listen: listen.unwrap_or_else(|| Some(SocketAddr::from(([127, 0, 0, 1], ADMIN_PORT)))),
        tls: admin_section.texts("tls", |text| value::listen(text, ADMIN_TLS_PORT)).unwrap_or_default(),
    };
    if sip.udp.is_empty() && sip.tcp.is_empty() && sip.tls.is_empty() {
        sip_section.error(
            "",
            "no phone could connect: udp, tcp and tls are all empty",
            "an address in at least one of them",
        );
    }
    // Port 0 lets the system choose, and it never chooses the same one twice.
    let is_taken = |address: &SocketAddr, by: &[SocketAddr]| address.port() != 0 && by.contains(address);
    if let Some(address) = sip.tls.iter().find(|a| is_taken(a, &sip.tcp)) {
        sip_section.error("tls", format!("{address} is also in tcp"), "another port for one of them");
    }
    if let Some(address) = admin.listen.filter(|a| is_taken(a, &sip.tcp) || is_taken(a, &sip.tls)) {
        admin_section.error("listen", format!("{address} is also a SIP address"), "another port for one of them");
    }
    if let Some(address) = admin.tls.iter().find(|a| is_taken(a, &sip.tcp) || is_taken(a, &sip.tls)) {
        admin_section.error("tls", format!("{address} is also a SIP address"), "another port for one of them");
    }
    if let Some(address) = admin.listen.filter(|a| is_taken(a, &admin.tls)) {
        admin_section.error("tls", format!("{address} is also in listen"), "another port for one of them");
    }
    sip_section.finish();
    admin_section.finish();
    (sip, admin)
}

fn tls(mut section: Section<'_>, sip: &Sip) -> Tls {
    let wishes = [("optional", ClientCertificates::Optional), ("required", ClientCertificates::Required)];
    let tls = Tls {
        certificate: section.text("certificate", value::path),
        key: section.text("key", value::path),
        client_ca: section.text("client_ca", value::path),
        client_certificates: section.choice("client_certificates", &wishes).unwrap_or(ClientCertificates::Optional),
    };
    if tls.client_certificates == ClientCertificates::Required && !section.has("client_ca") {
        let remedy = "client_ca = \"...\": the file with the CAs that sign the certificates";
        section.error("client_certificates", "client_ca is missing", remedy);
    }
    if section.has("client_ca") && sip.tls.is_empty() {
        section.error(
            "client_ca",
            "nobody connects over TLS: sip.tls is empty",
            "an address in sip.tls, or no client_ca",
        );
    }
    for (present, missing) in [("certificate", "key"), ("key", "certificate")] {
        if section.has(present) && !section.has(missing) {
            section.error(
                present,
                format!("{missing} is missing"),
                format!("both {present} and {missing}, or neither"),
            );
        }
    }
    section.finish();
    tls
}

fn dns(mut section: Section<'_>) -> Dns {
    let dns = Dns { servers: section.texts("servers", value::dns_server).unwrap_or_default() };
    section.finish();
    dns
}

fn media(mut section: Section<'_>, sip: &Sip) -> Media {
    let media = Media {
        addresses: section
            .texts("addresses", value::media_address)
            .unwrap_or_else(|| vec![IpAddr::from([127, 0, 0, 1])]),
        ports: section.text("ports", value::ports).unwrap_or(10_000..=29_999),
        workers: section.integer("workers", 0..=WORKERS_MAX).unwrap_or(0),
        load_max_percent: section.integer("load_max_percent", 1..=100).unwrap_or(80),
        encryption: section
            .choice("encryption", &[("required", Encryption::Required), ("preferred", Encryption::Preferred)])
            .unwrap_or(Encryption::Required),
        // EF and AF41 (RFC 4594 sections 4.1 and 4.3).
        dscp_audio: dscp(section.integer("dscp_audio", DSCPS), 46),
        dscp_video: dscp(section.integer("dscp_video", DSCPS), 34),
        backend: section
            .choice("backend", &[("epoll", MediaBackend::Epoll), ("xdp", MediaBackend::Xdp)])
            .unwrap_or(MediaBackend::Epoll),
        xdp_interface: section.text("xdp_interface", value::interface),
        xdp_queues: section.integers("xdp_queues", 0..=XDP_QUEUE_MAX).unwrap_or_else(|| vec![0]),
        spin_us: section.integer("spin_us", 0..=SPIN_US_MAX).unwrap_or(0),
    };
    check_xdp(&section, &media);
    let of_family = |is_v4: bool| media.addresses.iter().filter(|a| a.is_ipv4() == is_v4).count();
    if section.has("addresses") && (media.addresses.is_empty() || of_family(true) > 1 || of_family(false) > 1) {
        let remedy = "one IPv4 address, one IPv6 address, or one of each";
        section.error("addresses", format!("{} addresses are listed", media.addresses.len()), remedy);
    }
    if has_outside_listener(sip) && media.addresses.iter().all(IpAddr::is_loopback) {
        let message = "phones on other machines would be told to send audio to a loopback address";
        section.warn("addresses", message, "the address of this machine that phones use");
    }
    let is_shared = |a: &&SocketAddr| media.addresses.contains(&a.ip()) && media.ports.contains(&a.port());
    if let Some(address) = sip.udp.iter().find(is_shared) {
        section.error("ports", format!("the range holds the SIP address {address}"), "a range without SIP ports");
    }
    section.finish();
    media
}

fn check_xdp(section: &Section<'_>, media: &Media) {
    if media.backend == MediaBackend::Xdp && !section.has("xdp_interface") {
        let remedy = "xdp_interface = \"...\": the interface that phones are reached by";
        section.error("backend", "xdp_interface is missing".to_owned(), remedy);
    }
    if media.xdp_queues.is_empty() {
        section.error("xdp_queues", "no queue is listed".to_owned(), "a list such as [0], one queue for each worker");
    }
    if media.workers > 0 && media.xdp_queues.len() > usize::from(media.workers) {
        let message = format!("{} queues are listed for workers = {}", media.xdp_queues.len(), media.workers);
        section.error("xdp_queues", message, "at most one queue for each worker");
    }
}

fn dscp(read: Option<u16>, default: u8) -> u8 {
    read.and_then(|dscp| u8::try_from(dscp).ok()).unwrap_or(default)
}

fn company(mut section: Section<'_>, trunks: &[Trunk]) -> Company {
    let company = Company {
        name: section.text("name", value::free_text).unwrap_or_default(),
        region: section.text("region", value::region).unwrap_or_default(),
        address: address(&mut section),
    };
    for (key, remedy) in [
        ("name", "name = \"...\": the caller's name on emergency calls"),
        ("region", "region = \"US\": the ISO 3166-1 code that decides which numbers are emergency numbers"),
    ] {
        if !section.has(key) {
            section.error(key, "this key is missing", remedy);
        }
    }
    checks::company(&section, &company, trunks);
    section.finish();
    company
}

fn address(company: &mut Section<'_>) -> Option<BTreeMap<String, String>> {
    let mut section = company.section("address");
    let mut elements = BTreeMap::new();
    for name in pidf::ELEMENTS.into_iter().chain(pidf::EXTENSION_ELEMENTS) {
        elements.extend(section.text(name, value::free_text).map(|text| (name.to_owned(), text)));
    }
    section.finish();
    section.is_present().then_some(elements)
}

/// As [`address`], of somebody's home: a wrong value is not repeated.
pub(super) fn private_address(section: &mut Section<'_>) -> PrivateAddress {
    let mut elements = BTreeMap::new();
    for name in pidf::ELEMENTS.into_iter().chain(pidf::EXTENSION_ELEMENTS) {
        elements.extend(section.private_text(name, value::free_text).map(|text| (name.to_owned(), text)));
    }
    Private::new(elements)
}

fn emergency(
    mut section: Section<'_>,
    company: &Company,
    trunks: &[Trunk],
    (server, media): (&Server, &Media),
) -> Emergency {
    let emergency = Emergency {
        callback_numbers: section.texts("callback_numbers", value::e164).unwrap_or_default(),
        trunks: section.texts("trunks", value::free_text).unwrap_or_default(),
        also: section.texts("also", value::short_number).unwrap_or_default(),
        not: section.texts("not", value::short_number).unwrap_or_default(),
        test_numbers: section.texts("test_numbers", value::short_number),
        register_warning: section.boolean("register_warning").unwrap_or(true),
        refusal_tone: section.boolean("refusal_tone").unwrap_or(false),
        dial_as: dial_as(&mut section),
        callback_window_min: section.integer("callback_window_min", 1..=1_440).unwrap_or(30),
        notify: section.private_texts("notify", value::notify_target).unwrap_or_default(),
        drain_max_min: section.integer("drain_max_min", 0..=60).unwrap_or(60),
        reserved_calls: section.integer("reserved_calls", 0..=1_000).unwrap_or(4),
        unauthenticated: section
            .choice(
                "unauthenticated",
                &[("site-networks", Unauthenticated::SiteNetworks), ("deny", Unauthenticated::Deny)],
            )
            .unwrap_or(Unauthenticated::SiteNetworks),
        site_networks: section.texts("site_networks", value::network).unwrap_or_default(),
    };
    checks::emergency(&section, &emergency, company, trunks);
    checks::reserved_calls(&section, &emergency, media);
    checks::notify(&section, &emergency, &server.domain);
    section.finish();
    emergency
}

/// `[emergency.dial_as.REGION]`: recognised number = digits to send.
fn dial_as(emergency: &mut Section<'_>) -> BTreeMap<String, BTreeMap<String, String>> {
    let by_region = emergency.section("dial_as").named_sections();
    let pair = |from: &str, to: &str| {
        let key = value::short_number(from)
            .map_err(|f| Fault::new(format!("is assigned to {from:?}, which {}", f.what), f.remedy))?;
        let sent = value::short_number(to)
            .or_else(|_| value::e164(to))
            .map_err(|f| Fault::new(f.what, "digits to send, perhaps with + in front"))?;
        Ok((key, sent))
    };
    by_region
        .into_iter()
        .map(|(region, mut section)| (region, section.named_texts(pair).into_iter().collect()))
        .collect()
}

fn dialing(section: &mut Section<'_>) -> Dialing {
    let dialing = Dialing {
        outside_prefixes: section.texts("outside_prefixes", value::outside_prefix).unwrap_or_default(),
        voicemail: section.text("voicemail", |text| value::extension(text).or_else(|_| value::e164(text))),
    };
    section.finish();
    dialing
}

fn pbx(name: &str, mut section: Section<'_>) -> Pbx {
    if let Err(fault) = value::token(name) {
        section.error("", format!("the name {name:?} {}", fault.what), fault.remedy);
    }
    let numbers = section.texts("numbers", value::e164).unwrap_or_default();
    let pbx = Pbx {
        user: section.text("user", value::token).unwrap_or_default(),
        main_number: numbers.first().cloned().unwrap_or_default(),
        numbers: numbers.into_iter().collect(),
    };
    if !section.has("user") {
        section.error("user", "this key is missing", "the name of the user that the PBX registers as");
    }
    if pbx.numbers.is_empty() {
        section.error("numbers", "the PBX has no number", "numbers = [\"+12025550200\"]");
    }
    if pbx.numbers.len() > PBX_NUMBERS_MAX {
        section.error("numbers", format!("{} numbers are listed", pbx.numbers.len()), "10000 numbers or fewer");
    }
    section.finish();
    pbx
}

fn trunk(name: String, mut section: Section<'_>, tls: &Tls) -> Trunk {
    if let Err(fault) = value::token(&name) {
        section.error("", format!("the name {name:?} {}", fault.what), fault.remedy);
    }
    let transports =
        [("udp", Some(Transport::Udp)), ("tcp", Some(Transport::Tcp)), ("tls", Some(Transport::Tls)), ("auto", None)];
    let encryptions =
        [("required", Encryption::Required), ("preferred", Encryption::Preferred), ("off", Encryption::Off)];
    let registers = [("off", Register::Off), ("on", Register::Account), ("bulk", Register::Bulk)];
    let request_uris = [("digits", EmergencyRequestUri::Digits), ("urn", EmergencyRequestUri::Urn)];
    let trunk = Trunk {
        name,
        host: section.text("host", value::host).unwrap_or_default(),
        port: section.integer("port", 1..=u16::MAX),
        servers: section
            .section("server")
            .named_sections()
            .into_iter()
            .map(|(_, server)| trunk_server(server))
            .collect(),
        transport: section.choice("transport", &transports).unwrap_or(Some(Transport::Tls)),
        domain: section.text("domain", value::host),
        user: section.text("user", value::free_text),
        password_file: section.text("password_file", value::path),
        ca: section.text("ca", value::path),
        certificate: section.text("certificate", value::path),
        key: section.text("key", value::path),
        client_name: section.text("client_name", value::domain),
        numbers: section.texts("numbers", value::e164).unwrap_or_default(),
        encryption: section.choice("encryption", &encryptions).unwrap_or(Encryption::Off),
        register: section.choice("register", &registers).unwrap_or(Register::Off),
        register_expires_s: section.integer("register_expires_s", 60..=u16::MAX).unwrap_or(3_600),
        options_s: section.integer("options_s", 0..=3_600).unwrap_or(0),
        failover_codes: section.integers("failover_codes", 400..=699).unwrap_or_default(),
        number_form: section.choice("number_form", &NUMBER_FORMS).unwrap_or(NumberForm::E164),
        from: section.choice("from", &FROM_ADDRESSES).unwrap_or(FromAddress::Number),
        identity: section.texts("identity", identity_header).unwrap_or_else(|| vec![IdentityHeader::Asserted]),
        permissions: calling::permissions(&mut section, &calling::Permissions::all()),
        limits: calling::limits(&mut section, &calling::Limits::default()),
        rates: calling::rates(section.section("rates")),
        is_enabled: section.boolean("enabled").unwrap_or(true),
        reaches_pstn: section.boolean("pstn").unwrap_or(true),
        carries_emergency: section.boolean("emergency").unwrap_or(true),
        location: location(&mut section),
        elins: section.texts("elins", value::e164).unwrap_or_default(),
        media_network: section.text("media_network", value::network),
        request_uri: section.choice("request_uri", &request_uris).unwrap_or(EmergencyRequestUri::Digits),
        pidf_element: section
            .choice("pidf_element", &[("tuple", PidfElement::Tuple), ("device", PidfElement::Device)])
            .unwrap_or(PidfElement::Tuple),
        has_resource_priority: section.boolean("resource_priority").unwrap_or(false),
    };
    checks::trunk(&section, &trunk);
    if section.has("client_name") && tls.client_ca.is_none() {
        let remedy = "client_ca in [tls]: the file with the CA that signs the carrier's certificate";
        section.error("client_name", "no CA vouches for clients", remedy);
    }
    section.finish();
    trunk
}

fn trunk_server(mut section: Section<'_>) -> TrunkServer {
    let server = TrunkServer {
        host: section.text("host", value::host).unwrap_or_default(),
        port: section.integer("port", 1..=u16::MAX),
        priority: section.integer("priority", 0..=u16::MAX).unwrap_or(0),
        weight: section.integer("weight", 0..=u16::MAX).unwrap_or(1),
    };
    if !section.has("host") {
        section.error("host", "this key is missing", "host = \"sip1.carrier.example\"");
    }
    section.finish();
    server
}

const NUMBER_FORMS: [(&str, NumberForm); 3] =
    [("e164", NumberForm::E164), ("e164-digits", NumberForm::E164Digits), ("national", NumberForm::National)];
const FROM_ADDRESSES: [(&str, FromAddress); 2] = [("number", FromAddress::Number), ("account", FromAddress::Account)];
const IDENTITY_HEADERS: [(&str, IdentityHeader); 3] = [
    ("P-Asserted-Identity", IdentityHeader::Asserted),
    ("P-Preferred-Identity", IdentityHeader::Preferred),
    ("Remote-Party-ID", IdentityHeader::RemoteParty),
];

fn identity_header(text: &str) -> Result<IdentityHeader, Fault> {
    let found = IDENTITY_HEADERS.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, header)| *header);
    let names = IDENTITY_HEADERS.map(|(name, _)| format!("{name:?}")).join(", ");
    found.ok_or_else(|| Fault::new("is not known", format!("one of {names}")))
}

/// A word, or `{ header = "...", value = "..." }`.
fn location(trunk: &mut Section<'_>) -> TrunkLocation {
    if !trunk.holds_table("location") {
        let words = [("pidf-lo", false), ("elin", true)];
        let is_elin = trunk.choice("location", &words).unwrap_or(false);
        return if is_elin { TrunkLocation::Elin } else { TrunkLocation::PidfLo };
    }
    let mut section = trunk.section("location");
    let name = section.text("header", value::token);
    let value = section.private_text("value", value::free_text);
    for key in ["header", "value"] {
        if !section.has(key) {
            section.error(key, "this key is missing", "{ header = \"X-Location-Id\", value = \"...\" }");
        }
    }
    section.finish();
    TrunkLocation::Header { name: name.unwrap_or_default(), value: Private::new(value.unwrap_or_default()) }
}

fn privacy(mut section: Section<'_>) -> Privacy {
    let modes = [("required", SandboxMode::Required), ("best-effort", SandboxMode::BestEffort)];
    let privacy = Privacy {
        sandbox: section.choice("sandbox", &modes).unwrap_or(SandboxMode::Required),
        records_days: section.integer("records_days", DAYS_KEPT).unwrap_or(365),
        emergency_records_days: section.integer("emergency_records_days", DAYS_KEPT).unwrap_or(730),
        audit_days: section.integer("audit_days", DAYS_KEPT).unwrap_or(365),
    };
    section.finish();
    privacy
}

fn log(mut section: Section<'_>) -> Log {
    let levels = ["error", "warn", "info", "debug", "trace"].map(|level| (level, level));
    let log = Log {
        level: section.choice("level", &levels).unwrap_or("info").to_owned(),
        format: section
            .choice("format", &[("text", LogFormat::Text), ("json", LogFormat::Json)])
            .unwrap_or(LogFormat::Text),
    };
    section.finish();
    log
}
