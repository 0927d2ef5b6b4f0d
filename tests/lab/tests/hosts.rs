//! Do hosts reach each other, and is nothing left of them afterwards?

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use lab::{Lab, Namespace, Process, UnderlaySettings, eventually, in_lab};

/// Set in the copy of this test program that is to be killed.
const VICTIM: &str = "LAB_TEST_VICTIM";

#[test]
fn two_hosts_ping_over_ipv4_and_ipv6() {
    in_lab("ping", |lab| {
        let (one, two, _underlay) = lab.two_hosts(UnderlaySettings::default())?;
        let uplink = two.uplink()?;
        let ipv4 = uplink.ipv4.context("no IPv4 address")?.to_string();
        let ipv6 = uplink.ipv6.context("no IPv6 address")?.to_string();
        one.run(["ping", "-c", "2", "-i", "0.05", "-W", "5", &ipv4])?;
        one.run(["ping", "-c", "2", "-i", "0.05", "-W", "5", &ipv6])?;
        Ok(())
    });
}

#[test]
fn an_underlay_carries_packets_up_to_its_mtu() {
    in_lab("mtu", |lab| {
        let settings = UnderlaySettings {
            mtu: 2000,
            ipv6: false,
            ..Default::default()
        };
        let (one, _two, _underlay) = lab.two_hosts(settings)?;
        // 20 bytes of IPv4 header and 8 of ICMP go with every payload.
        let ping = |payload: &str| {
            one.attempt([
                "ping", "-c", "1", "-W", "5", "-M", "do", "-s", payload, "10.0.0.2",
            ])
        };
        assert!(ping("1972")?.success());
        assert!(!ping("1973")?.success());
        Ok(())
    });
}

#[test]
fn three_hosts_share_one_underlay() {
    in_lab("three", |lab| {
        let underlay = lab.underlay(UnderlaySettings::default())?;
        let hosts = ["one", "two", "three"].map(|name| lab.host(name));
        for host in &hosts {
            underlay.connect(
                host.as_ref()
                    .map_err(|error| anyhow::anyhow!("{error:?}"))?,
                "eth0",
            )?;
        }
        let [one, ..] = hosts;
        let one = one?;
        for address in ["10.0.0.2", "10.0.0.3"] {
            one.run(["ping", "-c", "1", "-W", "5", address])?;
        }
        Ok(())
    });
}

#[test]
fn a_host_without_cable_is_not_reached() {
    in_lab("cable", |lab| {
        let (one, two, underlay) = lab.two_hosts(UnderlaySettings::default())?;
        let ping = || one.attempt(["ping", "-c", "1", "-W", "1", "10.0.0.2"]);
        assert!(ping()?.success());
        underlay.set_connected(&two.uplink()?, false)?;
        assert!(!ping()?.success());
        underlay.set_connected(&two.uplink()?, true)?;
        eventually("the host is reached again", || {
            ping().ok()?.success().then_some(())
        })
    });
}

#[test]
fn each_host_has_its_own_devices_and_pins() {
    in_lab("private", |lab| {
        let one = lab.host("one")?;
        let two = lab.host("two")?;
        one.run(["ip", "link", "add", "only-here", "type", "bridge"])?;
        one.run(["mkdir", "/sys/fs/bpf/only-here"])?;
        assert!(
            one.run(["ls", "/sys/class/net"])?
                .stdout
                .contains("only-here")
        );
        for place in ["/sys/class/net", "/sys/fs/bpf"] {
            assert!(!two.run(["ls", place])?.stdout.contains("only-here"));
            assert!(!fs::exists(Path::new(place).join("only-here"))?);
        }
        Ok(())
    });
}

#[test]
fn a_capture_shows_what_passed() {
    in_lab("capture", |lab| {
        let (one, two, underlay) = lab.two_hosts(UnderlaySettings::default())?;
        let on_the_wire = underlay.capture_at(&two.uplink()?, "icmp")?;
        let in_the_host = two.capture("eth0", "icmp")?;
        one.run(["ping", "-c", "1", "-W", "5", "10.0.0.2"])?;
        for capture in [on_the_wire, in_the_host] {
            let recording = capture.stop()?;
            let text = recording.decode(&["-nn"])?;
            assert_eq!(recording.count()?, 2, "{text}");
            let frames = recording.frames()?;
            let types: Vec<_> = frames.iter().map(|frame| frame.get(12..14)).collect();
            assert_eq!(types, [Some([8, 0].as_slice()); 2], "{text}");
            assert_eq!(frames.first().map(Vec::len), Some(98), "{text}");
            assert!(
                text.contains("10.0.0.1 > 10.0.0.2: ICMP echo request"),
                "{text}"
            );
        }
        Ok(())
    });
}

