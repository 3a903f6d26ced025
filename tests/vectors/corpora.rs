//! The corpora of the fuzz targets, through the functions that the targets call.

#[allow(unreachable_pub, reason = "public for the targets, which are another package")]
#[path = "../../fuzz/src/lib.rs"]
mod fuzz;

use std::{fs, path::Path};

/// Runs a target on each file of its corpus.
fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let files: Vec<_> = fs::read_dir(&folder).expect("a corpus").map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() > 4, "{} has {} files", folder.display(), files.len());
    for file in files {
        let data = fs::read(&file).expect("a file of ours");
        let result = std::panic::catch_unwind(|| run(&data));
        assert!(result.is_ok(), "{target} fails on {}", file.display());
    }
}

macro_rules! corpora {
    ($($target:ident)*) => {
        $(
            #[test]
            fn $target() {
                replay(stringify!($target), fuzz::$target);
            }
        )*

        #[test]
        fn every_target_has_a_corpus_that_is_replayed() {
            let targets = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/fuzz_targets");
            for target in fs::read_dir(targets).expect("the targets") {
                let path = target.unwrap().path();
                let name = path.file_stem().unwrap().to_str().unwrap();
                assert!([$(stringify!($target)),*].contains(&name), "{name} is not replayed");
            }
        }
    };
}

corpora!(
    framer sip sdp srtp rtp rtcp stun events pidf dialled config admin
    transactions dialog offer_answer registrar auth locate session_timer media machine calls
);
