//! The power fails, or the process is killed, anywhere in a change of the sealing key, or as the key is made: every secret opens
//! afterwards, and the command can be given again.
//!
//! Method: `ringdown keys rotate`, or the first command, is stopped at the beginning and the end of each of its system calls (ptrace(2)). There the
//! state folder is as `kill -9` would leave it; and what was written, renamed or removed since it was last flushed, a power cut
//! leaves or loses, by sectors of a file and by steps of the folder.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fs,
    io::Write,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use nix::{
    sys::{
        ptrace::{self, Options},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use ringdown::{
    config::{User, parse_address},
    shell::store::{Account, Store},
    types::Secret,
};
use tempfile::TempDir;

use crate::{
    COMPANY, SECONDS_5,
    common::server::{ALICE, BINARY, BOB, Ringdown},
    phone::Phone,
};

/// What disks write as a whole.
const SECTOR_BYTES: usize = 512;
const CREDENTIAL: &str = "ringdown-seal-key";
const ADDRESS: &str = "country = \"US\"\nA1 = \"DC\"\nA3 = \"Washington\"\nRD = \"Sample\"\nSTS = \"Lane\"\nHNO = \"1\"\n\
                       PC = \"20001\"\nFLR = \"4\"\n";

/// A command that goes from one system call to the next.
struct Stepped {
    child: Child,
    id: Pid,
}

/// A system call with its first argument.
struct SystemCall {
    number: i64,
    descriptor: u64,
}

impl Stepped {
    fn start(server: &Ringdown, arguments: &[&str], credentials: Option<&Path>) -> Self {
        let mut command = Command::new("sh");
        // Waits until it is traced.
        command
            .args(["-c", "read line; exec \"$@\"", "sh", BINARY])
            .args(arguments)
            .arg("--config")
            .arg(server.config());
        command.envs(credentials.map(|folder| ("CREDENTIALS_DIRECTORY", folder))).current_dir(server.dir());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("a shell");
        let id = Pid::from_raw(i32::try_from(child.id()).expect("a small number"));
        ptrace::seize(id, Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_EXITKILL).expect("a child of ours");
        ptrace::interrupt(id).expect("it was seized");
        waitpid(id, Some(WaitPidFlag::__WALL)).expect("it stops");
        child.stdin.take().expect("it is piped").write_all(b"\n").expect("it reads");
        Self { child, id }
    }

    /// Goes on to the beginning or the end of a system call. `None`: the command has ended well.
    fn next(&mut self) -> Option<SystemCall> {
        let mut signal = None;
        loop {
            ptrace::syscall(self.id, signal.take()).expect("it is stopped");
            match waitpid(self.id, Some(WaitPidFlag::__WALL)).expect("a child of ours") {
                WaitStatus::PtraceSyscall(_) => break,
                WaitStatus::Stopped(_, with) => signal = Some(with),
                WaitStatus::Exited(_, 0) => return None,
                other => panic!("the command ends with {other:?}"),
            }
        }
        let text = fs::read_to_string(format!("/proc/{}/syscall", self.id)).expect("it is stopped");
        let mut fields = text.split_ascii_whitespace();
        let number = fields.next().and_then(|number| number.parse().ok()).expect("it is in a system call");
        let descriptor = fields.next().and_then(|hex| u64::from_str_radix(hex.strip_prefix("0x")?, 16).ok());
        Some(SystemCall { number, descriptor: descriptor.expect("an argument") })
    }

    /// The file that this call flushes.
    fn flushes(&self, call: &SystemCall) -> Option<PathBuf> {
        let is_flush = [libc::SYS_fsync, libc::SYS_fdatasync].contains(&call.number);
        is_flush.then(|| PathBuf::from(format!("/proc/{}/fd/{}", self.id, call.descriptor)))
    }
}

impl Drop for Stepped {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = waitpid(self.id, Some(WaitPidFlag::__WALL));
    }
}

/// Content by name.
type Files = BTreeMap<String, Vec<u8>>;
/// Number of each file by name, in [`Disk`].
type Names = BTreeMap<String, usize>;

/// A folder on a disk: what was flushed is there after a power cut, what was not may be.
struct Disk {
    folder: PathBuf,
    /// Of the files that are there, by inode.
    numbers: BTreeMap<u64, usize>,
    flushed: Vec<Vec<u8>>,
    written: Vec<Vec<u8>>,
    /// As they were flushed, and after each step since.
    names: Vec<Names>,
}

impl Disk {
    fn of(folder: &Path) -> Self {
        let (numbers, flushed, written) = (BTreeMap::new(), Vec::new(), Vec::new());
        let mut disk = Self { folder: folder.to_owned(), numbers, flushed, written, names: vec![Names::new()] };
        disk.look();
        disk.flushed.clone_from(&disk.written);
        disk.names.remove(0);
        disk
    }

    /// Takes in what the folder holds now.
    fn look(&mut self) {
        let (mut names, mut numbers) = (Names::new(), BTreeMap::new());
        for entry in fs::read_dir(&self.folder).expect("a folder").flatten() {
            let (name, metadata) =
                (entry.file_name().to_string_lossy().into_owned(), entry.metadata().expect("a file"));
            // Shared memory in a file, which is made anew after a crash (sqlite.org/wal.html).
            if !metadata.is_file() || name.ends_with("-shm") {
                continue;
            }
            let content = fs::read(entry.path()).expect("a file of ours");
            // A number of an inode is given again, once its file is gone.
            let number = self.numbers.get(&metadata.ino()).copied().unwrap_or_else(|| {
                self.flushed.push(Vec::new());
                self.written.push(Vec::new());
                self.written.len() - 1
            });
            self.written[number] = content;
            numbers.insert(metadata.ino(), number);
            names.insert(name, number);
        }
        self.numbers = numbers;
        if self.names.last() != Some(&names) {
            self.names.push(names);
        }
    }

    fn flush(&mut self, file: &Path) {
        let metadata = fs::metadata(file).expect("an open descriptor");
        if let Some(number) = self.numbers.get(&metadata.ino()) {
            self.flushed[*number].clone_from(&self.written[*number]);
        } else if metadata.ino() == fs::metadata(&self.folder).expect("a folder").ino() {
            self.names.drain(..self.names.len() - 1);
        }
    }

    fn files(&self, names: &Names, content: impl Fn(usize) -> Vec<u8>) -> Files {
        names.iter().map(|(name, number)| (name.clone(), content(*number))).collect()
    }

    /// What the kernel has is there.
    fn after_kill(&self) -> Files {
        self.files(self.names.last().expect("the present ones"), |number| self.written[number].clone())
    }

    /// One file torn, the others as they were flushed or as they were written, at each step of the folder.
    fn after_power_cuts(&self) -> Vec<Files> {
        let mut cuts = Vec::new();
        for names in &self.names {
            for others in [&self.flushed, &self.written] {
                cuts.push(self.files(names, |number| others[number].clone()));
                for torn in names.values() {
                    let variants = torn_between(&self.flushed[*torn], &self.written[*torn]);
                    cuts.extend(variants.into_iter().map(|variant| {
                        self.files(
                            names,
                            |number| if number == *torn { variant.clone() } else { others[number].clone() },
                        )
                    }));
                }
            }
        }
        cuts
    }
}

/// Of each sector that was written: all before it, all but it, and it alone.
fn torn_between(flushed: &[u8], written: &[u8]) -> Vec<Vec<u8>> {
    let sector = |file: &[u8], n: usize| {
        let from = file.len().min(n * SECTOR_BYTES);
        file[from..file.len().min(from + SECTOR_BYTES)].to_vec()
    };
    let count = written.len().div_ceil(SECTOR_BYTES);
    let changed: Vec<_> = (0..count).filter(|n| sector(flushed, *n) != sector(written, *n)).collect();
    let with = |is_written: &dyn Fn(usize) -> bool| {
        let mut file = vec![0; written.len()];
        for n in 0..count {
            let from = if is_written(n) { written } else { flushed };
            file[n * SECTOR_BYTES..].iter_mut().zip(sector(from, n)).for_each(|(byte, of_disk)| *byte = of_disk);
        }
        file
    };
    changed.iter().flat_map(|at| [with(&|n| n < *at), with(&|n| n != *at), with(&|n| n == *at)]).collect()
}

/// All that is sealed.
struct Sealed {
    user: User,
    gruu_key: Secret<[u8; 32]>,
}

impl Sealed {
    /// A user with a private address, on a server that runs or not.
    fn make(server: &Ringdown) -> Self {
        server.add_user(&ALICE);
        let mut store = Store::open(&server.state_dir(), None).expect("a store");
        let address = parse_address(ADDRESS).expect("an address");
        store.set_address(ALICE.user, Some(&address)).expect("a user");
        Self::read(&mut store)
    }

    fn read(store: &mut Store) -> Self {
        let user = store.directory().expect("what was sealed").by_name(ALICE.user).expect("a user").as_ref().clone();
        Self { user, gruu_key: store.gruu_key().expect("what was sealed") }
    }

    fn assert_in(&self, store: &mut Store) {
        let found = Self::read(store);
        assert_eq!(found.user.credential, self.user.credential);
        assert_eq!(found.user.place, self.user.place);
        assert!(found.user.place.private_address.is_some() && found.gruu_key == self.gruu_key);
    }

    /// Goal: a disk with these files opens, its key can be changed, and nothing of a rotation is left then.
    fn assert_on(&self, files: &Files) {
        let folder = disk_with(files);
        let mut store = Store::open(folder.path(), None).unwrap_or_else(|e| panic!("{e}: {:?}", files.keys()));
        self.assert_in(&mut store);
        let before = store.sealing().expect("a key");
        let after = store.rotate_key().unwrap_or_else(|e| panic!("{e}: {:?}", files.keys()));
        assert!(after.secrets == before.secrets && after.key_id != before.key_id);
        self.assert_in(&mut store);
        assert_eq!(keys_in(folder.path()), BTreeSet::from(["seal.key".to_owned()]), "of {:?}", files.keys());
    }
}

/// In memory, if there is room: what is flushed when is what is tested, not that it is.
fn disk_with(files: &Files) -> TempDir {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a temporary folder");
    for (name, content) in files {
        let path = folder.path().join(name);
        fs::write(&path, content).expect("a writable folder");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a file of ours");
    }
    folder
}

fn keys_in(folder: &Path) -> BTreeSet<String> {
    let names = fs::read_dir(folder).expect("a folder").flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("seal.key")).collect()
}

