//! Scenarios as step files, which need no Rust: `tests/sim/scenarios/*.steps`, one scenario a file, described in the
//! README beside them. Each is read whole, then played under several seeds, and ends with [`World::finish`].

mod forms;
mod reader;
mod stage;

use std::{
    any::Any,
    cell::Cell,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use forms::FORMS;
use reader::{Step, read};
use stage::Stage;

const FOLDER: &str = "tests/sim/scenarios";

/// Networks draw their delays and losses from these.
const SEEDS: [u64; 3] = [1, 2, 3];

/// Name and text of every scenario.
fn scenarios() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(FOLDER);
    let entries = fs::read_dir(&folder).expect("the scenarios are part of the repository").flatten();
    let paths = entries.map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "steps"));
    let mut all: Vec<_> = paths
        .map(|p| {
            let name = p.file_name().unwrap_or_default().to_string_lossy();
            (format!("{FOLDER}/{name}"), fs::read_to_string(&p).expect("a step file is text"))
        })
        .collect();
    all.sort();
    all
}

/// Plays a scenario once. A failure names the file, the line and the step.
fn play(file: &str, steps: &[Step], seed: u64) -> Result<(), String> {
    let at = Cell::new(0);
    let played = catch_unwind(AssertUnwindSafe(|| {
        let mut stage = Stage::new(steps, seed);
        for (i, step) in steps.iter().enumerate() {
            at.set(i);
            stage.play(step);
        }
        at.set(steps.len());
        stage.finish();
    }));
    played.map_err(|panic| {
        let place = match steps.get(at.get()) {
            Some(step) => format!("{file}:{}: {}", step.line, step.text),
            None => format!("{file}: after the last step, when everyone has hung up"),
        };
        format!("{place}\n    with seed {seed}: {}", reason(panic.as_ref()))
    })
}

fn reason(panic: &dyn Any) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked")
}

#[test]
fn every_scenario_of_the_step_files_holds() {
    let wanted = std::env::var("RINGDOWN_SIM_STEPS").unwrap_or_default();
    let mut complaints = Vec::new();
    let mut played = 0;
    for (file, text) in scenarios().iter().filter(|(file, _)| file.contains(&wanted)) {
        match read(file, text) {
            Ok(steps) => complaints.extend(SEEDS.into_iter().find_map(|seed| play(file, &steps, seed).err())),
            Err(errors) => complaints.extend(errors),
        }
        played += 1;
    }
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
    assert!(played > 0, "no step file is named like {wanted:?}");
}

#[test]
fn every_known_step_is_explained_in_the_readme_and_used_by_a_scenario() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(FOLDER).join("README.md"));
    let readme = readme.expect("the README is part of the repository");
    let scenarios = scenarios();
    let steps: Vec<Step> = scenarios.iter().filter_map(|(file, text)| read(file, text).ok()).flatten().collect();
    for form in FORMS {
        assert!(readme.contains(&format!("| `{}` |", form.pattern)), "not explained: {}", form.pattern);
        assert!(steps.iter().any(|s| s.form.pattern == form.pattern), "used by no scenario: {}", form.pattern);
    }
}

#[test]
fn a_scenario_that_does_not_hold_names_its_line() {
    let text = "phone alice 1001\nphone bob 1002\neveryone registers\n\n# Nobody else is there.\nalice calls 1002\n\
                bob rings\nbob refuses with 486\nalice receives 603\n";
    let steps = read("a.steps", text).expect("every step is known");
    let complaint = play("a.steps", &steps, 1).expect_err("bob was busy");
    assert!(complaint.starts_with("a.steps:9: alice receives 603\n    with seed 1: "), "{complaint}");
    let left = read("a.steps", "phone alice 1001\nalice calls 1002\n").expect("every step is known");
    assert_eq!(play("a.steps", &left, 1), Ok(()), "the end hangs up by itself");
}
