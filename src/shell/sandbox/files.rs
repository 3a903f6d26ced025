//! File access, by Landlock (Linux 5.13 and later): where this process may read and write, and that media threads may do
//! neither.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, LandlockStatus, RestrictionStatus, Ruleset, RulesetAttr as _,
    RulesetCreated, RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};
use rustix::{
    fs::{Mode, OFlags, open},
    io::Errno,
};

use crate::{config::Config, shell::tls};

use super::{Measure, Missing};

/// The rights that are taken; what an older kernel does not know of them it cannot take.
const RIGHTS: ABI = ABI::V5;
/// Trust anchors, public at every distribution, and the folders in which resolver daemons replace `resolv.conf`. Of links the
/// kernel knows what they lead to.
const FOLDERS: [&str; 10] = [
    "/etc/ssl/certs",
    "/etc/pki/tls/certs",
    "/etc/pki/ca-trust/extracted",
    "/etc/ca-certificates/extracted",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
    "/usr/share/pki",
    "/var/lib/ca-certificates",
    "/run/systemd/resolve",
    "/run/resolvconf",
];
/// As they are when the server starts: what takes the place of such a file is another one to the kernel, and not allowed.
const FILES: [&str; 6] = [
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    // SQLite seeds its generator from it.
    "/dev/urandom",
];
/// Folders, besides those of users, in which much lies that is not this server's.
const SHARED: [&str; 30] = [
    "/",
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/etc/pki",
    "/etc/ssl",
    "/home",
    "/lib",
    "/media",
    "/mnt",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/srv",
    "/sys",
    "/tmp",
    "/usr",
    "/usr/bin",
    "/usr/lib",
    "/usr/local",
    "/usr/local/etc",
    "/usr/local/share",
    "/usr/share",
    "/var",
    "/var/lib",
    "/var/log",
    "/var/tmp",
];
/// Which trust anchors to use (openssl), and where systemd puts credentials.
const VARIABLES: [&str; 3] = ["SSL_CERT_FILE", "SSL_CERT_DIR", "CREDENTIALS_DIRECTORY"];
/// No rule ever allows to write there.
const FOREIGN: &str = "/dev/null";

/// What a process may do with files.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Access {
    /// Files and folders with what is in them.
    pub(super) reads: Vec<PathBuf>,
    /// Folders: everything in them may be read, made, changed and removed.
    pub(super) writes: Vec<PathBuf>,
}

impl Access {
    /// Of a server that has read its configuration and its passwords.
    pub(super) fn of(config: &Config) -> Self {
        let named = tls::files(config).chain(config.stir.files()).chain(&config.server.seal_key);
        let variables = VARIABLES.into_iter().filter_map(std::env::var_os).filter(|value| !value.is_empty());
        let mut reads: Vec<PathBuf> = FOLDERS.into_iter().chain(FILES).map(PathBuf::from).collect();
        reads.extend(named.flat_map(|file| places(file)));
        reads.extend(variables.flat_map(of_variable));
        reads.sort();
        reads.dedup();
        Self { reads, writes: vec![config.server.state_dir.clone()] }
    }
}

/// Whether a file that takes the place of this one can be read, too: not where its folder is shared with what is not the
/// server's.
pub(super) fn is_replaceable(file: &Path) -> bool {
    places(file).iter().all(|place| place != file)
}

/// The folders in which a file and what it links to are replaced. Where such a folder is a shared one, the file alone.
fn places(file: &Path) -> Vec<PathBuf> {
    let place = |path: &Path| {
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        let folder = parent.canonicalize().unwrap_or_else(|_| parent.to_owned());
        if is_shared(&folder) { path.to_owned() } else { folder }
    };
    let target = file.canonicalize().ok().map(|target| place(&target));
    [Some(place(file)), target].into_iter().flatten().collect()
}

fn is_shared(folder: &Path) -> bool {
    let is_home = std::env::home_dir().is_some_and(|home| home == folder);
    is_home || folder.parent() == Some(Path::new("/home")) || SHARED.iter().any(|shared| Path::new(shared) == folder)
}

/// `SSL_CERT_DIR` may list several.
fn of_variable(value: OsString) -> Vec<PathBuf> {
    std::env::split_paths(&value).flat_map(|path| if path.is_dir() { vec![path] } else { places(&path) }).collect()
}