#[test]
fn packets_arrive_with_the_checksums_of_a_wire() {
    in_lab("sums", |lab| {
        let (one, two, _underlay) = lab.two_hosts(UnderlaySettings::default())?;
        let capture = two.capture("eth0", "udp port 9999")?;
        let socket = one.inside(|| std::net::UdpSocket::bind("0.0.0.0:0"))??;
        socket.send_to(&[0; 100], "10.0.0.2:9999")?;
        let text = capture.stop()?.decode(&["-nn", "-vv"])?;
        assert!(text.contains("[udp sum ok]"), "{text}");
        Ok(())
    });
}

#[test]
fn an_error_in_a_host_names_the_host_and_the_reason() {
    in_lab("error", |lab| {
        let one = lab.host("one")?;
        let error = one
            .run(["ip", "link", "set", "nothing", "up"])
            .err()
            .context("it worked")?;
        let message = format!("{error:?}");
        assert!(message.contains("`one`"), "{message}");
        assert!(message.contains("Cannot find device"), "{message}");
        Ok(())
    });
}

#[test]
fn nothing_is_left_after_the_lab_is_dropped() {
    let (directory, sleeper) = {
        let lab = Lab::new("drop").unwrap();
        let (directory, sleeper) = busy_host(&lab).unwrap();
        assert!(directory.exists() && is_running(sleeper.id()));
        (directory, sleeper.id())
    };
    assert!(!directory.exists());
    assert!(!is_running(sleeper));
    assert_eq!(mounts_below(&directory), "");
}

#[test]
fn nothing_is_left_after_a_panic() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let test = std::thread::spawn(move || {
        in_lab("panic", |lab| {
            let (directory, sleeper) = busy_host(lab)?;
            sender.send((directory, sleeper.id()))?;
            anyhow::bail!("this failure is part of the test");
        });
    });
    assert!(test.join().is_err());
    let (directory, sleeper) = receiver.recv().unwrap();
    assert!(!directory.exists());
    assert!(!is_running(sleeper));
}

/// Not a test of its own: what [`nothing_is_left_after_the_lab_is_killed`] kills.
#[test]
fn victim() {
    let Some(report) = std::env::var_os(VICTIM) else {
        return;
    };
    let lab = Lab::new("victim").unwrap();
    let (directory, sleeper) = busy_host(&lab).unwrap();
    let text = format!("{} {}", directory.display(), sleeper.id());
    let unfinished = PathBuf::from(&report).with_extension("unfinished");
    fs::write(&unfinished, text).unwrap();
    fs::rename(unfinished, report).unwrap();
    std::thread::sleep(Duration::from_secs(1000));
}

#[test]
fn nothing_is_left_after_the_lab_is_killed() {
    let place = tempfile::tempdir().unwrap();
    let report = place.path().join("report");
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "victim"])
        .env(VICTIM, &report)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let text = eventually("the victim is busy", || fs::read_to_string(&report).ok());
    victim.kill().unwrap();
    victim.wait().unwrap();
    let text = text.unwrap();
    let (directory, sleeper) = text.split_once(' ').unwrap();
    let sleeper: u32 = sleeper.parse().unwrap();
    eventually("what it started is gone", || {
        (!is_running(sleeper)).then_some(())
    })
    .unwrap();
    let directory = PathBuf::from(directory);
    eventually("its directory is gone", || {
        (!directory.exists()).then_some(())
    })
    .unwrap();
}

/// A host with a program, a file and a pin, and the directory they are in.
fn busy_host(lab: &Lab) -> Result<(PathBuf, Process)> {
    let (one, _two, _underlay) = lab.two_hosts(UnderlaySettings::default())?;
    let sleeper = start_sleeper(&one)?;
    one.run(["mkdir", "/sys/fs/bpf/pin"])?;
    Ok((lab.directory().to_owned(), sleeper))
}

fn start_sleeper(place: &Namespace) -> Result<Process> {
    place.start("sleeper.log", ["sleep", "1000"])
}

fn is_running(process: u32) -> bool {
    // A zombie has no memory any more; who inherits it may take time to wait for it.
    fs::read_to_string(format!("/proc/{process}/statm")).is_ok_and(|statm| !statm.starts_with("0 "))
}

fn mounts_below(directory: &Path) -> String {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let place = directory.display().to_string();
    mounts
        .lines()
        .filter(|line| line.contains(&place))
        .collect()
}
