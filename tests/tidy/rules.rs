//! The rules, each a function from files to complaints.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::{File, Named, Token};

type Files = BTreeMap<String, File>;

/// The five floors of the house.
const FLOORS: [(&str, u8); 9] = [
    ("types", 0),
    ("wire", 0),
    ("config", 1),
    ("policy", 1),
    ("sip", 2),
    ("media", 2),
    ("call", 3),
    ("phone", 3),
    ("shell", 4),
];

/// Pairs of one floor that know nothing of each other, in both directions.
const STRANGERS: [(&str, &str); 2] = [("sip", "media"), ("call", "phone")];

fn floor(module: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == module).map(|(_, floor)| *floor)
}

/// The floor's module a file belongs to: `src/wire/sip/mod.rs` is of `wire`.
fn room(file: &File) -> Option<&str> {
    file.module.get(1).map(String::as_str)
}

fn complaint(file: &File, line: usize, what: impl std::fmt::Display) -> String {
    format!("{}:{line}: {what}", file.path)
}

pub(crate) fn floors(files: &Files) -> Vec<String> {
    let mut out = Vec::new();
    for file in files.values() {
        let Some(own) = room(file) else { continue };
        let Some(own_floor) = floor(own) else {
            out.push(complaint(file, 1, format_args!("{own} is not on any floor")));
            continue;
        };
        for Named { segments, line } in file.all_paths() {
            if segments.first().is_none_or(|s| s != "crate") {
                continue;
            }
            let Some(other) = segments.get(1) else {
                out.push(complaint(file, line, "a bare `crate` hides which floor is meant"));
                continue;
            };
            let Some(other_floor) = floor(other) else {
                if own != other {
                    out.push(complaint(file, line, format_args!("crate::{other} is not on any floor")));
                }
                continue;
            };
            let are_strangers =
                STRANGERS.iter().any(|&(a, b)| (own, other.as_str()) == (a, b) || (own, other.as_str()) == (b, a));
            if other_floor > own_floor || are_strangers {
                out.push(complaint(file, line, format_args!("{own} may not import {}", segments.join("::"))));
            }
        }
    }
    out
}

/// Beginnings of paths that only the shell may name.
const IMPURE_PATHS: [&str; 10] = [
    "tokio",
    "dashmap",
    "rustix",
    "std::fs",
    "std::env",
    "std::thread",
    "std::process",
    "std::os",
    "std::time::Instant",
    "std::time::SystemTime",
];

/// Words that only the shell may use, however they were imported.
const IMPURE_WORDS: [&str; 8] =
    ["UdpSocket", "TcpStream", "TcpListener", "SystemTime", "DashMap", "UnixStream", "UnixDatagram", "OpenOptions"];

pub(crate) fn purity(files: &Files) -> Vec<String> {
    let mut out = Vec::new();
    for file in files.values().filter(|f| room(f).is_some_and(|r| r != "shell")) {
        if is_test_file(files, file) {
            continue;
        }
        for Named { segments, line } in file.paths() {
            let path = segments.join("::");
            let is_impure = |begin: &&str| path == **begin || path.starts_with(&format!("{begin}::"));
            if IMPURE_PATHS.iter().any(is_impure) || path.ends_with("Instant::now") {
                out.push(complaint(file, line, format_args!("only the shell may name {path}")));
            }
            for word in segments.iter().filter(|s| IMPURE_WORDS.contains(&s.as_str())) {
                out.push(complaint(file, line, format_args!("only the shell may name {word}")));
            }
        }
    }
    out
}

/// Whether a file's module, or one it stands in, is declared under `#[cfg(test)]`.
fn is_test_file(files: &Files, file: &File) -> bool {
    files.values().any(|parent| {
        parent.declared_modules().into_iter().any(|(name, is_test)| {
            let mut module = parent.module.clone();
            module.push(name);
            is_test && file.module.starts_with(&module)
        })
    })
}

