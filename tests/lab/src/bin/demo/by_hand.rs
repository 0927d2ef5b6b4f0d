//! First act: two hosts with a settings file each, and a virtual machine on either. Do the machines share
//! an Ethernet, and can one see how?

mod settings;

use anyhow::{Context, Result, ensure};
use lab::{
    Agent, GuestImage, Host, Lab, Mac, Recording, Station, Underlay, UnderlaySettings, VmGuest,
    try_eventually,
};

use crate::narrator::{Narrator, megabits_per_s};

const GUEST_ONE: Mac = Mac([0x52, 0x54, 0, 0, 0, 1]);
const GUEST_TWO: Mac = Mac([0x52, 0x54, 0, 0, 0, 2]);
const ADDRESS_ONE: &str = "10.9.0.1";
const ADDRESS_TWO: &str = "10.9.0.2";
/// The underlay's 1500 bytes less IPv4 20, UDP 8, Geneve 8 with option 28, Ethernet 14.
const GUEST_MTU: u32 = 1422;
const TRANSFER_BYTES: u64 = 32 << 20;
/// Without control packets (Geneve's O bit): the probes by which links are watched, which tcpdump
/// takes for something else.
const GUESTS_PACKETS: &str = "udp port 6081 and udp[9] & 0x80 = 0";
const PICTURE: &str = "
    guest-one 10.9.0.1                          guest-two 10.9.0.2
        | tap0                                      | tap0
    host one  10.0.0.1 eth0 --- underlay --- eth0 10.0.0.2  host two";

/// The act; returns its figures in words.
pub(crate) fn play(narrator: &mut Narrator, hold: bool) -> Result<String> {
    narrator.act("First act: two hosts, a settings file each", PICTURE);
    narrator.in_lab("demo", |narrator, lab| {
        let stage = Stage::build(narrator, lab)?;
        let figures = stage.play(narrator);
        if hold {
            narrator.wait_for_enter(&[&stage.one, &stage.two]);
        }
        if figures.is_err() {
            narrator.logs(&[
                (&stage.one, &stage.agent_one),
                (&stage.two, &stage.agent_two),
            ]);
        }
        narrator.step("Cleaning up: machines, agents, hosts and files");
        figures
    })
}

/// Everything that is up while the story is told; it ends in this order.
struct Stage {
    guest_one: VmGuest,
    guest_two: VmGuest,
    agent_one: Agent,
    agent_two: Agent,
    one: Host,
    two: Host,
    underlay: Underlay,
}

impl Stage {
    fn build(narrator: &mut Narrator, lab: &Lab) -> Result<Self> {
        narrator.step("Two hosts: network namespaces, joined by a bridge in a third");
        let (one, two, underlay) = lab.two_hosts(UnderlaySettings::default())?;
        for host in [&one, &two] {
            let words = ["ip", "-brief", "address", "show", "dev", "eth0"];
            narrator.output(host.name(), &host.run(words)?);
        }
        narrator.output("one", &one.run(["ping", "-c", "1", "10.0.0.2"])?);
        narrator.seen("the hosts reach each other; nothing of ours is at work yet");

        narrator.step("One vnet-agent on each host");
        let text_one =
            settings::of_agent(&GUEST_ONE.to_string(), "10.0.0.2", &GUEST_TWO.to_string());
        let text_two =
            settings::of_agent(&GUEST_TWO.to_string(), "10.0.0.1", &GUEST_ONE.to_string());
        narrator.shown("one", "cat agent.toml", &text_one);
        let agent_one = one.agent(&text_one)?;
        let agent_two = two.agent(&text_two)?;
        narrator.shown(
            "one",
            "vnet-agent run --config agent.toml",
            &agent_one.log()?,
        );
        narrator.shown(
            "two",
            "vnet-agent run --config agent.toml",
            &agent_two.log()?,
        );
        narrator.seen("both are ready; their ports are to come with the virtual machines");

        narrator.step("Two virtual machines, booted by QEMU without hardware acceleration");
        let image = GuestImage::prepare()?;
        narrator.say(&format!(
            "Debian's kernel {} and busybox",
            image.kernel_version()
        ));
        let (guest_one, guest_two) = boot_both(&one, &two)?;
        for (guest, name) in [(&guest_one, "guest-one"), (&guest_two, "guest-two")] {
            narrator.output(name, &guest.run("uname -sr; ip address show dev eth0")?);
        }
        Ok(Self {
            guest_one,
            guest_two,
            agent_one,
            agent_two,
            one,
            two,
            underlay,
        })
    }

