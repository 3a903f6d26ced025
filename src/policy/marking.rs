//! How packets are marked for the queues of switches and routers (RFC 2474).

use crate::{config::Config, wire::sdp::MediaKind};

/// The code point of a media section's packets, RTCP included. A fax is as urgent as the voice whose place it takes (RFC 4594
/// section 4.1); floor control (BFCP) is signalling.
pub const fn dscp(kind: &MediaKind, config: &Config) -> u8 {
    match kind {
        MediaKind::Audio => config.media.dscp_audio,
        MediaKind::Video => config.media.dscp_video,
        MediaKind::Other(name) => match name.as_bytes() {
            b"image" => config.media.dscp_audio,
            _ => config.sip.dscp,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn each_kind_has_its_own_mark() {
        let company = "[company]\nname = \"x\"\nregion = \"US\"\n";
        let kinds = [MediaKind::Audio, MediaKind::Video, MediaKind::Other("image".to_owned())]
            .into_iter()
            .chain([MediaKind::Other("application".to_owned())]);
        for (kind, [default, set]) in kinds.zip([[46, 1], [34, 2], [46, 1], [24, 3]]) {
            let config = config::parse(company).unwrap().0;
            assert_eq!(dscp(&kind, &config), default, "{kind:?}");
            let text = format!("{company}[media]\ndscp_audio = 1\ndscp_video = 2\n[sip]\ndscp = 3\n");
            assert_eq!(dscp(&kind, &config::parse(&text).unwrap().0), set, "{kind:?}");
        }
    }
}
