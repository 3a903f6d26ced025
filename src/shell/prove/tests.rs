//! That each claim can fail: what it forbids is planted, and it says so.

use super::{
    process::Thread,
    search::FileSearch,
    threads::{descriptors, media_threads, states, system_calls},
    trace::Calls,
    *,
};

const SECRET: &[u8; 32] = b"a payload that nobody must write";

fn kept() -> Needles {
    let mut needles = Needles::new();
    needles.add("a payload", SECRET);
    needles
}

fn thread(name: &str, filters: u64, no_new_privileges: &str, descriptors: &[&str]) -> Thread {
    let descriptors = descriptors.iter().map(|target| (*target).to_owned()).collect();
    Thread {
        id: 1,
        name: name.to_owned(),
        mode: if filters == 0 { "0" } else { "2" }.to_owned(),
        filters,
        no_new_privileges: no_new_privileges.to_owned(),
        descriptors: Ok(descriptors),
    }
}

fn is_shown(claim: &Claim) -> bool {
    matches!(claim.verdict, Verdict::Shown(_))
}

#[track_caller]
fn assert_failed(verdict: &Verdict, wanted: &str) {
    match verdict {
        Verdict::Failed(seen) if seen.contains(wanted) => {}
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn assert_not_shown(verdict: &Verdict) {
    assert!(matches!(verdict, Verdict::NotShown(_)), "{verdict:?}");
}

fn denied<T>() -> io::Result<T> {
    Err(io::ErrorKind::PermissionDenied.into())
}

#[test]
fn an_attempt_that_comes_out_the_wrong_way_fails_the_claim() {
    let attempt = |is_refused, is_to_be_refused| Attempt { what: "open", is_refused, is_to_be_refused };
    assert_not_shown(&tried(Ok(Vec::new())));
    assert!(matches!(tried(Ok(vec![attempt(true, true), attempt(false, false)])), Verdict::Shown(_)));
    assert_failed(&tried(Ok(vec![attempt(false, true)])), "open");
    assert_failed(&tried(Ok(vec![attempt(true, false)])), "open");
    let missing = Missing { measure: Measure::MediaCalls, cause: "no seccomp".to_owned(), remedy: "" };
    assert_failed(&tried(Err(vec![missing])), "no seccomp");
}

#[test]
fn a_media_thread_that_is_as_free_as_others_fails_the_claim() {
    let health = |measures: &[&str]| {
        let lines: Vec<_> = measures.iter().map(|measure| format!("\"{measure}\":true")).collect();
        format!("{{\"sandbox\":{{{}}}}}", lines.join(","))
    };
    let all = ["media_descriptors", "media_files", "media_calls"];
    let open =
        || Ok(["socket:[1]", "socket:[2]", "pipe:[1]", "anon_inode:[eventfd]", "/x/db"].map(str::to_owned).to_vec());
    let own = ["socket:[1]", "socket:[9]", "pipe:[7]", "anon_inode:[eventfd]", "anon_inode:[eventpoll]"];
    let others = || [thread("store", 1, "1", &[]), thread("media-paths", 1, "1", &["/x/db"])];
    let claim = |media: Vec<Thread>, measures: &[&str]| {
        media_threads(&Ok(others().into_iter().chain(media).collect()), &open(), &health(measures))
    };
    assert!(is_shown(&claim(vec![thread("media-0", 2, "1", &own)], &all)));
    // The filter of a container or a service manager is not its own.
    assert_failed(&claim(vec![thread("media-0", 1, "1", &own)], &all).verdict, "media-0 has no filter of its own");
    for foreign in ["/x/db", "/memfd:audio (deleted)", "anon_inode:[io_uring]"] {
        let with = [&own[..], &[foreign]].concat();
        assert_failed(&claim(vec![thread("media-0", 2, "1", &with)], &all).verdict, foreign);
    }
    for shared in ["socket:[2]", "pipe:[1]"] {
        let with = [&own[..], &[shared]].concat();
        assert_failed(&claim(vec![thread("media-1", 2, "1", &with)], &all).verdict, "media-1 shares");
    }
    for missing in all {
        let others: Vec<_> = all.into_iter().filter(|measure| *measure != missing).collect();
        assert_failed(&claim(vec![thread("media-0", 2, "1", &own)], &others).verdict, missing);
    }
    assert_failed(&claim(Vec::new(), &all).verdict, "no media thread");
    let unseen = Thread { descriptors: Err(io::ErrorKind::PermissionDenied), ..thread("media-0", 2, "1", &own) };
    assert_not_shown(&claim(vec![unseen], &all).verdict);
    assert_not_shown(&media_threads(&denied(), &open(), "").verdict);
    assert_not_shown(&media_threads(&Ok(Vec::new()), &denied(), "").verdict);
}

#[test]
fn a_thread_without_filter_or_rules_or_with_a_way_to_privileges_fails_the_claim() {
    let health = |files, calls| format!("{{\"sandbox\":{{\"files\":{files},\"calls\":{calls}}}}}");
    let of = |threads: Vec<Thread>, health: &str| states(&Ok(threads), health);
    let good = || vec![thread("core", 2, "1", &[]), thread("core", 2, "1", &[]), thread("media-0", 3, "1", &[])];
    let claim = of(good(), &health(true, true));
    match claim.verdict {
        Verdict::Shown(seen) => {
            assert_eq!(seen, "all 3 threads: 2 times core under 2 filters, media-0 under 3 filters");
        }
        other => panic!("{other:?}"),
    }
    assert_failed(&of(good(), &health(false, true)).verdict, "files is not in force");
    assert_failed(&of(good(), &health(true, false)).verdict, "calls is not in force");
    let with = |other| good().into_iter().chain([other]).collect();
    assert_failed(&of(with(thread("store", 2, "0", &[])), &health(true, true)).verdict, "store may gain");
    assert_failed(&of(with(thread("store", 0, "1", &[])), &health(true, true)).verdict, "store is under no filter");
    assert_failed(&of(Vec::new(), &health(true, true)).verdict, "");
    assert_not_shown(&states(&denied(), &health(true, true)).verdict);
}

#[test]
fn a_call_beyond_the_loop_s_fails_the_claim_and_a_trace_without_packets_shows_nothing() {
    let left = sandbox::left_to_media();
    let number = |name: &str| *left.iter().find(|(_, known)| **known == name).unwrap().0;
    let relays = [number("recvfrom"), number("sendto"), number("close")];
    let traced = |made: &[i64], refused: &[i64]| {
        let calls = Calls { made: made.iter().copied().collect(), refused: refused.iter().copied().collect() };
        system_calls(Ok(vec![("media-0".to_owned(), calls), ("media-1".to_owned(), Calls::default())])).verdict
    };
    let Verdict::Shown(seen) = traced(&relays, &[]) else { panic!("they are the loop's") };
    assert!(seen.starts_with("media-0: ") && seen.contains("recvfrom") && !seen.contains("call "), "{seen}");
    let foreign = (0..).find(|call| !left.contains_key(call)).unwrap();
    assert_failed(&traced(&[&relays[..], &[foreign]].concat(), &[]), &format!("call {foreign}"));
    assert!(
        matches!(traced(&relays, &[foreign]), Verdict::Shown(seen) if seen.contains(&format!("refused: call {foreign}")))
    );
    assert_not_shown(&traced(&relays[1..], &[]));
    assert_not_shown(&system_calls(denied()).verdict);
}

#[test]
fn a_payload_in_a_file_of_the_state_folder_fails_the_claim_though_it_is_mapped_and_looks_old() {
    let folder = tempfile::tempdir().unwrap();
    files::create_folder(&folder.path().join("state")).unwrap();
    let file = |name: &str, content: &[u8]| files::write(&folder.path().join("state").join(name), content).unwrap();
    file("ringdown.db", b"who called whom");
    assert_not_shown(&search::in_call(folder.path(), &kept()));
    file("ringdown.db-shm", b"an index");
    assert!(matches!(search::in_call(folder.path(), &kept()), Verdict::Shown(_)));
    file("ringdown.db-shm", &[b"an index, ".as_slice(), SECRET].concat());
    assert_failed(&search::in_call(folder.path(), &kept()), "ringdown.db-shm");
}

#[test]
fn an_open_file_that_is_not_the_servers_fails_the_claim() {
    let own = [PathBuf::from("/x/state"), PathBuf::from("/x/server.log")];
    let handed_down = ["pipe:[2]".to_owned()];
    let open = |more: &[&str]| {
        let usual = [
            "socket:[1]",
            "anon_inode:[eventpoll]",
            "/dev/null",
            "/x/state/ringdown.db",
            "/x/server.log",
            "pipe:[2]",
            "/proc/7/net/snmp",
        ];
        Ok(usual.iter().chain(more).map(|target| (*target).to_owned()).collect::<Vec<_>>())
    };
    assert!(is_shown(&descriptors(open(&[]), &handed_down, &own)));
    for foreign in [
        "/tmp/audio.wav",
        "/proc/7/net/tcp",
        "/x/states/audio",
        "/memfd:audio (deleted)",
        "anon_inode:inotify",
        "pipe:[3]",
    ] {
        assert_failed(&descriptors(open(&[foreign]), &handed_down, &own).verdict, foreign);
    }
    assert_not_shown(&descriptors(denied(), &handed_down, &own).verdict);
}

#[test]
fn a_process_that_can_be_dumped_or_swapped_fails_the_claim() {
    let health = |dumps| format!("{{\"sandbox\":{{\"dumps\":{dumps}}}}}");
    let limits = |soft: &str, hard: &str| Ok([soft.to_owned(), hard.to_owned()]);
    assert!(is_shown(&dumps(limits("0", "0"), &health(true))));
    assert_failed(&dumps(limits("0", "unlimited"), &health(true)).verdict, "unlimited");
    assert_failed(&dumps(limits("0", "0"), &health(false)).verdict, "dumped");
    assert_failed(&dumps(limits("0", "0"), "not JSON").verdict, "dumped");
    assert_not_shown(&dumps(denied(), &health(true)).verdict);

    let (no_swap, some_swap) = (Ok("Filename Type\n".to_owned()), Ok("Filename Type\n/swap file\n".to_owned()));
    assert!(is_shown(&swap(Ok([52_000, 52_000, 0]), &some_swap)));
    assert_failed(&swap(Ok([51_999, 52_000, 0]), &some_swap).verdict, "no more than 51999 kB");
    assert_failed(&swap(Ok([52_000, 9_000, 4]), &no_swap).verdict, "4 kB");
    assert_not_shown(&swap(Ok([0, 9_000, 0]), &some_swap).verdict);
    assert_not_shown(&swap(Ok([0, 9_000, 0]), &no_swap).verdict);
    assert_not_shown(&swap(denied(), &no_swap).verdict);
}

#[test]
fn a_payload_in_the_log_fails_the_claim_and_an_empty_log_shows_nothing() {
    let log = |more: &[u8]| in_text(&[b"INFO ringdown: x ".as_slice(), more].concat(), &kept(), "ringdown");
    assert!(matches!(log(b""), Verdict::Shown(_)));
    assert_failed(&log(SECRET), "a payload (raw)");
    let hexadecimal: String = SECRET.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_failed(&log(hexadecimal.as_bytes()), "a payload (hexadecimal)");
    assert_not_shown(&in_text(b"", &kept(), "ringdown"));
}

#[test]
fn a_payload_in_memory_fails_the_claim_and_a_blind_search_shows_nothing() {
    let searched = |found: &[&str]| Searched { bytes: 5 << 20, found: found.iter().map(|f| (*f).to_owned()).collect() };
    assert_eq!(nothing(&searched(&[])), Ok(5));
    assert_failed(&nothing(&searched(&["a payload (raw) in [heap]"])).unwrap_err(), "[heap]");
    assert_eq!(control_found(&searched(&["the domain (raw) in [heap]"]), "the domain"), Ok(()));
    assert_not_shown(&control_found(&searched(&[]), "the domain").unwrap_err());
    let all = HELD_IN_CALLS.map(|name| format!("{name} (raw) in [heap]"));
    let all = all.each_ref().map(String::as_str);
    assert_eq!(held(&searched(&all)), Ok(()));
    for missing in 0..all.len() {
        let others: Vec<_> = all.iter().enumerate().filter(|(at, _)| *at != missing).map(|(_, name)| *name).collect();
        assert_not_shown(&held(&searched(&others)).unwrap_err());
    }
    assert_not_shown(&not_readable(io::ErrorKind::PermissionDenied));
}

#[test]
fn a_name_in_memory_fails_the_claim_and_calls_without_reports_show_nothing() {
    let said = Said { reports: 8, intact_reports: 7, ..Said::default() };
    assert!(matches!(reported(said, 5), Verdict::Shown(seen) if seen.contains("7 of 8")));
    assert_not_shown(&reported(Said { intact_reports: 0, ..said }, 5));
    let mut rng = Rng::from_small_seed(1);
    let [one, other] = [Secrets::new(&mut rng), Secrets::new(&mut rng)];
    assert_ne!((&one.cname, one.payload), (&other.cname, other.payload));
    let mut needles = Needles::new();
    needles.add("a name in RTCP", one.cname.as_bytes());
    assert_eq!(needles.find_in(&[b"x", one.cname.as_bytes()].concat()), ["a name in RTCP (raw)"]);
    assert!(needles.find_in(other.cname.as_bytes()).is_empty());
}

#[test]
fn a_server_that_reads_a_foreign_file_fails_the_claim() {
    let refused = "ERROR The certificates cannot be reloaded; failure=x: Permission denied (os error 13)";
    assert!(matches!(led_astray(Some(refused)), Verdict::Shown(_)));
    assert_failed(&led_astray(Some("")), "has read");
    assert_not_shown(&led_astray(Some("The certificates cannot be reloaded; failure=no certificate")));
    assert_not_shown(&led_astray(None));
}

#[test]
fn a_payload_in_a_changed_file_fails_the_claim_wherever_it_lies() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    files::create_folder(&path("old/deep")).unwrap();
    files::write(&path("old/deep/audio"), SECRET).unwrap();
    let began = SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000);
    let search = |began| {
        let kept = kept();
        let mut search = FileSearch::new(&kept, began);
        search.folder(folder.path());
        search.verdict()
    };
    assert_not_shown(&search(began));
    assert_failed(&search(SystemTime::UNIX_EPOCH), "a payload (raw) in ");
    fs::remove_file(path("old/deep/audio")).unwrap();
    files::write(&path("old/record"), b"who called whom").unwrap();
    assert!(matches!(search(SystemTime::UNIX_EPOCH), Verdict::Shown(_)));
}
