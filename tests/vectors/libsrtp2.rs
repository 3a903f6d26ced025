//! Every packet against libsrtp2 (Debian package `libsrtp2-dev`), on which telephones, gateways and browsers stand.
//!
//! Method: `libsrtp2.c`, compiled here, holds a sender and a receiver of libsrtp2 behind a pipe. What both libraries make of
//! the same packets in the same order is compared byte by byte, and so is what they refuse.

use std::{
    fs,
    io::{BufReader, BufWriter, Read, Write},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::OnceLock,
};

use ringdown::{
    types::Rng,
    wire::srtp::{Inbound, MasterKey, Mki, Outbound, Suite},
};

use crate::srtp::{RTCP_PLAIN, hex, protect, protect_rtcp, rtp, unprotect, unprotect_rtcp};

const SSRC: u32 = 0x1234_5678;
const MKI: &[u8] = b"MKI1";
/// Packets on their way to the other process at once: less than a pipe holds.
const BATCH: usize = 100;

/// The program, compiled once.
fn program() -> &'static PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let program = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("libsrtp2");
        let fresh = program.with_extension(std::process::id().to_string());
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/libsrtp2.c");
        let output = Command::new("cc").args(["-O1", "-Wall", source, "-lsrtp2", "-o"]).arg(&fresh).output();
        let output = output.expect("a C compiler is needed for this test: apt-get install gcc");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "libsrtp2 is needed for this test: apt-get install libsrtp2-dev\n{errors}");
        fs::rename(&fresh, &program).expect("the build folder is writable");
        program
    })
}

/// Both ends of libsrtp2 under one key.
struct Oracle {
    child: Child,
    requests: Option<BufWriter<ChildStdin>>,
    replies: BufReader<ChildStdout>,
}

impl Oracle {
    fn new(suite: Suite, key: &MasterKey, mki: &[u8]) -> Self {
        let mut child = Command::new(program())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{} does not start: {e}", program().display()));
        let requests = child.stdin.take().map(BufWriter::new);
        let replies = BufReader::new(child.stdout.take().unwrap());
        let mut oracle = Self { child, requests, replies };
        oracle.start(suite, key, mki);
        oracle
    }

    /// Both ends forget what they have seen.
    fn start(&mut self, suite: Suite, key: &MasterKey, mki: &[u8]) {
        let number = Suite::ALL.iter().position(|known| *known == suite).unwrap();
        let sizes = [number, mki.len()].map(|n| u8::try_from(n).unwrap());
        self.all(b'k', &[[&sizes, mki, key.expose()].concat()]);
    }

    /// The results in the order of the packets; an error is libsrtp2's own number.
    fn ask(&mut self, operation: u8, packets: &[Vec<u8>]) -> Vec<Result<Vec<u8>, u8>> {
        let mut results = Vec::with_capacity(packets.len());
        for batch in packets.chunks(BATCH) {
            let requests = self.requests.as_mut().unwrap();
            for packet in batch {
                let length = u16::try_from(packet.len()).unwrap().to_le_bytes();
                requests.write_all(&[&[operation], &length[..], packet].concat()).expect("libsrtp2 reads");
            }
            requests.write_all(b"f\0\0").and_then(|()| requests.flush()).expect("libsrtp2 reads");
            results.extend(batch.iter().map(|_| self.reply()));
        }
        results
    }

    fn reply(&mut self) -> Result<Vec<u8>, u8> {
        let mut head = [0; 3];
        self.replies.read_exact(&mut head).expect("libsrtp2 answers");
        let mut bytes = vec![0; usize::from(u16::from_le_bytes([head[1], head[2]]))];
        self.replies.read_exact(&mut bytes).expect("libsrtp2 answers");
        if head[0] == 0 { Ok(bytes) } else { Err(head[0]) }
    }

    /// Every one of these is taken.
    fn all(&mut self, operation: u8, packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let results = self.ask(operation, packets).into_iter().enumerate();
        results.map(|(n, result)| result.unwrap_or_else(|e| panic!("packet {n}: libsrtp2 says {e}"))).collect()
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        // It ends with its input.
        self.requests = None;
        let _ = self.child.wait();
    }
}

fn below(rng: &mut Rng, n: u32) -> usize {
    usize::try_from(rng.below(n)).unwrap()
}

fn packet(rng: &mut Rng, index: u32) -> Vec<u8> {
    let mut payload = vec![0; below(rng, 200)];
    rng.fill(&mut payload);
    rtp(SSRC, u16::try_from(index & 0xffff).unwrap(), &payload)
}

/// Packets of one stream over three wraps, from somewhere in its first cycle on: with small gaps, and now and then a long one.
fn stream(rng: &mut Rng) -> Vec<Vec<u8>> {
    let mut index = rng.below(65_536);
    let mut packets = Vec::new();
    while index < 3 * 65_536 + 1_000 {
        packets.push(packet(rng, index));
        index += if rng.below(300) == 0 { 1 + rng.below(20_000) } else { 1 + rng.below(60) };
    }
    packets
}