/// The files of a folder hold what this key has sealed; its identifier, in hexadecimal, is in front of each value.
fn is_sealed_with(files: &Files, key_id: &str) -> bool {
    let id: Vec<u8> =
        (0..key_id.len()).step_by(2).map(|at| u8::from_str_radix(&key_id[at..at + 2], 16).expect("hex")).collect();
    files.values().any(|content| content.windows(id.len()).any(|window| window == id))
}

/// Every disk that a rotation leaves when it is cut short: by a kill, and by a power cut.
fn cut_short(server: &Ringdown, credentials: Option<&Path>) -> (HashSet<Files>, HashSet<Files>) {
    let Cuts { kills, power_cuts, .. } = cut(server, &["keys", "rotate"], credentials);
    (kills, power_cuts)
}

/// Every disk that a command leaves.
struct Cuts {
    kills: HashSet<Files>,
    power_cuts: HashSet<Files>,
    /// By a power cut when it has ended.
    ended: HashSet<Files>,
}

fn cut(server: &Ringdown, arguments: &[&str], credentials: Option<&Path>) -> Cuts {
    let (mut kills, mut power_cuts) = (HashSet::new(), HashSet::new());
    let mut disk = Disk::of(&server.state_dir());
    let mut stepped = Stepped::start(server, arguments, credentials);
    while let Some(call) = stepped.next() {
        disk.look();
        kills.insert(disk.after_kill());
        power_cuts.extend(disk.after_power_cuts());
        if let Some(file) = stepped.flushes(&call) {
            disk.flush(&file);
        }
    }
    disk.look();
    kills.insert(disk.after_kill());
    Cuts { kills, power_cuts, ended: disk.after_power_cuts().into_iter().collect() }
}