const SIP_METHODS: [&str; 14] = [
    "INVITE",
    "ACK",
    "BYE",
    "CANCEL",
    "REGISTER",
    "OPTIONS",
    "INFO",
    "UPDATE",
    "PRACK",
    "SUBSCRIBE",
    "NOTIFY",
    "REFER",
    "MESSAGE",
    "PUBLISH",
];

/// Beginnings of lines that only floors below the shell write.
const PROTOCOL_LINES: [&str; 6] = ["SIP/2.0", "v=0", "m=audio", "m=video", "a=crypto", "a=rtpmap"];

/// Files of the shell that are a SIP client and not the server: the built-in phones of `ringdown selftest`.
const SHELL_CLIENTS: [&str; 1] = ["src/shell/selftest"];

pub(crate) fn shell_speaks_no_sip(files: &Files) -> Vec<String> {
    let mut out = Vec::new();
    let of_shell = |f: &&File| room(f) == Some("shell") && !SHELL_CLIENTS.iter().any(|c| f.path.starts_with(c));
    for file in files.values().filter(of_shell) {
        if is_test_file(files, file) {
            continue;
        }
        for placed in &file.tokens {
            let Token::Text(text) = &placed.token else { continue };
            let is_method = SIP_METHODS.iter().any(|m| text == m || text.starts_with(&format!("{m} sip")));
            if is_method || PROTOCOL_LINES.iter().any(|l| text.contains(l)) {
                out.push(complaint(file, placed.line, format_args!("the shell writes protocol: {text:?}")));
            }
        }
        for Named { segments, line } in file.paths() {
            if segments.windows(2).any(|w| w[0] == "Method" && w[1] != "*") && !segments.contains(&"axum".to_owned()) {
                out.push(complaint(file, line, format_args!("the shell decides by method: {}", segments.join("::"))));
            }
        }
    }
    out
}

pub(crate) fn dead_files(files: &Files) -> Vec<String> {
    let mut reached = BTreeSet::new();
    let mut waiting: Vec<String> =
        ["src/lib.rs", "src/main.rs"].into_iter().filter(|p| files.contains_key(*p)).map(str::to_owned).collect();
    let mut out = Vec::new();
    while let Some(path) = waiting.pop() {
        let Some(file) = files.get(&path) else { continue };
        if !reached.insert(path) {
            continue;
        }
        // A module in `x.rs` or `x/mod.rs` keeps its children in `x/`.
        let folder = file.module[1..].iter().fold("src".to_owned(), |folder, part| format!("{folder}/{part}"));
        for (name, _) in file.declared_modules() {
            let candidates = [format!("{folder}/{name}.rs"), format!("{folder}/{name}/mod.rs")];
            match candidates.into_iter().find(|c| files.contains_key(c)) {
                Some(found) => waiting.push(found),
                None => out.push(complaint(file, 1, format_args!("mod {name} has no file"))),
            }
        }
    }
    out.extend(files.keys().filter(|p| !reached.contains(*p)).map(|p| format!("{p}: no `mod` leads to this file")));
    out
}

const UNSAFE_ALLOWED: [&str; 3] = ["src/shell/media_io", "src/shell/sandbox", "src/wire/srtp/aes_ctr.rs"];

pub(crate) fn unsafe_code(files: &Files) -> Vec<String> {
    let mut out = Vec::new();
    for file in files.values().filter(|f| !UNSAFE_ALLOWED.iter().any(|a| f.path.starts_with(a))) {
        let is_unsafe = |t: &Token| matches!(t, Token::Word(w) if w == "unsafe");
        let lines = file.all_tokens.iter().filter(|p| is_unsafe(&p.token)).map(|p| p.line);
        out.extend(lines.map(|line| complaint(file, line, "unsafe is not allowed here")));
    }
    out
}

/// Where a file can come into being, with the reason; nothing else in this program can store anything.
const FILE_MAKERS: [(&str, &str); 4] = [
    ("src/shell/files.rs", "the only module that creates files"),
    ("src/shell/store/sqlite.rs", "the database, which makes its journal itself"),
    ("src/shell/sandbox", "what must be refused is tried, and a device is opened to see that it is"),
    ("src/shell/prove/server.rs", "a link of its own making, to lead the server under test astray"),
];

