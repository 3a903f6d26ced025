//! Finds keys in the text of a configuration file: for messages that name a line, and for `init`, which fills in the
//! shipped example without losing its comments.

/// The 0-based line where `section.key` is set; `None`: it is not, or only in a comment.
pub fn line_of(text: &str, dotted: &str) -> Option<usize> {
    let (section, key) = dotted.rsplit_once('.')?;
    let mut current = "";
    text.lines().position(|line| match Line::read(line) {
        Line::Section { name, is_comment: false } => {
            current = name;
            false
        }
        Line::Key { name, is_comment: false } => current == section && name == key,
        Line::Section { .. } | Line::Key { .. } | Line::Other => false,
    })
}

/// Sets `section.key` to a TOML value in place of its line, commented out or not. The section's header is uncommented
/// too. A key that the text does not mention is added below its section's header, or with it at the end.
pub fn set(text: &str, dotted: &str, value: &str) -> String {
    let (section, key) = dotted.rsplit_once('.').expect("keys are dotted");
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let header = lines.iter().position(|l| matches!(Line::read(l), Line::Section { name, .. } if name == section));
    let setting = format!("{key} = {value}");
    let Some(header) = header else {
        lines.extend([String::new(), format!("[{section}]"), setting]);
        return joined(&lines);
    };
    lines[header] = format!("[{section}]");
    let body = header + 1;
    let end = lines[body..].iter().position(|l| matches!(Line::read(l), Line::Section { .. }));
    let end = end.map_or(lines.len(), |offset| body + offset);
    let found = lines[body..end].iter().position(|l| matches!(Line::read(l), Line::Key { name, .. } if name == key));
    match found {
        Some(offset) => lines[body + offset] = setting,
        None => lines.insert(body, setting),
    }
    joined(&lines)
}

/// A TOML basic string.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn joined(lines: &[String]) -> String {
    lines.join("\n") + "\n"
}

/// One line as far as it matters here.
enum Line<'a> {
    Section { name: &'a str, is_comment: bool },
    Key { name: &'a str, is_comment: bool },
    Other,
}

impl<'a> Line<'a> {
    fn read(line: &'a str) -> Self {
        let trimmed = line.trim();
        let (text, is_comment) = trimmed.strip_prefix('#').map_or((trimmed, false), |rest| (rest.trim_start(), true));
        let is_bare = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
        if let Some(name) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(name, _)| name.trim()) {
            return if is_bare(name) { Self::Section { name, is_comment } } else { Self::Other };
        }
        match text.split_once('=') {
            Some((name, _)) if is_bare(name.trim()) => Self::Key { name: name.trim(), is_comment },
            Some(_) | None => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# The server.
[server]
# Example: domain = \"x\"
domain = \"localhost\" # say which
# state_dir = \"state\"

# [company]
# region = \"US\"
";

    #[test]
    fn lines_are_found_by_section_and_key_and_not_in_comments() {
        assert_eq!(line_of(TEXT, "server.domain"), Some(3));
        assert_eq!(line_of(TEXT, "server.state_dir"), None);
        assert_eq!(line_of(TEXT, "company.region"), None);
        assert_eq!(line_of("[trunk.a]\nhost = 1\n[trunk.b]\nhost = 2\n", "trunk.b.host"), Some(3));
    }

    #[test]
    fn values_replace_lines_commented_or_not_and_keep_all_else() {
        let text = set(TEXT, "server.domain", "\"example.test\"");
        let text = set(&text, "company.region", "\"DE\"");
        let text = set(&text, "server.state_dir", "\"/var/lib/x\"");
        assert_eq!(
            text,
            "# The server.\n[server]\n# Example: domain = \"x\"\ndomain = \"example.test\"\nstate_dir = \"/var/lib/x\"\n\n\
             [company]\nregion = \"DE\"\n"
        );
    }

    #[test]
    fn what_the_text_does_not_mention_is_added() {
        assert_eq!(set("[a]\nx = 1\n", "a.y", "2"), "[a]\ny = 2\nx = 1\n");
        assert_eq!(set("[a]\nx = 1\n", "b.y", "2"), "[a]\nx = 1\n\n[b]\ny = 2\n");
    }

    #[test]
    fn quoting_keeps_hostile_text_one_string() {
        let hostile = "a\"\n[x]\ny = \\";
        let text = format!("v = {}", quoted(hostile));
        let table = toml::de::DeTable::parse(&text).unwrap();
        assert_eq!(table.get_ref().len(), 1);
        assert_eq!(table.get_ref()["v"].get_ref().as_str(), Some(hostile));
    }
}
