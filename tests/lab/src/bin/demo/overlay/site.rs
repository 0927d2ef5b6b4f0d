//! Who is there? A proxy on a user's LAN, with a machine that deals addresses, and hosts that join by a
//! token, each with a virtual machine; one of them behind a firewall.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use lab::{
    Agent, Host, Lab, Mac, NamespaceGuest, Process, Station, Underlay, UnderlaySettings, VmGuest,
    try_eventually,
};

use crate::narrator::Narrator;

/// The user's LAN is this network of 24 bits.
const LAN: &str = "10.9.0";
/// What any link of the overlay carries.
const GUEST_MTU: u32 = 1400;
/// The port of a virtual machine on its host.
const PORT: &str = "tap0";

/// A host that joined, with its virtual machine.
pub(super) struct Place {
    pub(super) guest: VmGuest,
    pub(super) agent: Agent,
    pub(super) host: Host,
}

/// The proxy, its LAN, and the hosts; ends in this order.
pub(super) struct Site {
    _dhcp: Process,
    pub(super) office: NamespaceGuest,
    pub(super) places: Vec<Place>,
    pub(super) agent: Agent,
    pub(super) proxy: Host,
    pub(super) underlay: Underlay,
}

/// The Ethernet address of the virtual machine on host number n.
pub(super) const fn mac(number: u8) -> Mac {
    Mac([0x52, 0x54, 0, 0, 0, number])
}

/// The address that the LAN deals the same machine.
pub(super) fn address(number: u8) -> String {
    format!("{LAN}.{number}")
}

impl Site {
    pub(super) fn build(narrator: &mut Narrator, lab: &Lab) -> Result<Self> {
        narrator.step("An office LAN with a proxy, and three hosts elsewhere");
        let underlay = lab.underlay(UnderlaySettings::default())?;
        let proxy = lab.host("hub")?;
        underlay.connect(&proxy, "eth0")?;
        let station = Station::new("lan0", mac(100)).address(&format!("{LAN}.100/24"));
        let office = proxy.namespace_guest(station)?;
        let dhcp = serve_addresses(&office)?;
        narrator.seen(
            "a machine in the office deals addresses to who asks (DHCP), and knows nothing of us",
        );
        let agent = start_proxy(narrator, &proxy)?;
        let mut hosts = Vec::new();
        for name in ["one", "two", "three"] {
            let host = lab.host(name)?;
            underlay.connect(&host, "eth0")?;
            hosts.push(host);
        }
        if let Some(three) = hosts.last() {
            shut_in(narrator, &underlay, three)?;
        }
        narrator.step("Each host joins with one command, and its virtual machine boots");
        let mut agents = Vec::new();
        for host in &hosts {
            agents.push(join(narrator, &proxy, host)?);
        }
        let guests = boot(&hosts)?;
        let together = hosts.into_iter().zip(agents).zip(guests);
        let places = together.map(|((host, agent), guest)| Place { guest, agent, host });
        Ok(Self {
            _dhcp: dhcp,
            office,
            places: places.collect(),
            agent,
            proxy,
            underlay,
        })
    }

    /// The agents, for their logs.
    pub(super) fn agents(&self) -> Vec<(&Host, &Agent)> {
        let places = self.places.iter().map(|place| (&place.host, &place.agent));
        [(&self.proxy, &self.agent)]
            .into_iter()
            .chain(places)
            .collect()
    }

    /// Has every virtual machine ask for an address, and says what it got.
    pub(super) fn ask_for_addresses(&self, narrator: &mut Narrator) -> Result<()> {
        narrator.step("The virtual machines ask the office's LAN for their addresses");
        for (number, place) in (1..).zip(&self.places) {
            place.guest.run(
                "printf '#!/bin/sh\\n[ \"$1\" = bound ] && ip address add $ip/$mask dev eth0\\nexit 0\\n' \
                 >/tmp/lease; chmod +x /tmp/lease",
            )?;
            let asked = place
                .guest
                .attempt("udhcpc -i eth0 -n -q -t 20 -T 1 -s /tmp/lease 2>&1")?;
            narrator.shown(&format!("vm{number}"), "udhcpc -i eth0", &asked.stdout);
            let expected = format!("{} obtained", address(number));
            ensure!(
                asked.stdout.contains(&expected),
                "vm{number} got no address by DHCP"
            );
        }
        narrator.seen("three machines on three hosts have addresses of the office's LAN");
        Ok(())
    }

    /// Waits until the proxy has every host, and every host goes by its latest part.
    pub(super) fn until_whole(&self) -> Result<()> {
        let count = self.places.len();
        let mut last = serde_json::Value::Null;
        try_eventually("every host is together with the proxy", || {
            last = self.proxy.vnetctl(["agents"])?;
            let agents = last["agents"].as_array().map_or(&[][..], Vec::as_slice);
            let is_current = |agent: &&serde_json::Value| {
                let revision = &agent["connection"]["revision"];
                revision.is_u64() && *revision == agent["dealt_revision"]
            };
            Ok((agents.iter().filter(is_current).count() == count).then_some(()))
        })
        .with_context(|| format!("the proxy says: {last}"))
    }
}