/// Words by which one could: of the standard library, of rustix and of SQLite. `open` alone reads.
const FILE_WORDS: [&str; 18] = [
    "File::create",
    "File::create_new",
    "File::options",
    "OpenOptions",
    "DirBuilder",
    "fs::write",
    "fs::copy",
    "fs::rename",
    "fs::create_dir",
    "fs::create_dir_all",
    "fs::hard_link",
    "fs::open",
    "fs::openat",
    "memfd_create",
    "mknodat",
    "symlink",
    "UnixListener",
    "Connection::open",
];

/// No module but those of [`FILE_MAKERS`] can make a file: so none can record.
pub(crate) fn files_are_made(files: &Files) -> Vec<String> {
    let mut out = Vec::new();
    for file in files.values().filter(|f| !FILE_MAKERS.iter().any(|(path, _)| f.path.starts_with(path))) {
        if is_test_file(files, file) {
            continue;
        }
        for Named { segments, line } in file.paths() {
            let path = segments.join("::");
            let is_named = |word: &str| path == word || path.ends_with(&format!("::{word}"));
            // An imported name stands alone where it is used; then its import is what is found.
            if FILE_WORDS.iter().any(|word| is_named(word) || segments.iter().any(|s| s == word)) {
                out.push(complaint(file, line, format_args!("only {} may make files: {path}", FILE_MAKERS[0].0)));
            }
        }
    }
    out
}

const UNFINISHED_MACROS: [&str; 3] = ["dbg", "todo", "unimplemented"];
const UNFINISHED_NOTES: [&str; 3] = ["FIXME", "TODO", "XXX"];

pub(crate) fn leftovers(files: &Files) -> Vec<String> {
    let mut out = Vec::new();
    for file in files.values() {
        for pair in file.all_tokens.windows(2) {
            if let (Token::Word(word), Token::Mark('!')) = (&pair[0].token, &pair[1].token)
                && UNFINISHED_MACROS.contains(&word.as_str())
            {
                out.push(complaint(file, pair[0].line, format_args!("{word}! is left over")));
            }
        }
        for (number, line) in (1..).zip(file.text.lines()) {
            let comment = line.split_once("//").map_or("", |(_, comment)| comment);
            let words: Vec<&str> = comment.split(|c: char| !c.is_alphanumeric()).collect();
            for note in UNFINISHED_NOTES.iter().filter(|n| words.contains(n)) {
                out.push(complaint(file, number, format_args!("{note} is left over")));
            }
        }
    }
    out
}

