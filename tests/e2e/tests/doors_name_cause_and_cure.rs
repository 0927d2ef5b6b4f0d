//! The promise: the agent's tap, its lock and its place for pins are there when it needs them,
//! stay when it ends, and where they cannot be had the message says who or what is in the way.

mod namespace;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use namespace::{alone, attempt, run, start, while_nobody_forks};
use vnet_agent::model::host::DeviceKind;
use vnet_agent::world::bpffs;
use vnet_agent::world::lock::{Holder, Lock, LockError};
use vnet_agent::world::netlink::{Requests, Watcher};
use vnet_agent::world::tap::{FRAME_BYTES_MAX, Tap, TapError};

/// A frame of which no station understands anything (IEEE 802 local experimental type).
fn frame(length: usize) -> Vec<u8> {
    let mut frame = vec![
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x88, 0xb5,
    ];
    frame.extend((frame.len()..length).map(|at| at.to_le_bytes()[0]));
    frame
}

/// The next frame of that type: the kernel may have something to say first.
async fn hear(tap: &Tap) -> Vec<u8> {
    let mut buffer = vec![0; FRAME_BYTES_MAX];
    loop {
        let (length, _) = tap.read(&mut buffer).await.expect("a frame");
        if buffer[12..14] == [0x88, 0xb5] {
            return buffer[..length].to_vec();
        }
    }
}

#[test]
fn frames_go_through_taps_whole() {
    alone(|| async {
        let requests = Requests::open().unwrap();
        let one = Tap::open("one", &requests).await.unwrap();
        let two = Tap::open("two", &requests).await.unwrap();
        run("ip link add bridge mtu 65521 type bridge");
        run("ip link set bridge addrgenmode none up");
        run("ip link set one master bridge");
        run("ip link set two master bridge");
        for length in [14, 60, 1514, 9014, 65535] {
            one.write(&frame(length)).await.unwrap();
            assert_eq!(hear(&two).await, frame(length), "{length} bytes");
            two.write(&frame(length)).await.unwrap();
            assert_eq!(hear(&one).await, frame(length), "{length} bytes");
        }
        let error = one.write(&[0; 13]).await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(nix::libc::EINVAL));
        run("ip link del one");
        assert_eq!(
            one.write(&frame(60)).await.unwrap_err().raw_os_error(),
            Some(nix::libc::EBADFD)
        );
    });
}

#[test]
fn a_tap_outlives_its_owner_and_is_taken_over() {
    alone(|| async {
        let (watcher, _) = Watcher::start(vec![]).await.unwrap();
        let requests = watcher.requests();
        let tap = Tap::open("vnet-slow", requests).await.unwrap();
        let index = tap.index();
        while_nobody_forks(|| drop(tap));
        let device = requests.device(index).await.unwrap().unwrap();
        assert_eq!(
            (device.name.as_str(), device.kind),
            ("vnet-slow", DeviceKind::Tap)
        );
        assert_eq!((device.up, device.running), (true, false));

        run("ip link set vnet-slow mtu 1500 down");
        let tap = Tap::open("vnet-slow", requests).await.unwrap();
        assert_eq!((tap.index(), tap.name()), (index, "vnet-slow"));
        let device = requests.device(index).await.unwrap().unwrap();
        assert_eq!((device.up, device.mtu), (true, 65521));

        tap.remove(requests).await.unwrap();
        assert!(requests.device(index).await.unwrap().is_none());
        assert!(!Tap::remove_named("vnet-slow", requests).await.unwrap());
        let tap = Tap::open("vnet-slow", requests).await.unwrap();
        while_nobody_forks(|| drop(tap));
        assert!(Tap::remove_named("vnet-slow", requests).await.unwrap());
        assert!(requests.device_named("vnet-slow").await.unwrap().is_none());
    });
}

#[test]
fn the_kernel_has_nothing_to_say_on_the_agents_tap() {
    alone(|| async {
        let requests = Requests::open().unwrap();
        let tap = Tap::open("vnet-slow", &requests).await.unwrap();
        let (_watcher, host) = Watcher::start(vec![]).await.unwrap();
        assert!(host.borrow().addresses_of(tap.index()).is_empty());
        let setting = std::fs::read_to_string("/proc/sys/net/ipv6/conf/vnet-slow/disable_ipv6");
        assert_eq!(setting.unwrap().trim(), "1");
        // Something known, sent by the host itself, is the first and only frame to come.
        run("ip addr add 10.0.0.1/24 dev vnet-slow");
        run("ip neigh add 10.0.0.2 lladdr 02:00:00:00:00:02 dev vnet-slow");
        attempt("ping -c 1 -W 0.1 10.0.0.2");
        let mut buffer = vec![0; FRAME_BYTES_MAX];
        loop {
            let (length, _) = tap.read(&mut buffer).await.unwrap();
            assert_ne!(
                buffer[12..14],
                [0x86, 0xdd],
                "IPv6: {:x?}",
                &buffer[..length]
            );
            // IGMP announces a new address; the ping follows.
            if buffer[12..14] == [8, 0] && buffer[23] == 1 {
                break;
            }
        }
    });
}

