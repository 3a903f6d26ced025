//! Proves from the source that the house is built as ARCHITECTURE.md draws it. Each rule is a function from files to
//! complaints; each has a test that it complains about what it must.

mod acceptance;
mod rules;
mod source;
mod threats;

use std::{collections::BTreeMap, fs, path::Path};

use source::{File, read_tree};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> BTreeMap<String, File> {
    let files = read_tree(root(), "src");
    assert!(files.len() > 40, "only {} source files found", files.len());
    files
}

fn assert_none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn floors_import_downwards_only() {
    assert_none(&rules::floors(&sources()));
}

#[test]
fn floors_below_the_shell_name_no_socket_file_clock_thread_or_runtime() {
    assert_none(&rules::purity(&sources()));
}

#[test]
fn the_shell_holds_no_protocol_rule() {
    assert_none(&rules::shell_speaks_no_sip(&sources()));
}

#[test]
fn no_file_is_dead() {
    assert_none(&rules::dead_files(&sources()));
}

#[test]
fn unsafe_stands_only_where_it_is_allowed() {
    assert_none(&rules::unsafe_code(&sources()));
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("this package's manifest");
    assert!(manifest.contains("unsafe_code = \"deny\""), "the lint is off");
}

#[test]
fn only_listed_modules_can_make_a_file() {
    assert_none(&rules::files_are_made(&sources()));
}

#[test]
fn nothing_is_left_over() {
    let mut files = sources();
    for folder in ["tests", "benches"] {
        files.extend(read_tree(root(), folder));
    }
    files.retain(|path, _| !path.starts_with("tests/tidy/"));
    assert_none(&rules::leftovers(&files));
}

#[test]
fn each_third_party_crate_is_named_by_the_module_that_wraps_it() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("this package's manifest");
    assert_none(&rules::crates(&sources(), &manifest));
}

#[test]
fn every_configuration_key_is_in_the_example_file() {
    let example = fs::read_to_string(root().join("config/ringdown.toml")).expect("the example file");
    assert_none(&rules::configuration_keys(&sources(), &example));
}

#[test]
fn every_point_of_the_emergency_acceptance_list_has_its_test() {
    assert_none(&acceptance::missing(root()));
    assert_eq!(acceptance::missing(Path::new("/nowhere")).len(), 28, "the list is not looked up");
}

#[test]
fn every_threat_names_tests_that_exist() {
    let document = fs::read_to_string(root().join("SECURITY.md")).expect("the threat model");
    assert_none(&threats::complaints(root(), &document));
}

#[test]
fn the_top_level_holds_what_it_may_and_nothing_else() {
    let entries = fs::read_dir(root()).expect("this package").flatten();
    let names: Vec<String> = entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    assert_none(&rules::top_level(&names));
}
