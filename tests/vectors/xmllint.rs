//! Runs `xmllint` (Debian package `libxml2-utils`).

use std::{
    io::Write,
    process::{Command, Output, Stdio},
};

/// What it says of a document on its standard input.
pub(crate) fn xmllint(arguments: &[&str], document: &str) -> Output {
    let mut xmllint = Command::new("xmllint")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("xmllint is needed for this test: apt-get install libxml2-utils");
    let mut stdin = xmllint.stdin.take().expect("stdin is piped");
    stdin.write_all(document.as_bytes()).expect("xmllint reads its input");
    drop(stdin);
    xmllint.wait_with_output().expect("xmllint ends")
}
