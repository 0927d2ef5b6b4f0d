//! A network namespace for one test, on a thread of its own: whatever the test does to devices
//! and routes, the machine does not see it, and it is gone when the thread has ended.

#![expect(dead_code, reason = "each file of tests uses some of it")]

use std::fs::File;
use std::future::Future;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, setns, unshare};
use tokio::sync::watch;
use vnet_agent::model::host::Host;
use vnet_agent::world::netlink::Watcher;

/// Long enough for a machine that does ten other things. Only a test that fails waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a test in a new network namespace (and a mount namespace, so that mounts go with it), on
/// a current-thread runtime as the agent's. Without root it says so and runs nothing.
pub fn alone<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("left out: network namespaces need root");
        return;
    }
    let body = move || {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("new namespaces");
        // What is mounted in here is not to appear outside.
        run("mount --make-rprivate /");
        run("ip link set lo up");
        // Addresses are good at once, and nobody asks for routers.
        sysctl("ipv6/conf/default/accept_dad", "0");
        sysctl("ipv6/conf/default/router_solicitations", "0");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(async {
            tokio::time::timeout(PATIENCE, test())
                .await
                .expect("the test waits for ever");
        });
    };
    let result = thread::Builder::new()
        .name("alone".to_owned())
        .spawn(body)
        .map(|t| t.join());
    if let Err(panic) = result.expect("a thread") {
        std::panic::resume_unwind(panic);
    }
}

/// What somebody finds who looks only now.
pub async fn looked_at_now() -> Host {
    let (_watcher, host) = Watcher::start(vec![]).await.expect("a second watcher");
    let host = host.borrow();
    Host::clone(&host)
}

/// Waits until what the watcher says is what somebody finds who looks only now, next hops aside.
pub async fn until_true(host: &mut watch::Receiver<Arc<Host>>) -> Arc<Host> {
    loop {
        let now = looked_at_now().await;
        let seen = Arc::clone(&host.borrow_and_update());
        if (&seen.devices, &seen.addresses) == (&now.devices, &now.addresses) {
            return seen;
        }
        // The kernel may be a step further by the time of the next look, with nothing to tell.
        let _ = tokio::time::timeout(Duration::from_millis(20), host.changed()).await;
    }
}

/// Another network namespace, for the other end of a cable.
pub struct Elsewhere(File);

impl Elsewhere {
    pub fn new() -> Self {
        let make = || {
            unshare(CloneFlags::CLONE_NEWNET)?;
            run("ip link set lo up");
            File::open("/proc/thread-self/ns/net")
        };
        Self(
            thread::scope(|scope| scope.spawn(make).join())
                .expect("a thread")
                .expect("a namespace"),
        )
    }

    /// Does something there.
    pub fn inside<T: Send>(&self, action: impl FnOnce() -> T + Send) -> T {
        let body = || {
            setns(&self.0, CloneFlags::CLONE_NEWNET).expect("the other namespace");
            action()
        };
        thread::scope(|scope| scope.spawn(body).join()).expect("a thread")
    }

    /// Runs a command there.
    pub fn run(&self, command: &str) {
        self.inside(|| run(command));
    }

    /// Takes a device of this namespace there.
    pub fn take(&self, device: &str) {
        use std::os::fd::AsRawFd;
        let path = format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd());
        run(&format!("ip link set {device} netns {path}"));
    }
}

/// Runs a command of words without spaces, and wants it to succeed.
pub fn run(command: &str) {
    assert!(attempt(command), "{command}");
}

/// Runs a command of words without spaces; answers whether it succeeded.
pub fn attempt(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().expect("a program"));
    let child = start(
        command
            .args(words)
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    );
    child.wait_with_output().expect(line).status.success()
}

/// Starts a program.
pub fn start(command: &mut Command) -> Child {
    while_nobody_forks(|| command.spawn()).expect("a program")
}

/// Does something at a time when no child of this process is between its `fork` and its `exec`,
/// and shares all descriptors: so that what is closed meanwhile is closed for good.
pub fn while_nobody_forks<T>(action: impl FnOnce() -> T) -> T {
    static FORK: Mutex<()> = Mutex::new(());
    let _guard = FORK.lock().unwrap_or_else(PoisonError::into_inner);
    action()
}

/// Runs many commands of `ip` at once; answers whether all of them succeeded.
pub fn batch(lines: &[String]) -> bool {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), lines.join("\n")).expect("a file");
    attempt(&format!("ip -force -batch {}", file.path().display()))
}

/// Sets something under /proc/sys/net of the thread's namespace.
pub fn sysctl(path: &str, value: &str) {
    std::fs::write(format!("/proc/sys/net/{path}"), value).expect(path);
}

/// Waits for a snapshot of which this is true.
pub async fn until(
    host: &mut watch::Receiver<Arc<Host>>,
    is_so: impl Fn(&Host) -> bool,
) -> Arc<Host> {
    let found = host.wait_for(|host| is_so(host));
    let found = tokio::time::timeout(PATIENCE / 2, found)
        .await
        .map(|found| {
            let found = found.expect("the watcher has ended");
            Arc::clone(&found)
        });
    found.unwrap_or_else(|_| panic!("it never came about; last seen: {:#?}", host.borrow()))
}