/// Puts each packet up to 16 places later.
fn disorder(rng: &mut Rng, packets: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut placed: Vec<_> = packets.into_iter().enumerate().map(|(n, packet)| (n + below(rng, 16), packet)).collect();
    placed.sort_by_key(|(place, _)| *place);
    placed.into_iter().map(|(_, packet)| packet).collect()
}

/// What happens to packets on their way: a tenth is lost, a tenth comes again later, and before a tenth comes a forgery, with
/// one bit changed; not of the MKI, which nobody authenticates. Each with whether it is genuine and new.
fn on_their_way(rng: &mut Rng, packets: Vec<Vec<u8>>) -> Vec<(Vec<u8>, bool)> {
    let mut arriving: Vec<(Vec<u8>, bool)> = Vec::new();
    for packet in packets {
        match rng.below(10) {
            0 => continue,
            1 => {
                let mut forged = packet.clone();
                let bit = below(rng, u32::try_from(8 * packet.len()).unwrap());
                forged[bit / 8] ^= 1 << (bit % 8);
                let is_of_mki = |at: usize| (at..at + MKI.len()).contains(&(bit / 8));
                if !packet.windows(MKI.len()).rposition(|part| part == MKI).is_some_and(is_of_mki) {
                    arriving.push((forged, false));
                }
            }
            2 if !arriving.is_empty() => {
                let earlier = arriving.len() - 1 - below(rng, 20.min(u32::try_from(arriving.len()).unwrap()));
                if arriving[earlier].1 {
                    arriving.push((arriving[earlier].0.clone(), false));
                }
            }
            _ => {}
        }
        arriving.push((packet, true));
    }
    arriving
}

#[test]
fn what_each_sends_the_other_reads_over_three_wraps_and_both_send_the_same() {
    for suite in Suite::ALL {
        let mut rng = Rng::from_small_seed(30);
        let key = MasterKey::generate(suite, &mut rng);
        let (mut outbound, mut inbound) = (Outbound::new(suite, &key), Inbound::new(suite, &key, None));
        let mut oracle = Oracle::new(suite, &key, &[]);
        let plain = stream(&mut rng);
        let ours: Vec<_> = plain.iter().map(|packet| protect(&mut outbound, packet).unwrap()).collect();
        let theirs = oracle.all(b'p', &plain);
        assert!(ours == theirs, "{suite:?}: the same packets are protected in two ways");
        assert!(oracle.all(b'u', &ours) == plain, "{suite:?}: libsrtp2 reads something else");
        for (n, (packet, plain)) in theirs.iter().zip(&plain).enumerate() {
            assert!(unprotect(&mut inbound, packet).as_ref() == Ok(plain), "{suite:?}: packet {n}");
        }
        assert!(plain.len() > 1_000);
    }
}

/// A relay sends what it received, in the order in which that came.
#[test]
fn what_is_sent_out_of_order_over_wraps_is_the_same_or_refused_by_both() {
    for suite in Suite::ALL {
        let mut rng = Rng::from_small_seed(31);
        let key = MasterKey::generate(suite, &mut rng);
        let (mut outbound, mut oracle) = (Outbound::new(suite, &key), Oracle::new(suite, &key, &[]));
        let plain = stream(&mut rng);
        let twice: Vec<_> = plain.iter().flat_map(|packet| [packet.clone(), packet.clone()]).collect();
        let plain = disorder(&mut rng, twice);
        let mut sent = 0;
        for (n, (plain, theirs)) in plain.iter().zip(oracle.ask(b'p', &plain)).enumerate() {
            let ours = protect(&mut outbound, plain);
            assert!(
                ours.as_ref().ok() == theirs.as_ref().ok(),
                "{suite:?}: packet {n}: {:?} and {theirs:?}",
                ours.err()
            );
            sent += usize::from(ours.is_ok());
        }
        assert!(sent > plain.len() / 4 && sent <= plain.len() / 2, "{sent} of {}", plain.len());
    }
}

#[test]
fn disorder_loss_copies_and_forgeries_over_wraps_are_judged_alike() {
    for (suite, mki) in Suite::ALL.into_iter().flat_map(|suite| [(suite, &[][..]), (suite, MKI)]) {
        let mut rng = Rng::from_small_seed(32);
        let key = MasterKey::generate(suite, &mut rng);
        let mut inbound = Inbound::new(suite, &key, Mki::new(mki));
        let mut oracle = Oracle::new(suite, &key, mki);
        let plain = stream(&mut rng);
        let sent = disorder(&mut rng, oracle.all(b'p', &plain));
        let arriving = on_their_way(&mut rng, sent);
        let packets: Vec<_> = arriving.iter().map(|(packet, _)| packet.clone()).collect();
        let mut read = 0;
        for (n, ((packet, is_new), theirs)) in arriving.iter().zip(oracle.ask(b'u', &packets)).enumerate() {
            let ours = unprotect(&mut inbound, packet);
            assert!(
                ours.as_ref().ok() == theirs.as_ref().ok(),
                "{suite:?}: packet {n}: {:?} and {theirs:?}",
                ours.err()
            );
            assert!(*is_new || ours.is_err(), "{suite:?}: packet {n} is a copy or a forgery");
            read += usize::from(ours.is_ok());
        }
        assert!(read > packets.len() / 2, "{suite:?}: {read} of {}", packets.len());
    }
}