/// Goal: the first command makes key, database and user, or can be given again; when it has ended, all of them are there.
#[test]
fn a_power_cut_or_a_kill_anywhere_in_the_first_command_leaves_a_folder_that_the_next_one_can_use() {
    let server = Ringdown::configured("preferred", COMPANY);
    fs::DirBuilder::new().mode(0o700).create(server.state_dir()).expect("a writable folder");
    let add = ["user", "add", ALICE.user, "--extension", ALICE.extension];
    let Cuts { kills, power_cuts, ended } = cut(&server, &add, None);
    assert!(kills.len() > 10 && power_cuts.len() > 100, "{} kills, {} power cuts", kills.len(), power_cuts.len());
    let users = |files: &Files| {
        let folder = disk_with(files);
        let mut store = Store::open(folder.path(), None).unwrap_or_else(|e| panic!("{e}: {:?}", files.keys()));
        let users = store.directory().expect("what was sealed").len();
        let another =
            Account::new(BOB.user, BOB.extension, None, Secret::new(BOB.password.to_owned())).expect("a user");
        store.add_users(&server.ip.to_string(), &[another]).unwrap_or_else(|e| panic!("{e}: {:?}", files.keys()));
        users
    };
    let made: BTreeSet<usize> = kills.iter().chain(&power_cuts).map(users).collect();
    assert_eq!(made, BTreeSet::from([0, 1]));
    for files in &ended {
        assert_eq!(users(files), 1, "the user is lost: {:?}", files.keys());
    }
}