/// A DHCP server on the LAN. Each virtual machine gets the address that [`address`] says.
fn serve_addresses(office: &NamespaceGuest) -> Result<Process> {
    let directory = office.directory();
    let leases = directory.join("leases");
    fs::write(&leases, "")?;
    let mut text = format!(
        "interface eth0\nstart {LAN}.1\nend {LAN}.99\nlease_file {0}\npidfile {1}\n\
         option subnet 255.255.255.0\n",
        leases.display(),
        directory.join("udhcpd.pid").display()
    );
    for number in 1..=3 {
        text.push_str(&format!(
            "static_lease {} {}\n",
            mac(number),
            address(number)
        ));
    }
    let file = directory.join("udhcpd.conf");
    fs::write(&file, text)?;
    office.start(
        "udhcpd",
        ["busybox", "udhcpd", "-f", &file.display().to_string()],
    )
}

/// An authority, and the proxy that has its certificates from it.
fn start_proxy(narrator: &mut Narrator, proxy: &Host) -> Result<Agent> {
    let path = |name: &str| proxy.directory().join(name).display().to_string();
    let (authority, identity) = (path("ca"), path("identity.pem"));
    let make = ["ca", "init", &authority];
    let issue = [
        "ca", "issue", "hub", "--ca", &authority, "--role", "proxy", "--out", &identity,
    ];
    for words in [&make[..], &issue[..]] {
        let output = proxy.attempt_vnetctl(words)?.successful()?;
        let command = format!("vnetctl {}", words.join(" "));
        narrator.shown_at(proxy, &command, &output.stdout);
    }
    let text = format!(
        "[underlay]\ndevice = \"eth0\"\n\n\
         [control]\nrole = \"proxy\"\nlisten = \"0.0.0.0:6082\"\nidentity = \"{identity}\"\n\
         authority = \"{authority}\"\n\n\
         [[network]]\nname = \"blue\"\nid = 7\n\n\
         [[port]]                # the office's LAN\nname = \"lan0\"\nnetwork = \"blue\"\naddresses = \"any\"\n"
    );
    narrator.shown_at(proxy, "cat agent.toml", &text);
    let agent = proxy.agent(&text)?;
    narrator.shown_at(proxy, "vnet-agent run --config agent.toml", &agent.log()?);
    Ok(agent)
}

/// Puts a host behind a firewall on the way to the others: it may open TCP connections, and nothing else
/// gets in or out.
fn shut_in(narrator: &mut Narrator, underlay: &Underlay, host: &Host) -> Result<()> {
    let port = host.uplink()?.bridge_port;
    let rules = format!(
        "table bridge firewall {{
    chain forward {{
        type filter hook forward priority 0; policy accept;
        oifname \"{port}\" ip protocol tcp tcp flags & (syn | ack) == syn drop
        oifname \"{port}\" ip protocol != tcp counter drop
        iifname \"{port}\" ip protocol != tcp counter drop
        oifname \"{port}\" meta protocol ip6 drop
        iifname \"{port}\" meta protocol ip6 drop
    }}
}}
"
    );
    let file = underlay.directory().join("firewall.nft");
    fs::write(&file, &rules)?;
    narrator.shown(
        "firewall",
        &format!("cat firewall-of-{}.nft", host.name()),
        &rules,
    );
    underlay.run(["nft", "-f", &file.display().to_string()])?;
    narrator.seen(format!(
        "host {} can open TCP connections; UDP passes neither way",
        host.name()
    ));
    Ok(())
}

/// Lets a host join by a token, gives it a port, and starts its agent.
fn join(narrator: &Narrator, proxy: &Host, host: &Host) -> Result<Agent> {
    let name = host.name();
    let invite = ["ca", "invite", name, "--expires", "10m"];
    let invited = proxy.vnetctl(invite)?;
    let token = invited["token"]
        .as_str()
        .context("`vnetctl ca invite` gives no token")?;
    narrator.shown("hub", &format!("vnetctl {}", invite.join(" ")), token);
    let path = |file: &str| host.directory().join(file).display().to_string();
    let (identity, config) = (path("identity.pem"), path("joined.toml"));
    let words = ["join", token, "--identity", &identity, "--config", &config];
    let output = host.attempt_vnetctl(words)?.successful()?;
    narrator.shown_at(host, "vnetctl join TOKEN", &output.stdout);
    let port =
        format!("\n[[port]]\nname = \"{PORT}\"\nnetwork = \"blue\"\naddresses = \"learn\"\n");
    let text = fs::read_to_string(Path::new(&config))? + &port;
    host.agent(&text)
}

/// Boots the virtual machines of all hosts at once.
fn boot(hosts: &[Host]) -> Result<Vec<VmGuest>> {
    std::thread::scope(|scope| {
        let numbered = (1..).zip(hosts);
        let booting: Vec<_> = numbered
            .map(|(number, host)| {
                let station = Station::new(PORT, mac(number)).mtu(GUEST_MTU);
                scope.spawn(move || host.vm_guest(station))
            })
            .collect();
        let joined = booting.into_iter().map(|thread| thread.join());
        joined
            .map(|guest| guest.map_err(|_| anyhow::anyhow!("booting panicked"))?)
            .collect()
    })
}
