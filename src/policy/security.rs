//! Which protection each media leg must have.

use crate::config::Encryption;

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
}