    fn play(&self, narrator: &mut Narrator) -> Result<String> {
        for host in [&self.one, &self.two] {
            wait_until_forwarding(host)?;
        }
        narrator.seen("the guests are up, and each agent has taken its guest's tap in as a port");
        let capture = self
            .underlay
            .capture_at(&self.one.uplink()?, GUESTS_PACKETS)?;
        let ping = self.ping(narrator)?;
        let recording = capture.stop()?;
        let rate = self.transfer(narrator)?;
        self.status(narrator)?;
        self.flows(narrator)?;
        self.trace(narrator)?;
        show_outer_packets(narrator, &recording)?;
        Ok(format!("{ping}, {rate}, in Geneve between the hosts"))
    }

    fn ping(&self, narrator: &mut Narrator) -> Result<String> {
        narrator.step("A ping from one virtual machine to the other");
        let output = self
            .guest_one
            .attempt(&format!("ping -c 5 -W 5 {ADDRESS_TWO}"))?;
        narrator.output("guest-one", &output);
        ensure!(
            output.success(),
            "the virtual machines do not reach each other: no ping came back"
        );
        let neighbours = self.guest_one.run("ip neigh show dev eth0")?;
        narrator.output("guest-one", &neighbours);
        ensure!(
            neighbours.stdout.contains(&GUEST_TWO.to_string()),
            "the ping was answered by somebody else than guest two"
        );
        narrator.seen(
            "the guests share an Ethernet: the broadcast that asks for an address and the echoes \
             crossed it",
        );
        let lost = output
            .stdout
            .lines()
            .find(|line| line.contains("packet loss"));
        let lost = lost.and_then(|line| line.split(", ").find(|part| part.contains("loss")));
        Ok(format!(
            "ping with {}",
            lost.context("ping does not say what it lost")?
        ))
    }

    fn transfer(&self, narrator: &mut Narrator) -> Result<String> {
        narrator.step("A file over TCP from one virtual machine to the other");
        let Self {
            guest_one,
            guest_two,
            ..
        } = self;
        let transfer = guest_one.send_file(guest_two, ADDRESS_TWO, TRANSFER_BYTES)?;
        let bytes = transfer.bytes;
        narrator.shown("guest-two", "nc -l -p 5001 >received", "");
        narrator.shown(
            "guest-one",
            &format!("nc {ADDRESS_TWO} 5001 <sent    # {bytes} bytes"),
            "",
        );
        narrator.shown("guest-one", "sha256sum sent", &transfer.sha256);
        narrator.shown("guest-two", "sha256sum received", &transfer.sha256);
        let rate = megabits_per_s(bytes, transfer.duration);
        narrator.seen(format!(
            "all {bytes} bytes arrived unchanged, {rate:.0} Mbit/s"
        ));
        Ok(format!("{} MiB of TCP at {rate:.0} Mbit/s", bytes >> 20))
    }

    fn status(&self, narrator: &mut Narrator) -> Result<()> {
        narrator.step("What the agents say about themselves");
        for host in [&self.one, &self.two] {
            let output = host.attempt_vnetctl(["status"])?;
            let text = format!("{}{}", output.stdout, output.stderr);
            narrator.shown(host.name(), "vnetctl status", &text);
            ensure!(
                output.success(),
                "the agent of host {} says that not all is well",
                host.name()
            );
        }
        narrator.seen("all is well on both hosts (exit status 0; 3 would mean degraded)");
        Ok(())
    }

