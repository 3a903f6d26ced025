//! The Debian package under the real service manager: systemd boots in namespaces of its own, over a copy-on-write view of this
//! machine's files, installs the package and runs the unit with all its directives.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::common::{process::wait_for, server::BINARY};

/// Slow machines boot, stop and restart in less.
const PATIENCE: Duration = Duration::from_secs(60);

/// A booted systemd. Its files are in memory, and gone with it.
struct Machine {
    nspawn: Child,
    /// Of its first process, as seen from here.
    init: String,
}

/// Mounts the view, masks what listens where the server will, and boots. `$1`: a folder that is shown as `/mnt`.
const BOOT: &str = r#"
set -e
cd "$1"
mkdir machine && mount -t tmpfs none machine && mkdir machine/up machine/work machine/view
mount -t overlay overlay -o lowerdir=/,upperdir=machine/up,workdir=machine/work machine/view
rm -f machine/view/etc/machine-id
ln -sf /dev/null machine/view/etc/systemd/system/systemd-networkd-wait-online.service
exec systemd-nspawn --quiet --directory machine/view --bind-ro="$1:/mnt" --private-network --register=no --keep-unit --boot \
    --capability=all --system-call-filter="landlock_create_ruleset landlock_add_rule landlock_restrict_self" \
    --console=pipe systemd.unit=basic.target
"#;

impl Machine {
    /// `None`, and why on standard error: this machine cannot boot another.
    fn boot(folder: &Path) -> Option<Self> {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "--kill-child", "bash", "-c", BOOT, "bash"]).arg(folder);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut machine = Self { nspawn: command.spawn().expect("util-linux"), init: String::new() };
        for _ in 0..300 {
            std::thread::sleep(Duration::from_millis(200));
            machine.init = init_below(machine.nspawn.id()).unwrap_or_default();
            if !machine.init.is_empty() && machine.is_up() {
                return Some(machine);
            }
            if machine.nspawn.try_wait().expect("a child of ours").is_some() {
                break;
            }
        }
        let mut why = String::new();
        let told = machine.nspawn.stderr.take();
        drop(machine);
        let _ = told.expect("it is piped").read_to_string(&mut why);
        eprintln!("NOT TESTED: no systemd can be booted here: {why}");
        None
    }

    fn is_up(&self) -> bool {
        let state = self.output(&["systemctl", "is-active", "basic.target"]);
        String::from_utf8_lossy(&state.stdout).trim() == "active"
    }

    fn output(&self, command: &[&str]) -> Output {
        let mut enter = Command::new("nsenter");
        enter.args(["--target", &self.init, "--all"]).args(command).stdin(Stdio::null());
        enter.output().expect("util-linux")
    }

    /// What a command in there prints; it must succeed.
    fn run(&self, command: &str) -> String {
        let output = self.output(&["sh", "-c", command]);
        let log = || self.output(&["journalctl", "--unit", "ringdown", "--no-pager", "--lines", "40"]);
        assert!(output.status.success(), "{command}: {output:?}\n{}", String::from_utf8_lossy(&log().stdout));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn property(&self, name: &str) -> String {
        self.run(&format!("systemctl show ringdown --property {name} --value")).trim().to_owned()
    }

    fn wait_log(&self, text: &str) {
        wait_for(text, PATIENCE, || {
            self.run("journalctl --unit ringdown --no-pager --output cat").contains(text).then_some(())
        });
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It would outlive those that have started it; with it everything in there ends.
        let init = init_below(self.nspawn.id()).and_then(|init| Pid::from_raw(init.parse().ok()?));
        if let Some(init) = init {
            let _ = kill_process(init, Signal::KILL);
        }
        let _ = self.nspawn.kill();
        let _ = self.nspawn.wait();
    }
}