/// Which modules may name each third-party crate; paths are beginnings of file names under `src/`.
const WRAPPERS: [(&str, &[&str]); 52] = [
    // Values and formats that every floor may hold.
    ("bytes", &["wire/sip", "sip", "call", "phone", "shell"]),
    ("serde", &["call", "shell", "wire/passport.rs"]),
    ("tracing", &["call", "shell"]),
    // Formats.
    ("smallvec", &["wire/sip", "wire/srtp", "media/quality.rs", "policy/emergency/dial_string.rs"]),
    ("memchr", &["wire/sip", "shell/prove"]),
    ("wide", &["wire/sip/scan.rs", "wire/sip/usual_lines.rs"]),
    ("base64", &["wire", "shell/prove/needles.rs"]),
    ("sdp_types", &["wire/sdp"]),
    ("toml", &["config"]),
    ("phonenumber", &["policy/number.rs"]),
    ("unicode_normalization", &["policy/emergency"]),
    ("unicode_properties", &["policy/emergency"]),
    ("slab", &["sip", "media", "call"]),
    // Cryptography.
    ("aws_lc_sys", &["wire/srtp/aes_ctr.rs"]),
    ("inout", &["wire/srtp"]),
    ("sha1", &["wire/srtp"]),
    ("aws_lc_rs", &["wire/srtp", "wire/passport.rs", "shell/store", "shell/tls.rs"]),
    ("md5", &["wire/sip/digest.rs"]),
    ("sha2", &["wire/sip/digest.rs", "wire/keyed.rs"]),
    ("subtle", &["wire/srtp", "wire/sip/digest.rs", "wire/keyed.rs"]),
    ("zeroize", &["types/secret.rs", "wire/srtp", "wire/sip/digest.rs", "shell"]),
    ("rand_chacha", &["types/rng.rs"]),
    ("getrandom", &["shell"]),
    // The shell.
    ("serde_json", &["shell", "wire/passport.rs"]),
    ("jiff", &["wire/pidf.rs", "shell"]),
    ("clap", &["shell/cli"]),
    ("clap_complete", &["shell/cli/completions.rs"]),
    ("clap_mangen", &["shell/cli/manual.rs"]),
    ("tokio", &["shell"]),
    ("tokio_rustls", &["shell"]),
    ("rustls", &["shell"]),
    ("rustls_native_certs", &["shell"]),
    ("rcgen", &["shell/tls"]),
    ("dashmap", &["shell"]),
    ("rustix", &["shell"]),
    ("nix", &["shell/media_io/icmp.rs", "shell/sandbox/trial.rs", "shell/prove/trace.rs"]),
    ("rtrb", &["shell/media_io"]),
    ("rusqlite", &["shell/store"]),
    ("axum", &["shell/admin"]),
    ("hyper", &["shell/notifier.rs", "shell/stir.rs", "shell/admin/connections.rs"]),
    ("hyper_util", &["shell/notifier.rs", "shell/stir.rs", "shell/admin/connections.rs"]),
    ("prometheus_client", &["shell/admin"]),
    ("csv", &["shell"]),
    ("tracing_subscriber", &["shell"]),
    ("sd_notify", &["shell/systemd.rs"]),
    ("landlock", &["shell/sandbox/files.rs"]),
    ("seccompiler", &["shell/sandbox/calls.rs"]),
    ("libc", &["shell/sandbox/calls.rs", "shell/sandbox/descriptors.rs", "shell/media_io/xdp"]),
    // The thin `main.rs`: the library itself, and the allocator of the whole process.
    ("ringdown", &["main.rs"]),
    ("mimalloc", &["main.rs"]),
    ("hickory_resolver", &["shell/resolve.rs"]),
    ("x509_parser", &["shell/tls/certificate.rs"]),
];

/// Crates whose name in code is not their package's name.
const RENAMED: [(&str, &str); 1] = [("md-5", "md5")];

pub(crate) fn crates(files: &Files, manifest: &str) -> Vec<String> {
    let mut out = Vec::new();
    let dependencies = names_in(manifest, "[dependencies]");
    let only_tests = names_in(manifest, "[dev-dependencies]");
    for name in &dependencies {
        if !WRAPPERS.iter().any(|(known, _)| known == name) {
            out.push(format!("Cargo.toml: {name} has no module that wraps it (tests/tidy, WRAPPERS)"));
        }
        let uses = |f: &File| f.all_paths().iter().any(|n| n.segments.first() == Some(name));
        if !files.values().any(uses) {
            out.push(format!("Cargo.toml: {name} is not used"));
        }
    }
    for file in files.values() {
        let inner = file.path.trim_start_matches("src/");
        for Named { segments, line } in file.paths() {
            let Some(name) = segments.first().filter(|_| segments.len() > 1) else { continue };
            let allowed = WRAPPERS.iter().find(|(known, _)| known == name).map(|(_, modules)| *modules);
            if allowed.is_some_and(|modules| !modules.iter().any(|m| inner.starts_with(m))) {
                out.push(complaint(file, line, format_args!("{name} is wrapped elsewhere")));
            }
            if only_tests.contains(name) && !dependencies.contains(name) && !is_test_file(files, file) {
                out.push(complaint(file, line, format_args!("{name} is for tests only")));
            }
        }
    }
    out
}

