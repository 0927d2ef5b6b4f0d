//! Do frames that XDP programs redirect cross the lab, and where can they be seen?
//!
//! Two hosts, each with a program on `eth0` that redirects everything to a port and a program on
//! the port that redirects everything to `eth0`: an overlay without headers. The programs are
//! four instructions, written down here, so that the lab's tests need no compiler for them.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result};
use lab::{Host, Mac, Station, TapGuest, UnderlaySettings, in_lab};

const GUEST_ONE: Mac = Mac([0x52, 0x54, 0, 0, 0, 1]);
const GUEST_TWO: Mac = Mac([0x52, 0x54, 0, 0, 0, 2]);
const FRAMES: u32 = 64;
const QUIET: Duration = Duration::from_millis(300);

#[test]
fn redirected_frames_are_seen_on_the_underlay_and_nowhere_else() {
    in_lab("seen", |lab| {
        let (one, two, underlay) = lab.two_hosts(UnderlaySettings::default())?;
        let tap_one = one.tap_guest("tap0", GUEST_ONE)?;
        let tap_two = two.tap_guest("tap0", GUEST_TWO)?;
        let _cables = [join(&one, "tap0", "eth0")?, join(&two, "tap0", "eth0")?];

        let filter = "ether proto 0x88b5";
        let captures = [
            underlay.capture_at(&one.uplink()?, filter)?,
            underlay.capture_at(&two.uplink()?, filter)?,
            underlay.capture(filter)?,
            one.capture("eth0", filter)?,
            two.capture("eth0", filter)?,
        ];
        send_all(&tap_one)?;
        assert_eq!(received(&tap_two)?, FRAMES);
        let counts: Result<Vec<_>> = captures
            .into_iter()
            .map(|capture| capture.stop()?.count())
            .collect();
        let all = usize::try_from(FRAMES)?;
        assert_eq!(counts?, [all, all, all, 0, 0]);
        Ok(())
    });
}

#[test]
fn redirected_frames_reach_a_guest_in_a_namespace() {
    in_lab("veth", |lab| {
        let (one, two, _underlay) = lab.two_hosts(UnderlaySettings::default())?;
        let station = |mac, address| Station::new("veth0", mac).address(address);
        let guest_one = one.namespace_guest(station(GUEST_ONE, "10.9.0.1/24"))?;
        let guest_two = two.namespace_guest(station(GUEST_TWO, "10.9.0.2/24"))?;
        let _cables = [join(&one, "veth0", "eth0")?, join(&two, "veth0", "eth0")?];
        guest_one.run(["ping", "-c", "3", "-i", "0.05", "-W", "5", "10.9.0.2"])?;

        let _server = guest_two.start("iperf3.log", ["iperf3", "-s"])?;
        lab::eventually("iperf3 listens", || {
            let sockets = guest_two.run(["ss", "-ltn"]).ok()?.stdout;
            sockets.contains(":5201").then_some(())
        })?;
        let report = guest_one
            .run(["iperf3", "-J", "-n", "16M", "-c", "10.9.0.2"])?
            .stdout;
        let report: serde_json::Value = serde_json::from_str(&report)?;
        let received = report
            .pointer("/end/sum_received/bytes")
            .and_then(|bytes| bytes.as_u64());
        assert!(received.is_some_and(|bytes| bytes > 0), "{report}");
        Ok(())
    });
}

fn send_all(guest: &TapGuest) -> Result<()> {
    let frame = [
        GUEST_TWO.0.as_slice(),
        &GUEST_ONE.0,
        &[0x88, 0xb5],
        &[0; 46],
    ]
    .concat();
    (0..FRAMES).try_for_each(|_| guest.send(&frame))
}

fn received(guest: &TapGuest) -> Result<u32> {
    let frames = guest.receive_all_until_quiet(QUIET)?;
    Ok(u32::try_from(
        frames
            .iter()
            .filter(|f| f.get(12..14) == Some(&[0x88, 0xb5]))
            .count(),
    )?)
}

/// Redirects everything from each device of a host to the other, while the result lives.
fn join(host: &Host, left: &str, right: &str) -> Result<[OwnedFd; 2]> {
    let index = |device: &str| -> Result<u32> {
        let path = format!("/sys/class/net/{device}/ifindex");
        let text = host.inside(|| fs::read_to_string(&path))?;
        Ok(text
            .with_context(|| format!("there is no {device}"))?
            .trim()
            .parse()?)
    };
    let (left, right) = (index(left)?, index(right)?);
    host.inside(|| -> io::Result<_> { Ok([redirect(left, right)?, redirect(right, left)?]) })?
        .context("cannot attach an XDP program")
}

/// Attaches a program that redirects every frame; returns the BPF link.
fn redirect(from: u32, to: u32) -> io::Result<OwnedFd> {
    const REDIRECT: u64 = 23;
    // r1 = to; r2 = 0; call bpf_redirect; exit (`linux/bpf.h`, `struct bpf_insn`)
    let instructions: [u64; 4] = [
        u64::from(to) << 32 | 0x01b7,
        0x02b7,
        REDIRECT << 32 | 0x85,
        0x95,
    ];
    let address = |pointer: *const u8| pointer as u64;
    let mut load = [0_u64; 16];
    // prog_type = BPF_PROG_TYPE_XDP, insn_cnt, insns, license
    load[0] = 6 | 4 << 32;
    load[1] = address(instructions.as_ptr().cast());
    load[2] = address(c"GPL".as_ptr().cast());
    let program = bpf(5, &load)?;
    // prog_fd, target_ifindex, attach_type = BPF_XDP
    let mut link = [0_u64; 8];
    link[0] = u64::from(program.as_raw_fd().cast_unsigned()) | u64::from(from) << 32;
    link[1] = 37;
    bpf(28, &link)
}

/// The bpf system call, for the commands that return a file descriptor.
fn bpf(command: u32, attributes: &[u64]) -> io::Result<OwnedFd> {
    // SAFETY: the kernel reads `attributes` in its whole length, and what its pointers lead to
    // lives in the caller.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            attributes.as_ptr(),
            size_of_val(attributes),
        )
    };
    match i32::try_from(result) {
        // SAFETY: the kernel has just made this descriptor for us.
        Ok(descriptor) if descriptor >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(descriptor) }),
        _ => Err(io::Error::last_os_error()),
    }
}
