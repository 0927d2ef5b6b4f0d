//! Whole IP stacks with every offload on, over links that the agents carry: pings, and transfers over
//! TCP whose segments nobody on the way cuts.

use anyhow::{Context, ensure};
use e2e::frame::guest;
use e2e::settings::Settings;
use e2e::stage::{DEVICE, link_to, name};
use e2e::transfer::transfer;
use e2e::{ask, books};
use lab::{Station, UnderlaySettings, in_lab};

use super::{Kind, Papers, with_link};

const PORT: &str = "veth1";
const STREAM_BYTES: u32 = 16 << 20;

const ADDRESSES: [(&str, &str); 2] = [("IPv4", "192.168.7.2:5201"), ("IPv6", "[fd00:7::2]:5201")];

fn a_transfer_passes(kind: Kind) {
    in_lab(&format!("{}stream", kind.word()), |lab| {
        let underlay = lab.underlay(UnderlaySettings::default())?;
        let papers = Papers::new(lab, "papers")?;
        let mut sites = Vec::new();
        for number in [1, 2] {
            let other = 3 - number;
            let host = lab.host(name(number))?;
            underlay.connect(&host, DEVICE)?;
            let station = Station::new(PORT, guest(number))
                .address(&format!("192.168.7.{number}/24"))
                .address(&format!("fd00:7::{number}/64"))
                .mtu(1500)
                .offloading();
            let guest_here = host.namespace_guest(station)?;
            let identity = papers.of(name(number))?;
            let settings = Settings::on("device = \"eth0\"\ndoor = \"tc\"")
                .agent(&format!("identity = \"{}\"", identity.display()))
                .port_with(
                    PORT,
                    &format!("addresses = [\"{}\"]\ndoor = \"tc\"", guest(number)),
                );
            let settings = with_link(settings, number, other, kind, "")
                .way(guest(other), &link_to(other))
                .flood();
            let agent = host.agent(&settings.text())?;
            sites.push((agent, guest_here, host));
        }
        for (_, _, host) in &sites {
            ask::until_healthy(host)?;
        }
        let [(_, one, host_one), (_, two, _)] = &sites[..] else {
            unreachable!("two sites")
        };
        let ping = ["ping", "-c", "3", "-i", "0.2", "-w", "20", "192.168.7.2"];
        one.run(ping).context("pinging")?;
        for (what, address) in ADDRESSES {
            transfer(one, two, address, STREAM_BYTES)
                .with_context(|| format!("TCP over {what}"))?;
        }
        // Segments crossed whole: far fewer frames than packets of their size.
        let stats = books::settled(host_one)?;
        let link = books::link(&stats, &link_to(2))?;
        let bytes_each = link.sent_bytes / link.sent_packets.max(1);
        ensure!(bytes_each > 3000, "{link:?}");
        Ok(())
    });
}

#[test]
fn a_transfer_with_offloads_passes_over_tcp() {
    a_transfer_passes(Kind::Tcp);
}

#[test]
fn a_transfer_with_offloads_passes_over_tls() {
    a_transfer_passes(Kind::Tls);
}
