//! Goal: what callers dial is recognised as an emergency call exactly where it is one.
//! Method: every row of `dial-strings.csv` through the function behind `ringdown dial-test`, which is the server's own
//! classification. Rows assume outside prefixes 9 and 0 and the hosts `pbx.example.com`, `192.0.2.10`, `[2001:db8::10]`.

use ringdown::policy::emergency::dial_test;

const ROWS: &str = include_str!("dial-strings.csv");

#[test]
fn every_row_has_the_class_it_expects() {
    // Spaces, zero-width characters and an empty first field are intended: nothing is trimmed.
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::None).from_reader(ROWS.as_bytes());
    let mut rows = 0;
    let mut wrong = Vec::new();
    for row in reader.records() {
        let row = row.expect("the file is CSV");
        let class = dial_test(&row[1], &row[0]);
        let is_right = match &row[2] {
            "emergency" => class == "emergency",
            "not-emergency" if row[3].contains("class test") => class == "test",
            "not-emergency" => class != "emergency" && class != "test",
            other => panic!("unknown expectation {other}"),
        };
        if !is_right {
            wrong.push(format!("{row:?} is {class}"));
        }
        rows += 1;
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(rows, 94, "no row is lost in reading");
}

#[test]
fn service_urns_are_recognised_by_their_labels() {
    for (urn, class) in [
        ("urn:service:sos", "emergency"),
        ("URN:Service:SOS", "emergency"),
        ("urn:service:sos.police", "emergency"),
        ("urn:service:sos.animal-control", "emergency"),
        ("urn:service:sos.nobody-knows-this", "emergency"),
        ("urn:service:sos.fire.forest", "emergency"),
        ("urn:service:%73os", "emergency"),
        ("urn:service:test.sos", "test"),
        ("urn:service:test.sos.fire", "test"),
        ("urn:service:sos.", "invalid"),
        ("urn:service:sos..fire", "invalid"),
        ("urn:service:sosx", "invalid"),
        ("urn:service:counseling.sos", "invalid"),
        ("urn:sos", "invalid"),
    ] {
        assert_eq!(dial_test("US", urn), class, "{urn}");
    }
}