/// The first process of the machine that a child of this one has booted.
fn init_below(process: u32) -> Option<String> {
    let children = |process: &str| {
        let listed = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
        listed.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let name = |process: &String| fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
    let nspawn = children(&process.to_string()).into_iter().find(|child| name(child).starts_with("systemd-nspawn"))?;
    children(&nspawn).into_iter().find(|child| name(child).trim() == "systemd")
}

/// With the path by which it is known in the machine.
fn package(folder: &Path) -> PathBuf {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/package");
    let built = Command::new(script).arg(BINARY).arg(folder).output().expect("a script of this package");
    assert!(built.status.success(), "{built:?}");
    let path = PathBuf::from(String::from_utf8_lossy(&built.stdout).trim());
    Path::new("/mnt").join(path.file_name().expect("the name of a package"))
}

const CONFIG: &str = "/etc/ringdown/ringdown.toml";
const HEALTH: &str =
    "exec 3<>/dev/tcp/127.0.0.1/8060 && printf 'GET /health HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n' >&3 && cat <&3";

/// Goal: the unit as it is shipped works under a real systemd: a mistake is named once and not tried again, READY, commands of root
/// beside the server's own user, reload, the watchdog and an orderly end.
#[test]
fn the_package_serves_under_a_real_systemd_with_every_directive_of_its_unit() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("NOT TESTED: only root can boot another systemd.");
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let package = package(folder.path());
    let Some(machine) = Machine::boot(folder.path()) else { return };
    machine.run(&format!("DEBIAN_FRONTEND=noninteractive dpkg --install {}", package.display()));
    // Locked memory is for who has booted this machine to grant.
    machine.run(&format!("sed -i 's/sandbox = \"required\"/sandbox = \"best-effort\"/' {CONFIG}"));

    machine.run(&format!("cp {CONFIG} /srv/good.toml && echo '[nonsense]' >> {CONFIG}"));
    assert!(!machine.output(&["systemctl", "start", "ringdown"]).status.success());
    wait_for("the end of all tries", PATIENCE, || (machine.property("ActiveState") == "failed").then_some(()));
    assert_eq!((machine.property("ExecMainStatus"), machine.property("NRestarts")), ("64".to_owned(), "0".to_owned()));
    machine.wait_log("nonsense");

    machine.run(&format!("cp /srv/good.toml {CONFIG} && systemctl start ringdown"));
    assert_eq!(machine.property("ActiveState"), "active");
    assert!(machine.property("StatusText").contains("EMERGENCY CALLS ARE REFUSED"));
    let health = machine.run(&format!("bash -c \"{}\"", HEALTH.replace('"', "\\\"")));
    for part in ["core", "store", "files", "calls", "dumps", "media_descriptors", "media_files", "media_calls"] {
        assert!(health.contains(&format!("\"{part}\":true")), "{part} in {health}");
    }
    let added = machine.run(&format!("ringdown user add alice --extension 1003 --config {CONFIG}"));
    assert!(added.contains("alice"), "{added}");
    machine.wait_log("The user directory was reloaded.");
    // The key is root's, and a copy of the state folder opens nothing.
    assert!(machine.run(&format!("ringdown keys show --config {CONFIG}")).contains("in /etc/ringdown/seal.key\n"));
    machine.run(
        "test ! -e /var/lib/ringdown/seal.key && cp -aL /var/lib/ringdown /srv/stolen && rm -f /srv/stolen/lock && \
         sed -e '/^seal_key/d' -e 's|/var/lib/ringdown|/srv/stolen|' /srv/good.toml > /srv/stolen.toml",
    );
    let stolen = machine.output(&["ringdown", "user", "list", "--config", "/srv/stolen.toml"]);
    assert!(stolen.status.code() == Some(74), "{stolen:?}");
    assert!(String::from_utf8_lossy(&stolen.stderr).contains("no stored password opens"), "{stolen:?}");
    machine.run("systemctl reload ringdown");
    machine.wait_log("The certificates were reloaded.");

    // Sooner than after half a minute; nothing else of the unit is changed.
    let more = "/etc/systemd/system/ringdown.service.d";
    machine.run(&format!(
        "mkdir -p {more} && printf '[Service]\\nWatchdogSec=4s\\n' > {more}/sooner.conf && systemctl daemon-reload && \
         systemctl restart ringdown"
    ));
    let first = machine.property("MainPID");
    machine.run(&format!("kill -STOP {first}"));
    wait_for("a new server", PATIENCE, || {
        let is_new = machine.property("MainPID") != first && machine.property("ActiveState") == "active";
        (is_new && machine.property("NRestarts") == "1").then_some(())
    });
    machine.wait_log("Watchdog timeout");
    machine.run("systemctl stop ringdown");
    assert_eq!(
        (machine.property("ActiveState"), machine.property("Result")),
        ("inactive".to_owned(), "success".to_owned())
    );
    machine.wait_log("Draining");
}