/// Who joins late hears what was sent from then on, as long as it is the first cycle; no library can know of another.
#[test]
fn both_join_late_and_learn_nothing_from_a_forgery_that_came_first() {
    for suite in Suite::ALL {
        let mut rng = Rng::from_small_seed(33);
        let key = MasterKey::generate(suite, &mut rng);
        let mut oracle = Oracle::new(suite, &key, &[]);
        let plain: Vec<_> = (0..65_536 + 300).step_by(7).map(|index| packet(&mut rng, index)).collect();
        let sent = oracle.all(b'p', &plain);
        for joins_at in [1, 4_000, 65_000 / 7] {
            let mut inbound = Inbound::new(suite, &key, None);
            oracle.start(suite, &key, &[]);
            let mut forged = sent[joins_at + 30].clone();
            forged[13] ^= 1;
            assert!(unprotect(&mut inbound, &forged).is_err());
            assert!(oracle.ask(b'u', &[forged])[0].is_err());
            assert!(oracle.all(b'u', &sent[joins_at..]) == plain[joins_at..], "{suite:?}, from {joins_at}");
            for (packet, plain) in sent.iter().zip(&plain).skip(joins_at) {
                assert!(unprotect(&mut inbound, packet).as_ref() == Ok(plain), "{suite:?}, from {joins_at}");
            }
        }
    }
}

/// Reports of any size, the number of each in it.
fn reports(rng: &mut Rng) -> Vec<Vec<u8>> {
    let report = |n: u32| {
        let mut report = hex(RTCP_PLAIN);
        report.extend(n.to_be_bytes());
        report.resize(report.len() + 4 * below(rng, 30), 7);
        report
    };
    (0..1_500).map(report).collect()
}

/// Their first index is 1 where RFC 3711 says 0: ours is that far after one report of its own.
#[test]
fn rtcp_is_sent_alike_and_read_by_the_other() {
    for suite in Suite::ALL {
        let mut rng = Rng::from_small_seed(34);
        let key = MasterKey::generate(suite, &mut rng);
        let (mut outbound, mut inbound) = (Outbound::new(suite, &key), Inbound::new(suite, &key, None));
        let mut oracle = Oracle::new(suite, &key, &[]);
        let plain = reports(&mut rng);
        let first = protect_rtcp(&mut outbound, &plain[0]).unwrap();
        assert!(oracle.all(b'U', &[first]) == plain[..1]);
        let ours: Vec<_> = plain.iter().map(|report| protect_rtcp(&mut outbound, report).unwrap()).collect();
        let theirs = oracle.all(b'P', &plain);
        assert!(ours == theirs, "{suite:?}: the same reports are protected in two ways");
        assert!(oracle.all(b'U', &ours) == plain, "{suite:?}: libsrtp2 reads something else");
        for (n, (report, plain)) in theirs.iter().zip(&plain).enumerate() {
            assert!(unprotect_rtcp(&mut inbound, report).as_ref() == Ok(plain), "{suite:?}: report {n}");
        }
    }
}

#[test]
fn disorder_loss_copies_and_forgeries_of_rtcp_are_judged_alike() {
    for (suite, mki) in Suite::ALL.into_iter().flat_map(|suite| [(suite, &[][..]), (suite, MKI)]) {
        // libsrtp2 looks for the MKI of RTCP before a tag as long as that of RTP, and there is none (err_status_bad_mki).
        let is_lost = matches!(suite, Suite::AesCm128HmacSha1_32 | Suite::AesCm256HmacSha1_32) && !mki.is_empty();
        if is_lost {
            continue;
        }
        let mut rng = Rng::from_small_seed(35);
        let key = MasterKey::generate(suite, &mut rng);
        let mut inbound = Inbound::new(suite, &key, Mki::new(mki));
        let mut oracle = Oracle::new(suite, &key, mki);
        let plain = reports(&mut rng);
        let sent = disorder(&mut rng, oracle.all(b'P', &plain));
        let arriving = on_their_way(&mut rng, sent);
        let packets: Vec<_> = arriving.iter().map(|(packet, _)| packet.clone()).collect();
        let mut read = 0;
        for (n, ((packet, is_new), theirs)) in arriving.iter().zip(oracle.ask(b'U', &packets)).enumerate() {
            let ours = unprotect_rtcp(&mut inbound, packet);
            assert!(
                ours.as_ref().ok() == theirs.as_ref().ok(),
                "{suite:?}: report {n}: {:?} and {theirs:?}",
                ours.err()
            );
            assert!(*is_new || ours.is_err(), "{suite:?}: report {n} is a copy or a forgery");
            read += usize::from(ours.is_ok());
        }
        assert!(read > packets.len() / 2, "{suite:?}: {read} of {}", packets.len());
    }
}
