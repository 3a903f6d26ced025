//! The acceptance list of the emergency specification (section 10): where each point is tested.

use std::{fs, path::Path};

/// Point, what it says, and its tests as file and function.
type Point = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

const ACCEPTANCE: &str = "src/call/tests/acceptance.rs";
const DECISION: &str = "src/call/tests/decision.rs";
const EMERGENCY: &str = "src/call/tests/emergency.rs";

const POINTS: [Point; 16] = [
    ("A1", "all vectors", &[("tests/vectors/dial_strings.rs", "every_row_has_the_class_it_expects")]),
    (
        "A2",
        "D1 to D10 each over UDP, TCP, TLS",
        &[
            (ACCEPTANCE, "a2_each_row_of_the_decision_over_udp_tcp_and_tls"),
            ("src/policy/emergency/decision.rs", "every_case_there_is_agrees_with_the_table_of_the_specification"),
            (DECISION, "every_call_over_udp_ends_as_the_table_of_the_specification_says_whatever_is_exhausted"),
            (DECISION, "every_call_over_tcp_ends_as_the_table_of_the_specification_says_whatever_is_exhausted"),
            (DECISION, "every_call_over_tls_ends_as_the_table_of_the_specification_says_whatever_is_exhausted"),
        ],
    ),
    (
        "A3",
        "refusal under 100 ms at full load",
        &[
            (ACCEPTANCE, "a3_a_refusal_takes_no_time_at_full_load"),
            (
                "tests/sim/scenario.rs",
                "an_emergency_call_without_a_trunk_is_refused_at_once_with_the_reason_and_reaches_nobody",
            ),
        ],
    ),
    (
        "A4",
        "the emitted ERL validates and equals the company address byte for byte with ten different devices, lines and source networks",
        &[(
            "tests/vectors/location_documents.rs",
            "a4_ten_telephones_lines_and_networks_report_the_same_valid_address_byte_for_byte",
        )],
    ),
    (
        "A5",
        "a private line switches the ERL, and back once shared",
        &[(EMERGENCY, "a_private_line_reports_its_own_address_and_the_companys_once_others_use_it_too")],
    ),
    ("A6", "a 9-strip dial rule does not alter 911", &[(ACCEPTANCE, "a6_a_rule_that_strips_a_9_does_not_alter_911")]),
    (
        "A7",
        "extension 911, 9911, full-width 911 rejected at load",
        &[("src/config/checks.rs", "no_extension_may_be_an_emergency_number_in_any_form")],
    ),
    (
        "A8",
        "first trunk dead, second busy, third answers: under 8 s",
        &[(ACCEPTANCE, "a8_a_dead_trunk_and_a_busy_one_cost_less_than_eight_seconds")],
    ),
    (
        "A9",
        "all limits exhausted: connects",
        &[
            (ACCEPTANCE, "a9_with_every_limit_exhausted_at_once_an_emergency_call_connects"),
            (
                EMERGENCY,
                "ports_kept_for_emergency_calls_are_for_them_alone_and_the_newest_trunk_call_makes_room_for_more",
            ),
            (EMERGENCY, "an_emergency_call_that_finds_every_slot_taken_ends_the_newest_trunk_call"),
            ("src/call/tests/abuse.rs", "no_limit_and_no_name_stops_an_emergency_call"),
        ],
    ),
    (
        "A10",
        "a trunk answering 415 or 424 still connects",
        &[(ACCEPTANCE, "a10_a_trunk_that_refuses_the_location_still_connects")],
    ),
    (
        "A11",
        "inbound 911 gives 404, no outbound INVITE",
        &[("tests/sim/scenario.rs", "an_emergency_number_from_the_trunk_is_404_and_never_goes_back")],
    ),
    (
        "A12",
        "REFER, 3xx, forward to 911 per section 6",
        &[
            ("src/call/tests/transfer.rs", "a_device_referred_to_an_emergency_number_calls_it_as_its_own"),
            ("src/call/tests/transfer.rs", "a_trunk_is_not_referred_to_an_emergency_number"),
            ("src/call/tests/reach.rs", "a_redirection_to_strangers_an_emergency_number_or_nowhere_is_not_followed"),
            (
                "src/call/tests/reach.rs",
                "a_forward_to_an_emergency_number_that_was_stored_all_the_same_is_not_followed",
            ),
            ("src/config/checks.rs", "nothing_is_forwarded_to_an_emergency_number_in_any_form"),
        ],
    ),
    (
        "A13",
        "a callback reaches a do-not-disturb phone",
        &[(ACCEPTANCE, "a13_a_callback_reaches_a_telephone_whose_user_does_not_want_to_be_disturbed")],
    ),
    (
        "A14",
        "a notification arrives while the call rings",
        &[(EMERGENCY, "desks_are_told_while_the_call_rings_and_again_when_it_fails")],
    ),
    (
        "A15",
        "no private address text in any log",
        &[("tests/process/canaries.rs", "secrets_of_good_refused_and_malformed_messages_stand_nowhere")],
    ),
    (
        "A16",
        "no file holds audio",
        &[("tests/process/canaries.rs", "secrets_of_good_refused_and_malformed_messages_stand_nowhere")],
    ),
];

/// What is missing of the list.
pub(crate) fn missing(root: &Path) -> Vec<String> {
    let tests = POINTS.iter().flat_map(|(point, text, tests)| tests.iter().map(move |test| (point, text, test)));
    tests
        .filter(|(_, _, (file, name))| {
            let source = fs::read_to_string(root.join(file)).unwrap_or_default();
            !source.contains(&format!("#[test]\nfn {name}()")) && !source.contains(&format!("#[test]\n    fn {name}()"))
        })
        .map(|(point, text, (file, name))| format!("{point} ({text}): no test {name} in {file}"))
        .collect()
}