#[test]
fn a_power_cut_or_a_kill_anywhere_in_a_rotation_loses_no_secret() {
    let server = Ringdown::configured("preferred", COMPANY);
    let sealed = Sealed::make(&server);
    let old = Store::open(&server.state_dir(), None).expect("a store").sealing().expect("a key").key_id;
    let (kills, power_cuts) = cut_short(&server, None);
    assert!(kills.len() > 10 && power_cuts.len() > 100, "{} kills, {} power cuts", kills.len(), power_cuts.len());
    let is_begun = |files: &&Files| files.contains_key("seal.key.next");
    assert!(
        kills.iter().any(|files| is_begun(&files)) && !kills.iter().all(|files| is_begun(&files)),
        "nothing was cut"
    );
    for files in kills.iter().chain(&power_cuts) {
        sealed.assert_on(files);
    }
    // What is sealed with a key that somebody may have read is gone, too, as soon as the server or a command has been here.
    let mut ended = 0;
    for files in kills {
        let folder = disk_with(&files);
        let mut store = Store::open(folder.path(), None).expect("a store");
        let is_new = store.sealing().expect("a key").key_id != old;
        assert_eq!(keys_in(folder.path()), BTreeSet::from(["seal.key".to_owned()]), "of {:?}", files.keys());
        assert_eq!(is_sealed_with(&Disk::of(folder.path()).after_kill(), &old), !is_new, "{:?}", files.keys());
        ended += usize::from(is_new);
    }
    assert!(ended > 5, "{ended} after the database has changed");
}

/// Goal: the same where the service manager has the key, who does not get the new one before the operator brings it; also at the
/// second rotation, when the present key lies where the next one is put.
#[test]
fn a_kill_anywhere_in_a_rotation_loses_no_key_that_waits_for_the_service_manager() {
    let server = Ringdown::configured("preferred", COMPANY);
    let sealed = Sealed::make(&server);
    let credentials = server.dir().join("credentials");
    fs::create_dir(&credentials).expect("a writable folder");
    fs::rename(server.state_dir().join("seal.key"), credentials.join(CREDENTIAL)).expect("the key");
    let of_credential = fs::read(credentials.join(CREDENTIAL)).expect("the key");
    for place in ["seal.key.next", "seal.key.last"] {
        let (kills, power_cuts) = cut_short(&server, Some(&credentials));
        let mut is_begun = false;
        for mut files in kills.into_iter().chain(power_cuts) {
            is_begun |= files.contains_key(place);
            files.entry("seal.key".to_owned()).or_insert_with(|| of_credential.clone());
            sealed.assert_on(&files);
        }
        assert!(is_begun, "no {place}");
        assert_eq!(keys_in(&server.state_dir()), BTreeSet::from(["seal.key.next".to_owned()]));
    }
}

/// Goal: a running server goes on whatever becomes of the command. Method: it is killed later each time, until it comes to its end.
#[test]
fn a_running_server_outlives_every_rotation_that_is_killed() {
    let mut server = Ringdown::configured("preferred", COMPANY);
    let sealed = Sealed::make(&server);
    server.start();
    let mut alice = Phone::new(&server, ALICE);
    assert_eq!(alice.register(), 200);
    let mut is_ended = false;
    for kills in 1_usize.. {
        let mut disk = Disk::of(&server.state_dir());
        let (mut rotation, mut seen) =
            (Stepped::start(&server, &["keys", "rotate"], None), HashSet::from([disk.after_kill()]));
        while seen.len() <= kills && !is_ended {
            is_ended = rotation.next().is_none();
            disk.look();
            seen.insert(disk.after_kill());
        }
        drop(rotation);
        sealed.assert_in(&mut Store::open(&server.state_dir(), None).expect("a store"));
        assert_eq!(alice.register(), 200);
        if is_ended {
            assert!(kills > 10, "{kills}");
            break;
        }
    }
    // Who is added now is sealed with the last key, which the server has to find.
    server.add_user(&BOB);
    server.process().wait_log("The user directory was reloaded. users=2", SECONDS_5);
    assert_eq!((alice.register(), Phone::new(&server, BOB).register()), (200, 200));
    assert!(!server.process_text().contains("The store fails"), "{}", server.process_text());
}
