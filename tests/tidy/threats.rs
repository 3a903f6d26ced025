//! The threats of SECURITY.md, each with the tests that hold it off.

use std::{fs, path::Path};

/// What is wrong with the table: a threat without a test, and tests that do not exist.
pub(crate) fn complaints(root: &Path, document: &str) -> Vec<String> {
    let mut out = Vec::new();
    let threats: Vec<&str> = document.lines().filter(|line| line.starts_with("| T")).collect();
    if threats.len() < 20 {
        out.push(format!("only {} threats were found in SECURITY.md", threats.len()));
    }
    for threat in threats {
        let name = threat.trim_start_matches("| ").split(':').next().unwrap_or_default();
        let tests: Vec<_> = threat.split('`').filter_map(|word| word.split_once(".rs::")).collect();
        if tests.is_empty() {
            out.push(format!("{name} has no test"));
        }
        let missing = tests.iter().filter(|(file, test)| !has_test(&root.join(format!("{file}.rs")), test));
        out.extend(missing.map(|(file, test)| format!("{name}: no test {test} in {file}.rs")));
    }
    out
}

fn has_test(file: &Path, name: &str) -> bool {
    let source = fs::read_to_string(file).unwrap_or_default();
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    // The tests of a property have arguments.
    let is_named =
        |line: &str| [format!("fn {name}("), format!("async fn {name}(")].iter().any(|head| line.starts_with(head));
    lines.windows(2).any(|pair| matches!(pair[0], "#[test]" | "#[tokio::test]") && is_named(pair[1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threat_without_a_test_and_one_whose_test_is_gone_are_found() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let own = "`tests/tidy/threats.rs::a_threat_without_a_test_and_one_whose_test_is_gone_are_found`";
        let row = |tests: &str| format!("| T1: something | is done | {tests} |\n");
        let many = row(own).repeat(20);
        assert_eq!(complaints(root, &many), Vec::<String>::new());
        for bad in
            ["", "`tests/tidy/threats.rs::no_such_test`", "`tests/tidy/threats.rs::has_test`", "`src/gone.rs::test`"]
        {
            assert_eq!(complaints(root, &(many.clone() + &row(bad))).len(), 1, "{bad}");
        }
        assert_eq!(complaints(root, "").len(), 1);
    }
}