    fn flows(&self, narrator: &mut Narrator) -> Result<()> {
        narrator.step("Who talked to whom, counted in the kernel");
        let output = self.one.attempt_vnetctl(["flows"])?.successful()?;
        narrator.shown("one", "vnetctl flows", &output.stdout);
        for guest in [GUEST_ONE, GUEST_TWO] {
            ensure!(
                output.stdout.contains(&guest.to_string()),
                "the flow table of host one does not know {guest}"
            );
        }
        narrator.seen("one flow in each direction, with its frames and bytes");
        Ok(())
    }

    fn trace(&self, narrator: &mut Narrator) -> Result<()> {
        narrator.step("Which way one frame goes, and why");
        let (source, destination) = (GUEST_ONE.to_string(), GUEST_TWO.to_string());
        let verb = ["trace", "--source", &source, "--destination", &destination];
        let output = self.one.attempt_vnetctl(verb)?.successful()?;
        narrator.shown(
            "one",
            &format!("vnetctl {}", verb.join(" ")),
            &output.stdout,
        );
        let report = self.one.vnetctl(verb)?;
        ensure!(
            report
                .pointer("/verdict")
                .and_then(|verdict| verdict.as_str())
                == Some("forwarded"),
            "the trace of a frame from guest to guest does not end with forwarding"
        );
        ensure!(
            report.pointer("/agree") == Some(&serde_json::Value::Bool(true)),
            "the program in the kernel and the same steps on the host do not agree"
        );
        narrator.seen("the loaded program was run over the frame, and does what the rules explain");
        Ok(())
    }
}

/// What passed between the hosts during the ping.
fn show_outer_packets(narrator: &mut Narrator, recording: &Recording) -> Result<()> {
    narrator.step("The ping as it passed between the hosts, decoded by tcpdump");
    let options = ["-nn", "-v", "-t", "-c", "6"];
    let text = recording.decode(&options)?;
    let options = options.join(" ");
    narrator.shown(
        "underlay",
        &format!("tcpdump -i port1 -w ping.pcap '{GUESTS_PACKETS}'"),
        "",
    );
    narrator.shown(
        "underlay",
        &format!("tcpdump -r ping.pcap {options}"),
        &text,
    );
    let vni = format!("vni {:#x}", settings::NETWORK_ID);
    for expected in ["Geneve", &vni, ADDRESS_ONE, ADDRESS_TWO] {
        ensure!(
            text.contains(expected),
            "tcpdump does not see `{expected}` between the hosts"
        );
    }
    narrator.seen(format!(
        "every frame of the guests is in a UDP packet between 10.0.0.1 and 10.0.0.2: Geneve, \
         {vni}, with our option"
    ));
    Ok(())
}

fn boot_both(one: &Host, two: &Host) -> Result<(VmGuest, VmGuest)> {
    let boot = |host: &Host, mac, address: &str| {
        let station = Station::new(settings::PORT, mac);
        host.vm_guest(station.address(&format!("{address}/24")).mtu(GUEST_MTU))
    };
    std::thread::scope(|scope| {
        let first = scope.spawn(|| boot(one, GUEST_ONE, ADDRESS_ONE));
        let second = boot(two, GUEST_TWO, ADDRESS_TWO);
        let first = first
            .join()
            .map_err(|_| anyhow::anyhow!("booting panicked"))?;
        Ok((first?, second?))
    })
}

/// Waits until the agent has nothing left to wish for: its port is there, its link resolved.
fn wait_until_forwarding(host: &Host) -> Result<()> {
    let mut last = String::new();
    let what = format!("the port and the link of host {} work", host.name());
    try_eventually(&what, || {
        let status = host.vnetctl(["status"])?;
        let number = |path| status.pointer(path).and_then(|value| value.as_u64());
        let ready = number("/ports") == Some(1)
            && number("/links/up") == Some(1)
            && status.pointer("/healthy") == Some(&serde_json::Value::Bool(true));
        last = status.to_string();
        Ok(ready.then_some(()))
    })
    .with_context(|| format!("its agent says: {last}"))
}