/// Keys of one table of a manifest, as code spells them.
fn names_in(manifest: &str, table: &str) -> BTreeSet<String> {
    let lines = manifest.lines().skip_while(|l| l.trim() != table).skip(1);
    lines
        .take_while(|l| !l.starts_with('['))
        .filter_map(|l| l.split_once('=').map(|(name, _)| name.trim()))
        .filter(|name| !name.starts_with('#') && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)))
        .map(|name| {
            let renamed = RENAMED.iter().find(|(package, _)| *package == name).map(|(_, code)| *code);
            renamed.unwrap_or(name).replace('-', "_")
        })
        .collect()
}

/// Calls in `src/config` whose first argument is a key.
const KEY_READERS: [&str; 10] =
    ["text", "private_text", "texts", "private_texts", "choice", "boolean", "integer", "integers", "section", "read"];

pub(crate) fn configuration_keys(files: &Files, example: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut found = 0;
    for file in files.values().filter(|f| room(f) == Some("config")) {
        for window in file.tokens.windows(3) {
            let [reader, open, key] = window else { continue };
            let (Token::Word(reader), Token::Mark('('), Token::Text(key)) = (&reader.token, &open.token, &key.token)
            else {
                continue;
            };
            if !KEY_READERS.contains(&reader.as_str()) {
                continue;
            }
            found += 1;
            let is_key = |line: &str| {
                let line = line.trim_start_matches(['#', ' ']);
                // `key = value`, also inside an inline table, or `[table]`.
                line.split(['{', ',']).any(|part| part.split_once('=').is_some_and(|(name, _)| name.trim() == key))
                    || line.strip_prefix('[').is_some_and(|t| t.split([']', '.']).any(|part| part == key))
            };
            if !example.lines().any(is_key) {
                out.push(complaint(file, window[0].line, format_args!("config/ringdown.toml lacks {key}")));
            }
        }
    }
    if found < 20 {
        out.push(format!("only {found} configuration keys were found in src/config"));
    }
    out
}

const TOP_LEVEL: [&str; 14] = [
    "Cargo.toml",
    "Cargo.lock",
    "src",
    "config",
    "benches",
    "tests",
    "fuzz",
    "systemd",
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "LICENSE-MIT",
    "LICENSE-APACHE",
];

const TOP_LEVEL_TOOLS: [&str; 7] =
    [".ci", ".gitignore", "rustfmt.toml", "clippy.toml", "deny.toml", "NOTICE", "LICENSE"];

/// Made by tools and ignored by git.
const TOP_LEVEL_MADE: [&str; 3] = [".git", "target", "state"];