/// Takes every other file from the calling thread and from those that it starts.
pub(super) fn confine(access: &Access) -> Result<(), Missing> {
    let all = AccessFs::from_all(RIGHTS);
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    // Regular files and folders only: nothing else belongs into a state folder, and nothing in it is run.
    let write = read
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir;
    let restricted = handle(Measure::Files, all, Ruleset::default()).and_then(|ruleset| {
        let allowed = ruleset
            .add_rules(path_beneath_rules(&access.reads, read))
            .and_then(|ruleset| ruleset.add_rules(path_beneath_rules(&access.writes, write)))
            .and_then(RulesetCreated::restrict_self);
        allowed.map_err(|error| refused(Measure::Files, &error))
    })?;
    prove(Measure::Files, &restricted)
}

/// Takes every file from the calling thread; besides, TCP and, of other processes, signals and abstract sockets.
pub(super) fn confine_to_none() -> Result<(), Missing> {
    let of_network = Ruleset::default()
        .handle_access(AccessNet::from_all(ABI::V4))
        .and_then(|ruleset| ruleset.scope(Scope::from_all(ABI::V6)))
        .map_err(|error| refused(Measure::MediaFiles, &error))?;
    let ruleset = handle(Measure::MediaFiles, AccessFs::from_all(RIGHTS), of_network)?;
    let restricted = ruleset.restrict_self().map_err(|error| refused(Measure::MediaFiles, &error))?;
    prove(Measure::MediaFiles, &restricted)
}

fn handle(measure: Measure, rights: BitFlags<AccessFs>, ruleset: Ruleset) -> Result<RulesetCreated, Missing> {
    let created = ruleset.handle_access(rights).and_then(Ruleset::create);
    created.map_err(|error| refused(measure, &error))
}

fn refused(measure: Measure, error: &RulesetError) -> Missing {
    Missing {
        measure,
        cause: format!("Landlock refuses: {error}"),
        remedy: "Whatever filters system calls here (a container's seccomp profile) must allow landlock_*",
    }
}

