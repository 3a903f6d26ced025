//! Which protection each media leg must have, and which proof a device is asked for.

use crate::{config::Encryption, wire::sip::digest::Algorithm};

/// What one leg offers, and what it accepts from the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LegSecurity {
    /// SRTP or no call.
    SrtpOnly,
    /// SRTP is offered and taken where the peer can; plain RTP otherwise.
    SrtpPreferred,
    /// Plain RTP (a trunk without encryption).
    PlainOnly,
}

/// What kind of peer a leg faces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Device,
    /// With the trunk's own `encryption` setting.
    Trunk(Encryption),
}

/// Devices follow `[media] encryption`, trunks their own setting.
pub const fn leg_security(peer: Peer, media: Encryption) -> LegSecurity {
    let setting = match peer {
        Peer::Device => media,
        Peer::Trunk(trunk) => trunk,
    };
    match setting {
        Encryption::Required => LegSecurity::SrtpOnly,
        Encryption::Preferred => LegSecurity::SrtpPreferred,
        Encryption::Off => LegSecurity::PlainOnly,
    }
}

/// Digest algorithms to challenge a device with, strongest first (RFC 8760 section 2.3). `user_agent`: its User-Agent
/// value, empty if it sends none.
///
/// A device must ignore a challenge whose algorithm it does not know (RFC 7616 section 3.3), but those listed here give
/// up registering at the sight of one. They are asked for MD5 alone, the only one they could answer anyway.
pub fn digest_algorithms(user_agent: &str) -> &'static [Algorithm] {
    const MD5_ONLY: [&str; 4] = ["baresip v0.", "baresip v1.", "SIPp ", "kamailio (5."];
    if MD5_ONLY.iter().any(|prefix| user_agent.starts_with(prefix)) {
        &[Algorithm::Md5]
    } else {
        &[Algorithm::Sha256, Algorithm::Md5]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Encryption::{Off, Preferred, Required};

    #[test]
    fn a_leg_follows_the_setting_of_its_own_side() {
        for (media, device) in
            [(Required, LegSecurity::SrtpOnly), (Preferred, LegSecurity::SrtpPreferred), (Off, LegSecurity::PlainOnly)]
        {
            assert_eq!(leg_security(Peer::Device, media), device);
            assert_eq!(leg_security(Peer::Trunk(Off), media), LegSecurity::PlainOnly);
            assert_eq!(leg_security(Peer::Trunk(Preferred), media), LegSecurity::SrtpPreferred);
            assert_eq!(leg_security(Peer::Trunk(Required), media), LegSecurity::SrtpOnly);
        }
    }

    #[test]
    fn every_device_is_offered_sha_256_first_except_those_that_choke_on_it() {
        let both = [Algorithm::Sha256, Algorithm::Md5];
        assert_eq!(digest_algorithms(""), both);
        assert_eq!(digest_algorithms("Linphonec/5.1.65 (belle-sip/5.1.64)"), both);
        assert_eq!(digest_algorithms("baresip v3.10.1 (x86_64/linux)"), both);
        assert_eq!(digest_algorithms("baresip v1.0.0 (x86_64/linux)"), [Algorithm::Md5]);
        assert_eq!(digest_algorithms("SIPp 3.6"), [Algorithm::Md5]);
        assert_eq!(digest_algorithms("kamailio (5.6.3 (x86_64/linux))"), [Algorithm::Md5]);
    }
}
