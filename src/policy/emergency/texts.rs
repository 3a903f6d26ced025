//! The refusals of [`super::refusal`] in the languages of telephones.

use super::refusal::Failure;

/// The text that a caller reads, and the tag of its language (RFC 5646).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Language {
    pub tag: &'static str,
    not_available: &'static str,
    not_connected: &'static str,
    /// Where no number can be named.
    the_number: &'static str,
}

/// English first: it is for all who ask for nothing else. `{}` stands for the number.
const LANGUAGES: [Language; 9] = [
    Language {
        tag: "en",
        not_available: "Emergency calls are not available from this phone. Use a mobile phone or another telephone to call {}.",
        not_connected: "The emergency call could not be connected. Use a mobile phone or another telephone to call {} now.",
        the_number: "the emergency number",
    },
    Language {
        tag: "da",
        not_available: "Nødopkald er ikke mulige fra denne telefon. Brug en mobiltelefon eller en anden telefon til at ringe til {}.",
        not_connected: "Nødopkaldet kunne ikke gennemføres. Brug straks en mobiltelefon eller en anden telefon til at ringe til {}.",
        the_number: "alarmnummeret",
    },
    Language {
        tag: "de",
        not_available: "Notrufe sind von diesem Telefon nicht möglich. Rufen Sie {} mit einem Mobiltelefon oder einem anderen Telefon an.",
        not_connected: "Der Notruf kam nicht zustande. Rufen Sie {} sofort mit einem Mobiltelefon oder einem anderen Telefon an.",
        the_number: "die Notrufnummer",
    },
    Language {
        tag: "es",
        not_available: "Desde este teléfono no se pueden hacer llamadas de emergencia. Use un móvil u otro teléfono para llamar al {}.",
        not_connected: "No se pudo conectar la llamada de emergencia. Use ahora un móvil u otro teléfono para llamar al {}.",
        the_number: "número de emergencias",
    },
    Language {
        tag: "fr",
        not_available: "Les appels d'urgence sont impossibles depuis ce téléphone. Utilisez un mobile ou un autre téléphone pour appeler le {}.",
        not_connected: "L'appel d'urgence n'a pas abouti. Utilisez tout de suite un mobile ou un autre téléphone pour appeler le {}.",
        the_number: "numéro d'urgence",
    },
    Language {
        tag: "it",
        not_available: "Da questo telefono non sono possibili chiamate di emergenza. Usi un cellulare o un altro telefono per chiamare il {}.",
        not_connected: "La chiamata di emergenza non è riuscita. Usi subito un cellulare o un altro telefono per chiamare il {}.",
        the_number: "numero di emergenza",
    },
    Language {
        tag: "nl",
        not_available: "Met deze telefoon kunt u geen noodoproep doen. Bel {} met een mobiele telefoon of een andere telefoon.",
        not_connected: "De noodoproep is niet gelukt. Bel {} nu met een mobiele telefoon of een andere telefoon.",
        the_number: "het alarmnummer",
    },
    Language {
        tag: "pt",
        not_available: "Não é possível fazer chamadas de emergência neste telefone. Use um telemóvel ou outro telefone para ligar para o {}.",
        not_connected: "A chamada de emergência não foi estabelecida. Use já um telemóvel ou outro telefone para ligar para o {}.",
        the_number: "número de emergência",
    },
    Language {
        tag: "sv",
        not_available: "Nödsamtal kan inte ringas från den här telefonen. Använd en mobiltelefon eller en annan telefon för att ringa {}.",
        not_connected: "Nödsamtalet kunde inte kopplas. Använd genast en mobiltelefon eller en annan telefon för att ringa {}.",
        the_number: "nödnumret",
    },
];

impl Language {
    /// The one of ours that a telephone likes best, by its Accept-Language (RFC 3261 section 20.3, RFC 9110 section 12.5.4):
    /// ranges by falling quality, of equals the first.
    pub fn accepted<'r>(ranges: impl Iterator<Item = &'r str>) -> Self {
        let mut best: Option<(f32, Self)> = None;
        for range in ranges {
            let mut parts = range.split(';').map(str::trim);
            let primary = parts.next().unwrap_or_default().split('-').next().unwrap_or_default();
            let quality = parts.find_map(|part| part.strip_prefix("q=")).map_or(Some(1.0), |q| q.trim().parse().ok());
            let quality: f32 = quality.unwrap_or(0.0);
            let found = LANGUAGES.iter().find(|language| language.tag.eq_ignore_ascii_case(primary));
            if let Some(language) = found.filter(|_| quality > best.map_or(0.0, |(q, _)| q)) {
                best = Some((quality, *language));
            }
        }
        best.map_or(LANGUAGES[0], |(_, language)| language)
    }

    /// `number`: what to dial elsewhere; empty where none can be named.
    pub fn text(&self, failure: Failure, number: &str) -> String {
        let text = match failure {
            Failure::NotAvailable => self.not_available,
            Failure::NotConnected => self.not_connected,
        };
        text.replace("{}", if number.is_empty() { self.the_number } else { number })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(header: &str) -> &'static str {
        Language::accepted(header.split(',').map(str::trim)).tag
    }

    #[test]
    fn a_telephone_reads_its_own_language_where_there_is_one() {
        for (header, tag) in [
            ("", "en"),
            ("de", "de"),
            ("DE-ch", "de"),
            ("da, en;q=0.7", "da"),
            ("ja, fr;q=0.5, es;q=0.8", "es"),
            ("fr, es", "fr"),
            ("ja", "en"),
            ("*", "en"),
            ("de;q=0", "en"),
            ("de;q=x, sv;q=0.1", "sv"),
            ("en, de", "en"),
        ] {
            assert_eq!(accepted(header), tag, "{header}");
        }
    }

    #[test]
    fn every_text_names_the_number_once_and_can_stand_in_a_header() {
        for language in LANGUAGES {
            for failure in [Failure::NotAvailable, Failure::NotConnected] {
                let text = language.text(failure, "112");
                assert_eq!(text.matches("112").count(), 1, "{text}");
                assert!(!text.contains(['"', '\\', '{', '\r', '\n']), "{text}");
                assert!(language.text(failure, "").contains(language.the_number));
            }
        }
    }
}