pub(crate) fn top_level(names: &[String]) -> Vec<String> {
    let is_allowed =
        |name: &String| TOP_LEVEL.iter().chain(&TOP_LEVEL_TOOLS).chain(&TOP_LEVEL_MADE).any(|allowed| allowed == name);
    let strangers = names.iter().filter(|n| !is_allowed(n)).map(|n| format!("{n} does not belong at the top level"));
    let missing = TOP_LEVEL.iter().filter(|wanted| !names.iter().any(|n| n == *wanted));
    strangers.chain(missing.map(|wanted| format!("{wanted} is missing at the top level"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(sources: &[(&str, &str)]) -> Files {
        sources.iter().map(|(path, text)| ((*path).to_owned(), File::new(path, text))).collect()
    }

    /// The rule complains about each of these files.
    fn assert_each_fails(rule: impl Fn(&Files) -> Vec<String>, sources: &[(&str, &str)]) {
        for (path, text) in sources {
            assert!(!rule(&files(&[(path, text)])).is_empty(), "nothing is wrong with {path}: {text}");
        }
    }

    fn assert_each_passes(rule: impl Fn(&Files) -> Vec<String>, sources: &[(&str, &str)]) {
        for (path, text) in sources {
            assert_eq!(rule(&files(&[(path, text)])), Vec::<String>::new(), "{path}: {text}");
        }
    }

    #[test]
    fn an_import_from_above_is_found_in_every_form() {
        assert_each_fails(
            floors,
            &[
                ("src/wire/sip/mod.rs", "use crate::config::Config;"),
                ("src/wire/a.rs", "use crate::{types::Id, shell::{self, cli}};"),
                ("src/policy/a.rs", "fn f() { crate::sip::auth::g(); }"),
                ("src/policy/emergency/mod.rs", "use super::super::call::Core;"),
                ("src/config/mod.rs", "mod inner { use super::super::media::Worker; }"),
                ("src/sip/a.rs", "use crate::media::Command;"),
                ("src/media/a.rs", "type T = crate::sip::dialog::Dialog;"),
                ("src/call/a.rs", "#[cfg(test)] mod tests { use crate::shell::clock; }"),
                ("src/call/a.rs", "use crate as everything;"),
                ("src/attic/a.rs", "fn f() {}"),
            ],
        );
    }

    #[test]
    fn an_import_from_below_or_beside_is_fine() {
        assert_each_passes(
            floors,
            &[
                ("src/call/mod.rs", "use crate::{media, sip::dialog, wire};"),
                ("src/policy/a.rs", "use crate::config::Config; use super::number;"),
                ("src/lib.rs", "pub mod shell; pub mod wire;"),
                ("src/wire/a.rs", "/// See [`crate::shell`].\nlet text = \"crate::shell\";"),
            ],
        );
    }

    #[test]
    fn a_socket_file_clock_or_thread_below_the_shell_is_found() {
        assert_each_fails(
            purity,
            &[
                ("src/wire/a.rs", "use std::fs;"),
                ("src/wire/a.rs", "use std::{collections::HashMap, net::{IpAddr, UdpSocket}};"),
                ("src/sip/a.rs", "let now = std::time::Instant::now();"),
                ("src/sip/a.rs", "use tokio::sync::mpsc;"),
                ("src/media/a.rs", "std::thread::spawn(f);"),
                ("src/call/a.rs", "let home = std::env::var(name);"),
                ("src/call/a.rs", "use dashmap::DashMap;"),
                ("src/policy/a.rs", "let t = Instant::now();"),
            ],
        );
        assert_each_passes(
            purity,
            &[
                ("src/shell/a.rs", "use std::fs; use tokio::net::UdpSocket;"),
                ("src/wire/a.rs", "use std::net::{IpAddr, SocketAddr}; use std::time::Duration;"),
                ("src/config/a.rs", "#[cfg(test)] mod tests { use std::fs; }"),
            ],
        );
    }

    #[test]
    fn a_protocol_rule_in_the_shell_is_found() {
        assert_each_fails(
            shell_speaks_no_sip,
            &[
                ("src/shell/a.rs", "if method == \"INVITE\" {}"),
                ("src/shell/a.rs", "write(\"SIP/2.0 200 OK\\r\\n\");"),
                ("src/shell/a.rs", "let line = format!(\"m=audio {port}\");"),
                ("src/shell/a.rs", "use crate::wire::sip::Method; if m == Method::Bye {}"),
            ],
        );
        assert_each_passes(
            shell_speaks_no_sip,
            &[
                ("src/sip/a.rs", "let m = \"INVITE\";"),
                ("src/shell/a.rs", "// An INVITE comes in.\nlet t = \"call\";"),
                ("src/shell/selftest/phone.rs", "let m = \"INVITE\";"),
            ],
        );
    }

    #[test]
    fn a_file_without_a_mod_and_a_mod_without_a_file_are_found() {
        let tree = [("src/lib.rs", "pub mod wire;"), ("src/wire/mod.rs", "mod rtp;"), ("src/wire/rtp.rs", "")];
        assert_eq!(dead_files(&files(&tree)), Vec::<String>::new());
        let mut dead = tree.to_vec();
        dead.push(("src/wire/old.rs", ""));
        assert_eq!(dead_files(&files(&dead)).len(), 1);
        assert_eq!(dead_files(&files(&[("src/lib.rs", "mod lost;")])).len(), 1);
    }

    #[test]
    fn unsafe_outside_its_modules_is_found() {
        assert_each_fails(
            unsafe_code,
            &[("src/wire/a.rs", "unsafe { f() }"), ("src/shell/cli/a.rs", "unsafe fn f() {}")],
        );
        assert_each_passes(
            unsafe_code,
            &[("src/shell/media_io/xdp.rs", "unsafe { f() }"), ("src/wire/a.rs", "// unsafe\n#![deny(unsafe_code)]")],
        );
    }

    #[test]
    fn a_module_that_could_make_a_file_is_found() {
        assert_each_fails(
            files_are_made,
            &[
                ("src/media/a.rs", "std::fs::write(path, packet);"),
                ("src/media/a.rs", "use std::fs::{self, File}; File::create(path);"),
                ("src/shell/media_io/a.rs", "use std::fs; fs::copy(a, b);"),
                ("src/shell/a.rs", "use std::fs::OpenOptions;"),
                ("src/shell/a.rs", "use rustix::fs::{open, memfd_create};"),
                ("src/shell/a.rs", "rusqlite::Connection::open(path);"),
                ("src/shell/a.rs", "std::os::unix::fs::symlink(a, b);"),
            ],
        );
        assert_each_passes(
            files_are_made,
            &[
                ("src/shell/files.rs", "use std::fs::OpenOptions;"),
                ("src/shell/a.rs", "use std::fs::{self, File}; File::open(path); fs::read(path);"),
                ("src/shell/a.rs", "#[cfg(test)] mod tests { use std::fs; fn f() { fs::write(a, b); } }"),
            ],
        );
    }

    #[test]
    fn what_is_left_over_is_found() {
        let note = format!("// {}: later", UNFINISHED_NOTES[0]);
        assert_each_fails(
            leftovers,
            &[
                ("src/a.rs", "fn f() { todo!() }"),
                ("src/a.rs", "dbg!(x);"),
                ("tests/a/main.rs", "unimplemented!(\"x\")"),
                ("src/a.rs", &note),
            ],
        );
        assert_each_passes(leftovers, &[("src/a.rs", "fn todo() {} // what to do")]);
    }

    #[test]
    fn a_crate_outside_its_wrapper_an_unwrapped_and_an_unused_one_are_found() {
        let manifest = "[dependencies]\ntokio = \"1\"\n[dev-dependencies]\nrsip = \"0.4\"\n";
        let rule = |files: &Files| crates(files, manifest);
        let inside = ("src/shell/a.rs", "use tokio::net;");
        assert_eq!(rule(&files(&[inside])), Vec::<String>::new());
        assert_eq!(rule(&files(&[inside, ("src/sip/a.rs", "use tokio::net;")])).len(), 1);
        assert_eq!(rule(&files(&[inside, ("src/wire/a.rs", "use rsip::Uri;")])).len(), 1);
        assert_eq!(rule(&files(&[])).len(), 1, "tokio is not used");
        let unknown = "[dependencies]\nleftpad = \"1\"\n";
        assert_eq!(crates(&files(&[("src/wire/a.rs", "use leftpad::pad;")]), unknown).len(), 1);
    }

    #[test]
    fn a_key_that_the_example_lacks_is_found() {
        let reads = (0..20).map(|n| format!("s.text(\"k{n}\", f);")).collect::<String>();
        let source = format!("{reads} root.section(\"tls\");");
        let tree = files(&[("src/config/sections.rs", source.as_str())]);
        let mut example: String = (0..20).map(|n| format!("#k{n} = 1\n")).collect();
        example += "[tls]\n";
        assert_eq!(configuration_keys(&tree, &example), Vec::<String>::new());
        assert_eq!(configuration_keys(&tree, &example.replace("#k7 ", "#k77 ")).len(), 1);
        assert_eq!(configuration_keys(&tree, &example.replace("[tls]", "[tsl]")).len(), 1);
        assert_eq!(configuration_keys(&files(&[]), &example).len(), 1, "a reader that finds nothing is broken");
    }

    #[test]
    fn a_stranger_and_a_gap_at_the_top_level_are_found() {
        let mut names: Vec<String> = TOP_LEVEL.iter().map(|n| (*n).to_owned()).collect();
        assert_eq!(top_level(&names), Vec::<String>::new());
        names.push("notes.txt".to_owned());
        names.retain(|n| n != "README.md");
        assert_eq!(top_level(&names).len(), 2);
    }
}
