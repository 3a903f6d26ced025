//! One person's data in a real server: exported, and erased while it runs, until no file has a trace of them.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::TcpStream,
};

use memchr::memmem;
use ringdown::types::limits::REFUSALS_PER_SOURCE_MAX;

use crate::{
    SECONDS_5, call,
    common::{
        process::wait_for,
        server::{Account, BOB, Ringdown},
    },
    files,
    phone::Phone,
    registrations, started,
};

const CAROL: Account = Account {
    user: "carol-canary",
    extension: "7701234",
    direct_line: "+12025550187",
    password: "carol-password-canary-5b1e",
};
const TRACES: [&str; 3] = ["carol-canary", "7701234", "2025550187"];

fn privacy(server: &Ringdown, what: &str) -> (Option<i32>, String) {
    let output = server.command(&["privacy", what, "--user", CAROL.user], "");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

fn records(server: &Ringdown) -> Vec<serde_json::Value> {
    let output = server.command(&["cdr", "list"], "");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Carol says how a call was.
fn rate(server: &Ringdown, id: &str) -> String {
    let mut stream = TcpStream::connect((server.ip, 8080)).expect("it listens");
    let body = format!("{{\"user\":\"{}\",\"rating\":2}}", CAROL.user);
    write!(
        stream,
        "POST /v1/calls/{id}/rating HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        server.ip,
        server.operator_token(),
        body.len()
    )
    .expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

fn found(server: &Ringdown, trace: &str) -> Vec<String> {
    let holds =
        |file: &std::path::PathBuf| memmem::find(&fs::read(file).expect("a file of ours"), trace.as_bytes()).is_some();
    files(&server.state_dir()).iter().filter(|file| holds(file)).map(|file| file.display().to_string()).collect()
}

#[test]
fn a_person_is_exported_and_then_erased_from_every_file_while_the_server_runs() {
    let mut server = started(&[CAROL, BOB]);
    assert!(server.command(&["user", "forward", "bob", "--busy", CAROL.extension], "").status.success());
    let (mut carol, mut bob) = (Phone::new(&server, CAROL), Phone::new(&server, BOB));
    assert_eq!((carol.register(), bob.register()), (200, 200));
    call(&mut carol, &mut bob);
    let (call_id, cseq) = bob.invite(CAROL.direct_line);
    let b = carol.answer();
    bob.answered(&call_id, cseq);
    let (code, text) = privacy(&server, "erase");
    assert_eq!(code, Some(69), "{text}");
    assert!(text.contains("is in a call"), "{text}");
    carol.hang_up(&b);
    bob.wait_bye();
    let id = wait_for("both records", SECONDS_5, || {
        let records = records(&server);
        (records.len() == 2).then(|| records[0]["id"].as_str().expect("an id").to_owned())
    });
    let answer = rate(&server, &id);
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    assert_eq!(records(&server)[0]["a"]["rating"], 2);

    let (code, text) = privacy(&server, "export");
    assert_eq!(code, Some(0), "{text}");
    let export: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(export["data"]["users"][0]["extension"], CAROL.extension);
    assert_eq!(export["data"]["cdrs"].as_array().map(Vec::len), Some(2));
    assert_eq!(export["data"]["bindings"].as_array().map(Vec::len), Some(1));
    assert!(export["explanation"]["cdrs.record.caller"]["purpose"].is_string(), "{text}");
    assert!(!text.contains(CAROL.password) && export["data"]["users"][0]["credential"].is_null(), "{text}");
    assert!(TRACES.iter().all(|trace| !found(&server, trace).is_empty()), "the search finds nothing at all");

    let (code, text) = privacy(&server, "erase");
    assert_eq!(code, Some(0), "{text}");
    let receipt: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((&receipt["user"], &receipt["removed"]["users"]), (&CAROL.user.into(), &1.into()));
    assert_eq!(receipt["replaced"]["forwarding.busy"], 1, "{text}");
    assert!(!registrations(&server).contains(CAROL.user));
    for trace in TRACES {
        assert_eq!(found(&server, trace), Vec::<String>::new(), "{trace} is still there");
    }
    assert_eq!(records(&server)[0]["caller"], "erased");
    assert!(records(&server)[1]["callee"] == "erased" && records(&server)[1]["caller"] == BOB.extension);
    let (code, text) = privacy(&server, "erase");
    assert_eq!(code, Some(64), "{text}");
    assert!(text.contains("nothing is kept"), "{text}");
    let audit = server.command(&["audit", "list"], "");
    let audit = String::from_utf8_lossy(&audit.stdout).into_owned();
    let id = receipt["receipt"].as_str().expect("an id");
    assert!(audit.contains("privacy erase") && audit.contains(id) && !audit.contains(CAROL.user), "{audit}");
    server.process().signal(rustix::process::Signal::TERM);
    server.process().wait_exit(std::time::Duration::from_secs(10));
    assert_eq!(found(&server, CAROL.user), Vec::<String>::new(), "the end of the server has brought the person back");
}

/// Goal: no receipt for what is still in a file. Method: somebody has begun to read the database, and goes on.
#[test]
fn nobody_is_said_to_be_erased_while_a_reader_of_the_database_keeps_them_in_its_journal() {
    let server = Ringdown::configured("preferred", crate::COMPANY);
    server.add_user(&CAROL);
    let reader = rusqlite::Connection::open(server.state_dir().join("ringdown.db")).expect("a database");
    reader.execute_batch("BEGIN; SELECT count(*) FROM users;").expect("it can be read");
    let (code, text) = privacy(&server, "erase");
    assert_eq!(code, Some(69), "{text}");
    assert!(text.contains("another program reads the database") && !text.contains("receipt"), "{text}");
    assert!(!found(&server, CAROL.user).is_empty(), "nothing was in the reader's way");
    drop(reader);
    let (code, text) = privacy(&server, "erase");
    assert!(code == Some(0) && text.contains("receipt"), "{text}");
    assert_eq!(found(&server, CAROL.user), Vec::<String>::new());
}

#[test]
fn a_stopped_server_has_its_people_erased_too() {
    let server = Ringdown::configured("preferred", crate::COMPANY);
    server.add_user(&CAROL);
    let (code, text) = privacy(&server, "erase");
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(found(&server, CAROL.user), Vec::<String>::new());
    let table = server.command(&["privacy", "table"], "");
    assert!(String::from_utf8_lossy(&table.stdout).contains("users.direct_line"), "{table:?}");
}

/// Goal: what the log says of people without being asked for more is shown by `privacy table`. Method: an emergency call and guessed
/// passwords; every field of a line above `debug` that names user, number or address.
#[test]
fn what_the_log_says_of_people_stands_in_the_table() {
    let mut server = started(&[CAROL]);
    let mut carol = Phone::new(&server, CAROL);
    assert_eq!(carol.register(), 200);
    carol.refusal("911");
    let guesser = Account { password: "guessed", ..CAROL };
    let mut stranger = Phone::new(&server, guesser);
    for _ in 0..REFUSALS_PER_SOURCE_MAX {
        assert_eq!(stranger.register(), 401);
    }
    server.process().wait_log("Too many refused credentials", SECONDS_5);
    let addresses = [&carol, &stranger].map(|phone| phone.contact().replace(['<', '>'], "").replace(":5060", ""));
    let addresses = addresses.map(|contact| contact.rsplit('@').next().expect("an address").to_owned());
    let is_personal = |value: &str| {
        let value = value.trim_matches('"');
        ["911", CAROL.extension].contains(&value)
            || value.contains(CAROL.user)
            || addresses.iter().any(|address| value.contains(address.as_str()))
    };
    let log = server.process().text();
    let told = log.lines().filter(|line| [" INFO ", " WARN ", "ERROR "].iter().any(|level| line.contains(level)));
    let words = told.flat_map(|line| line.split_ascii_whitespace().filter_map(|word| word.split_once('=')));
    let fields: BTreeSet<&str> = words.filter(|(_, value)| is_personal(value)).map(|(name, _)| name).collect();
    assert!(["aor", "source_ip", "dialed", "source"].iter().all(|field| fields.contains(field)), "{fields:?}");
    let table = server.command(&["privacy", "table"], "");
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    for field in fields {
        assert!(table.contains(&format!("log.{field} ")), "{field} is not in the table");
    }
}