/// By what the kernel says and then by what it does.
fn prove(measure: Measure, status: &RestrictionStatus) -> Result<(), Missing> {
    let cause = match (&status.ruleset, &status.landlock) {
        (RulesetStatus::NotEnforced, LandlockStatus::NotEnabled) => "Landlock is switched off in this kernel",
        (RulesetStatus::NotEnforced, _) => "this kernel has no Landlock, or it is filtered out",
        (_, _) if open(FOREIGN, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).err() != Some(Errno::ACCESS) => {
            "Landlock is in force and a foreign file can be opened all the same"
        }
        (_, _) => return Ok(()),
    };
    Err(Missing {
        measure,
        cause: cause.to_owned(),
        remedy: "Needed: Linux 5.13 or later, with landlock in its list of security modules (lsm= at boot), and a \
                 container that allows landlock_*",
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// What `act` returns on a thread of its own, confined to `folder`.
    fn confined<T: Send>(access: &Access, act: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                confine(access).expect("a kernel with Landlock");
                act()
            });
            thread.join().unwrap()
        })
    }

    #[test]
    fn a_confined_thread_reads_and_writes_where_it_may_and_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["state", "conf", "other"] {
            fs::create_dir(path(name)).unwrap();
            crate::shell::files::write(&path(name).join("old"), name.as_bytes()).unwrap();
        }
        let access = Access { reads: vec![path("conf")], writes: vec![path("state")] };
        confined(&access, || {
            assert_eq!(fs::read_to_string(path("conf/old")).unwrap(), "conf");
            crate::shell::files::write(&path("state/new"), b"x").unwrap();
            fs::remove_file(path("state/old")).unwrap();
            let denied = |result: std::io::Result<()>| {
                assert_eq!(result.unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
            };
            denied(fs::read(path("other/old")).map(drop));
            denied(fs::read_dir("/").map(drop));
            denied(crate::shell::files::write(&path("conf/new"), b""));
            denied(fs::remove_file(path("conf/old")));
            denied(fs::rename(path("state/new"), path("other/new")));
            denied(std::os::unix::fs::symlink("/", path("state/link")));
            denied(std::process::Command::new("/bin/true").status().map(drop));
        });
        assert!(path("other/old").exists() && !path("state/old").exists());
    }

    #[test]
    fn a_thread_without_files_reads_not_even_what_everybody_may() {
        let denied = std::thread::spawn(|| {
            confine_to_none().expect("a kernel with Landlock");
            let error = fs::read("/etc/passwd").unwrap_err();
            let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap_err();
            (error.kind(), tcp.kind())
        });
        let wanted = std::io::ErrorKind::PermissionDenied;
        assert_eq!(denied.join().unwrap(), (wanted, wanted));
        assert!(fs::read("/etc/passwd").is_ok(), "other threads are as free as ever");
    }

    /// Goal: the operator of a machine without Landlock is told so. Method: a filter answers as such a kernel does.
    #[test]
    fn a_kernel_without_landlock_or_with_it_switched_off_is_named_with_the_remedy() {
        for (errno, cause) in [(Errno::NOSYS, "has no Landlock"), (Errno::OPNOTSUPP, "is switched off")] {
            let missing = std::thread::spawn(move || {
                super::super::calls::refuse(libc::SYS_landlock_create_ruleset, errno);
                [confine(&Access { reads: Vec::new(), writes: Vec::new() }), confine_to_none()]
            });
            for (missing, measure) in missing.join().unwrap().into_iter().zip([Measure::Files, Measure::MediaFiles]) {
                let missing = missing.unwrap_err();
                assert_eq!(missing.measure, measure);
                assert!(missing.cause.contains(cause) && missing.remedy.contains("lsm="), "{missing}");
            }
        }
    }

    #[test]
    fn renewed_files_are_allowed_with_the_folders_of_their_names_and_of_what_they_link_to() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for name in ["live", "archive"] {
            fs::create_dir(root.join(name)).unwrap();
        }
        crate::shell::files::write(&root.join("archive/chain1.pem"), b"").unwrap();
        std::os::unix::fs::symlink("../archive/chain1.pem", root.join("live/chain.pem")).unwrap();
        assert_eq!(places(&root.join("live/chain.pem")), [root.join("live"), root.join("archive")]);

        let text = format!(
            "[server]\nstate_dir = \"{0}/state\"\n[tls]\ncertificate = \"{0}/live/chain.pem\"\nkey = \"{0}/key.pem\"\n\
             [company]\nname = \"x\"\nregion = \"US\"\n",
            root.display()
        );
        let access = Access::of(&crate::config::parse(&text).unwrap().0);
        assert_eq!(access.writes, [root.join("state")]);
        for wanted in [Path::new("/etc/resolv.conf"), &root, &root.join("live"), &root.join("archive")] {
            assert!(access.reads.iter().any(|path| path == wanted), "{} in {access:?}", wanted.display());
        }
        let shared: Vec<_> = access.reads.iter().filter(|path| is_shared(path)).collect();
        assert!(shared.is_empty(), "{shared:?}");
    }

    #[test]
    fn of_a_folder_with_much_else_in_it_a_file_alone_is_allowed_and_what_it_links_to() {
        for (file, is_wanted) in [
            ("/nowhere.pem", false),
            ("/etc/ringdown.pem", false),
            ("/etc/ssl/ringdown.pem", false),
            ("/home/somebody/server.pem", false),
            ("/srv/server.pem", false),
            ("/etc/ringdown/server.pem", true),
            ("/etc/ssl/private/server.pem", true),
            ("/certs/server.pem", true),
            ("/home/somebody/ringdown/server.pem", true),
        ] {
            assert_eq!(is_replaceable(Path::new(file)), is_wanted, "{file}");
        }
        assert_eq!(places(Path::new("/etc/ringdown.pem")), [Path::new("/etc/ringdown.pem")]);
    }

    /// Goal: what ARCHITECTURE.md says of a file that is replaced. Method: a thread that is confined first and reads afterwards.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "a file is written in place, which shell::files never does")]
    fn a_file_that_was_replaced_is_readable_by_a_rule_for_its_folder_and_not_by_one_for_itself() {
        use std::sync::mpsc::channel;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("resolv.conf");
        for (rule, wanted) in [(&file, None), (&folder.path().to_owned(), Some(b"new".to_vec()))] {
            fs::write(&file, b"old").unwrap();
            let access = Access { reads: vec![rule.clone()], writes: Vec::new() };
            let ((ask, asked), (answer, answered)) = (channel(), channel());
            std::thread::scope(|scope| {
                let (file, access) = (&file, &access);
                scope.spawn(move || {
                    confine(access).expect("a kernel with Landlock");
                    while let Ok(()) = asked.recv() {
                        answer.send(fs::read(file).ok()).unwrap();
                    }
                });
                let read = || {
                    ask.send(()).unwrap();
                    answered.recv().unwrap()
                };
                assert_eq!(read(), Some(b"old".to_vec()));
                fs::write(file, b"written in place").unwrap();
                assert_eq!(read(), Some(b"written in place".to_vec()));
                // By a new file and a rename.
                crate::shell::files::write(file, b"new").unwrap();
                assert_eq!(read(), wanted, "by a rule for {}", rule.display());
                drop(ask);
            });
        }
    }
}