#[test]
fn a_tap_that_cannot_be_had_says_why() {
    alone(|| async {
        let requests = Requests::open().unwrap();
        let _tap = Tap::open("mine", &requests).await.unwrap();
        let error = Tap::open("mine", &requests).await.unwrap_err();
        let TapError::Busy {
            holder: Some(holder),
            ..
        } = &error
        else {
            panic!("{error}")
        };
        assert_eq!(holder.pid, std::process::id());
        assert!(error.to_string().contains(&holder.command), "{error}");
        let error = Tap::remove_named("mine", &requests).await.unwrap_err();
        assert!(matches!(error, TapError::Busy { .. }), "{error}");

        run("ip link add cable type veth peer name other");
        run("ip tuntap add packets mode tun");
        for (name, kind) in [("cable", "veth"), ("packets", "tun")] {
            let error = Tap::open(name, &requests).await.unwrap_err();
            assert!(matches!(error, TapError::OtherDevice { .. }), "{error}");
            assert!(error.to_string().contains(kind), "{error}");
            Tap::remove_named(name, &requests).await.unwrap_err();
        }
        assert!(
            requests.device_named("packets").await.unwrap().is_some(),
            "it is not ours"
        );
    });
}

/// Takes the capabilities of this thread away, for good.
fn without_capabilities() {
    // Version 3 of the interface (linux/capability.h), this thread, and three empty sets of 64.
    let header = [0x2008_0522_u32, 0];
    let sets = [0_u32; 6];
    // SAFETY: both arrays are as long as that version of capset(2) has them, and only read.
    let result =
        unsafe { nix::libc::syscall(nix::libc::SYS_capset, header.as_ptr(), sets.as_ptr()) };
    assert_eq!(result, 0);
}

#[test]
fn without_the_capability_the_message_names_it() {
    alone(|| async {
        run("ip link add one type veth peer name two");
        without_capabilities();
        let (watcher, host) = Watcher::start(vec![]).await.unwrap();
        let index = host.borrow().device_named("one").unwrap().index;
        let requests = watcher.requests();
        let error = requests.set_mtu(index, 1400).await.unwrap_err();
        assert_eq!(error.errno(), Some(nix::libc::EPERM));
        assert!(error.to_string().contains("CAP_NET_ADMIN"), "{error}");
        let error = Tap::open("slow", requests).await.unwrap_err();
        assert!(matches!(error, TapError::NotPermitted { .. }), "{error}");
        assert!(error.to_string().contains("CAP_NET_ADMIN"), "{error}");
    });
}

/// Holds a lock file until it is dropped, as another agent would.
struct OtherAgent(Child);

impl OtherAgent {
    fn holding(path: &Path) -> Self {
        let script = "echo $$ > $0; exec flock --no-fork $0 sh -c 'echo; exec cat'";
        let mut command = Command::new("sh");
        command
            .args(["-c", script])
            .arg(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = start(&mut command);
        // It says so once it holds it.
        let mut line = String::new();
        let output = child.stdout.as_mut().expect("its output");
        std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line)
            .expect("a line");
        Self(child)
    }
}

impl Drop for OtherAgent {
    fn drop(&mut self) {
        self.0.kill().expect("to end the other agent");
        self.0.wait().expect("the other agent");
    }
}

#[test]
fn a_second_agent_names_the_holder() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("agent.lock");
    let other = OtherAgent::holding(&path);
    let error = Lock::take(&path).unwrap_err();
    let LockError::Held {
        holder: Holder::Process(holder),
        ..
    } = &error
    else {
        panic!("{error}")
    };
    assert_eq!(holder.pid, other.0.id());
    let message = error.to_string();
    assert!(
        message.contains(&format!("process {} ({})", other.0.id(), holder.command)),
        "{message}"
    );

    // However the holder ends, the lock is free.
    drop(other);
    Lock::take(&path).unwrap();
}

#[test]
fn a_bpf_file_system_is_mounted_where_it_should_be() {
    alone(|| async {
        // The one of the machine, if there is one, is hidden by an empty /sys of our own.
        run("mount -t sysfs sysfs /sys");
        let directory = Path::new("/sys/fs/bpf/vnet/deep");
        for _ in 0..2 {
            bpffs::ensure(directory).unwrap();
            let mode = directory.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700);
        }
        std::fs::set_permissions(directory, PermissionsExt::from_mode(0o755)).unwrap();
        bpffs::ensure(directory).unwrap();
        assert_eq!(
            directory.metadata().unwrap().permissions().mode() & 0o777,
            0o700
        );

        // And elsewhere, where somebody else has mounted one.
        let place = tempfile::tempdir().unwrap();
        let pins = place.path().join("pins");
        assert!(bpffs::ensure(&pins).is_err());
        run(&format!("mount -t bpf bpf {}", place.path().display()));
        bpffs::ensure(&pins).unwrap();
        run(&format!("umount {}", place.path().display()));
    });
}
