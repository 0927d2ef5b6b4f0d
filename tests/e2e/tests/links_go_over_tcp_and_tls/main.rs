//! The promise: where firewalls let nothing but TCP pass, links go over TCP or TLS. Guests see no
//! difference, every frame is in the books of both ends, an agent that dies and comes back finds its
//! links again, and strangers who connect are refused, counted, and disturb nobody.

mod hostile;
mod streams;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use e2e::frame::{BROADCAST, expect, expect_nothing, guest, header, numbered};
use e2e::settings::Settings;
use e2e::stage::{Family, PORT, Site, Stage, address, link_to};
use e2e::stream::during;
use e2e::{ask, books};
use lab::{Lab, in_lab, try_eventually};
use vnet_agent::api::{LinkConnection, LinkState};
use vnet_agent::identity::life::{AUTHORITY_LIFE, HOST_LIFE};
use vnet_agent::identity::{Authority, Role};
use vnet_common::reason::Reason;

/// What a link goes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `tcp`.
    Tcp,
    /// `tls`.
    Tls,
}

impl Kind {
    /// As in a settings file.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }
}

/// The authority of a test, and the certificates that it gave to hosts.
pub struct Papers {
    directory: PathBuf,
    authority: Authority,
}

impl Papers {
    /// A new authority, with files in a directory of this name.
    ///
    /// # Errors
    ///
    /// There is no such directory.
    pub fn new(lab: &Lab, name: &str) -> Result<Self> {
        let directory = lab.directory().join(name);
        fs::create_dir(&directory)?;
        Ok(Self {
            directory,
            authority: Authority::create(name, now_s()?, AUTHORITY_LIFE)?,
        })
    }

    /// The file of a host, which is made.
    pub fn of(&self, host: &str) -> Result<PathBuf> {
        let path = self.directory.join(format!("{host}.pem"));
        let bundle = self
            .authority
            .issue(host, Role::Agent, now_s()?, HOST_LIFE)?;
        fs::write(&path, bundle.to_text())?;
        Ok(path)
    }
}

fn now_s() -> Result<u64> {
    Ok(SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)?
        .as_secs())
}

/// The UDP ports of hosts differ, so that no link could be in the kernel by mistake.
fn underlay(own: u8, door: &str) -> String {
    format!("device = \"eth0\"\nudp_port = 70{own:02}\ndoor = \"{door}\"")
}

/// The cookie of the link between two hosts.
fn cookie(one: u8, other: u8) -> String {
    format!("{:016x}", 0x5af3_107a_4000_0000u64 + u64::from(one * other))
}

/// Adds a link to a settings file.
pub fn with_link(settings: Settings, own: u8, other: u8, kind: Kind, lines: &str) -> Settings {
    let (name, remote) = (link_to(other), address(Family::Ipv4, other));
    let (cookie, kind) = (cookie(own, other), kind.word());
    settings.and(&format!(
        "[[link]]\nname = \"{name}\"\nremote = \"{remote}\"\nnetworks = [\"blue\"]\n\
         cookie = \"{cookie}\"\nkind = \"{kind}\"\n{lines}"
    ))
}

/// What one of two hosts is told.
pub fn settings(papers: &Papers, own: u8, kind: Kind, door: &str) -> Result<Settings> {
    let other = 3 - own;
    let identity = papers.of(e2e::stage::name(own))?;
    let settings = Settings::on(&underlay(own, door))
        .agent(&format!("identity = \"{}\"", identity.display()))
        .port_with(
            PORT,
            &format!("addresses = [\"{}\"]\ndoor = \"{door}\"", guest(own)),
        );
    Ok(with_link(settings, own, other, kind, "")
        .way(guest(other), &link_to(other))
        .flood())
}

/// Two hosts with one such link, which is up.
pub fn pair(lab: &Lab, kind: Kind, door: &str) -> Result<(Stage, Papers)> {
    let papers = Papers::new(lab, "papers")?;
    let texts = [
        settings(&papers, 1, kind, door)?,
        settings(&papers, 2, kind, door)?,
    ];
    let stage = Stage::new(lab, 2, |own| texts[usize::from(own - 1)].clone())?;
    Ok((stage, papers))
}

/// What the agent says of a link's connection.
pub fn connection(site: &Site, name: &str) -> Result<LinkConnection> {
    let link = ask::link(&site.host, name)?;
    link.connection.context("it has no connection to speak of")
}

/// What one host sent over the link, frame by frame, is what the other received, with what was lost on
/// the way in the books of one of them.
fn check_books(from: &Site, to: &Site, there: &str, back: &str) -> Result<()> {
    let (sent, received) = (books::check_host(&from.host)?, books::check_host(&to.host)?);
    let (out, into) = (connection(from, there)?, connection(to, back)?);
    let sent_by_programs = books::link(&sent, there)?.sent_packets;
    ensure!(
        sent_by_programs == out.sent + out.queue_full + out.lost + sent.agent.ledger.refused,
        "{sent_by_programs} frames were sent over {there}: {out:?}, {:?}",
        sent.agent
    );
    ensure!(
        out.sent == into.arrived + into.refused,
        "sent over {there}: {out:?}, came over {back}: {into:?}"
    );
    let went_on = books::link(&received, back)?.received_packets;
    ensure!(
        into.arrived == went_on,
        "came over {back}: {into:?}, and {went_on} went on"
    );
    Ok(())
}

fn frames_arrive_and_are_in_the_books(kind: Kind, door: &str) {
    let name = format!("{}{door}", kind.word());
    in_lab(&name, |lab| {
        let (stage, _papers) = pair(lab, kind, door)?;
        let (one, two) = stage.two()?;
        let watch = stage.underlay.capture("udp and not port 5353")?;
        for (from, to, own) in [(one, two, 1), (two, one, 2)] {
            let frames: Vec<_> = (0..300)
                .map(|number| {
                    let bytes = 22 + usize::try_from(number).unwrap_or(0) * 5 % 1493;
                    numbered(guest(own), guest(3 - own), number, bytes)
                })
                .collect();
            for batch in frames.chunks(50) {
                batch.iter().try_for_each(|frame| from.guest.send(frame))?;
                std::thread::sleep(Duration::from_millis(5));
            }
            expect(&to.guest, &frames)?;
            let mut tagged = header(guest(own), guest(3 - own), [0x81, 0]);
            tagged.extend([0x20, 5, 0x88, 0xb5]);
            tagged.resize(200, own);
            from.guest.send(&tagged)?;
            expect(&to.guest, &[tagged])?;
            let for_all = numbered(guest(own), BROADCAST, 1, 60);
            from.guest.send(&for_all)?;
            expect(&to.guest, &[for_all])?;
            expect_nothing(&from.guest)?;
        }
        check_books(one, two, "to-two", "to-one")?;
        check_books(two, one, "to-one", "to-two")?;
        let text = watch.stop()?.decode(&["-nn"])?;
        ensure!(!text.contains("UDP"), "something went over UDP: {text}");
        // One connection, which both ends tell of.
        let (here, there) = (connection(one, "to-two")?, connection(two, "to-one")?);
        ensure!(here.opened_here != there.opened_here, "{here:?} {there:?}");
        ensure!(here.connections == 1, "{here:?}");
        Ok(())
    });
}

#[test]
fn frames_arrive_over_tcp() {
    frames_arrive_and_are_in_the_books(Kind::Tcp, "xdp");
}

#[test]
fn frames_arrive_over_tcp_through_tc() {
    frames_arrive_and_are_in_the_books(Kind::Tcp, "tc");
}

#[test]
fn frames_arrive_over_tls() {
    frames_arrive_and_are_in_the_books(Kind::Tls, "tc");
}

#[test]
fn a_frame_goes_on_over_other_links_and_never_back() {
    in_lab("chain", |lab| {
        let papers = Papers::new(lab, "papers")?;
        let identities = [papers.of("one")?, papers.of("two")?, papers.of("three")?];
        // One and two by TLS, two and three in the kernel, so that host two joins both.
        let text = |own: u8| {
            let identity = identities[usize::from(own - 1)].display().to_string();
            let base = Settings::on("device = \"eth0\"")
                .agent(&format!("identity = \"{identity}\""))
                .port(PORT, guest(own));
            let always = "flood = \"always\"";
            match own {
                1 => with_link(base, 1, 2, Kind::Tls, "").way(guest(3), "to-two"),
                2 => with_link(base, 2, 1, Kind::Tls, always)
                    .link_with("to-three", "10.0.0.3", always)
                    .way(guest(1), "to-one")
                    .way(guest(3), "to-three")
                    .way(guest(99), "to-one"),
                _ => base.link("to-two", "10.0.0.2").way(guest(1), "to-two"),
            }
            .flood()
        };
        let stage = Stage::new(lab, 3, text)?;
        let [one, two, three] = &stage.sites[..] else {
            unreachable!("three sites")
        };
        let there = numbered(guest(1), guest(3), 1, 300);
        one.guest.send(&there)?;
        expect(&three.guest, &[there])?;
        let back = numbered(guest(3), guest(1), 2, 1400);
        three.guest.send(&back)?;
        expect(&one.guest, &[back])?;
        let for_all = numbered(guest(3), BROADCAST, 3, 60);
        three.guest.send(&for_all)?;
        expect(&one.guest, std::slice::from_ref(&for_all))?;
        expect(&two.guest, &[for_all])?;
        let middle = books::check_host(&two.host)?;
        ensure!(books::link(&middle, "to-one")?.forwarded == 1);
        // Who asks for a way that leads back gets nothing back.
        ask::change(
            &one.host,
            &format!("rule add --network blue --to {} --link to-two", guest(99)),
        )?;
        one.guest.send(&numbered(guest(1), guest(99), 4, 60))?;
        expect_nothing(&one.guest)?;
        let middle = books::check_host(&two.host)?;
        let link = books::link(&middle, "to-one")?;
        ensure!(books::dropped(link, Reason::Reflection) == 1, "{link:?}");
        Ok(())
    });
}

#[test]
fn an_agent_that_is_killed_finds_its_links_again() {
    in_lab("killed", |lab| {
        let (mut stage, _papers) = pair(lab, Kind::Tls, "tc")?;
        let before = books::settled(&stage.site(1)?.host)?;
        let [one, two] = &mut stage.sites[..] else {
            unreachable!("two sites")
        };
        let frame = |number| numbered(guest(2), guest(1), number, 100);
        one.agent.kill();
        // The other end notices, and drops under a reason of its own.
        ask::until_link(&two.host, "to-one", LinkState::Unconnected)?;
        let was = books::settled(&two.host)?;
        for number in 0..20 {
            two.guest.send(&frame(number))?;
        }
        let stats = books::settled(&two.host)?;
        let dropped = |stats| {
            let port = books::port(stats, PORT)?;
            Ok::<_, anyhow::Error>(books::dropped(port, Reason::LinkUnresolved))
        };
        ensure!(dropped(&stats)? - dropped(&was)? == 20, "{stats:?}");
        one.agent.restart()?;
        ask::until_link(&two.host, "to-one", LinkState::Up)?;
        ask::until_healthy(&one.host)?;
        // It goes on with the link's books.
        let after = books::settled(&one.host)?;
        let sent = |stats| Ok::<_, anyhow::Error>(books::link(stats, "to-two")?.sent_packets);
        ensure!(sent(&after)? >= sent(&before)?, "{before:?} {after:?}");
        during(&two.guest, &one.guest, |stream| stream.flow_on(3000))?.must_be_perfect(3000)?;
        Ok(())
    });
}

#[test]
fn a_cut_cable_is_noticed_and_the_link_comes_back_when_it_heals() {
    in_lab("cut", |lab| {
        let (stage, _papers) = pair(lab, Kind::Tcp, "tc")?;
        let (one, two) = stage.two()?;
        let uplink = two.host.uplink()?;
        stage.underlay.set_connected(&uplink, false)?;
        ask::until_link(&one.host, "to-two", LinkState::Unconnected)?;
        ask::until_link(&two.host, "to-one", LinkState::Unconnected)?;
        stage.underlay.set_connected(&uplink, true)?;
        ask::until_link(&one.host, "to-two", LinkState::Up)?;
        ask::until_link(&two.host, "to-one", LinkState::Up)?;
        during(&one.guest, &two.guest, |stream| stream.flow_on(1000))?.must_be_perfect(1000)?;
        Ok(())
    });
}

#[test]
fn a_stopped_reader_fills_the_queue_which_drops_and_counts() {
    in_lab("full", |lab| {
        let (stage, _papers) = pair(lab, Kind::Tcp, "tc")?;
        let (one, two) = stage.two()?;
        // The other agent stands still: TCP's window closes, then the queue fills.
        let id = two.agent.id().context("it runs")?;
        let stop = |on: bool| {
            let signal = if on { "-STOP" } else { "-CONT" };
            two.host.run(["kill", signal, &id.to_string()])
        };
        stop(true)?;
        let mut number = 0;
        let full = try_eventually("the queue is full", || {
            for _ in 0..500 {
                one.guest
                    .send(&numbered(guest(1), guest(2), number, 1500))?;
                number += 1;
            }
            let now = connection(one, "to-two")?;
            // Or the link was given up first, for its silence.
            Ok((now.queue_full > 0 || now.peer.is_none()).then_some(now))
        });
        stop(false)?;
        let full = full?;
        ensure!(full.queue_full > 0 || full.lost > 0, "{full:?}");
        ask::until_link(&one.host, "to-two", LinkState::Up)?;
        let stats = books::check_host(&one.host)?;
        let now = connection(one, "to-two")?;
        let port = books::port(&stats, PORT)?;
        ensure!(
            port.received_packets
                == now.sent + now.queue_full + now.lost + port.dropped + stats.agent.ledger.refused,
            "{number} frames, {now:?}, {port:?}"
        );
        if full.queue_full > 0 {
            let drops = ask::drops(&one.host)?;
            let is_full = |drop: &vnet_agent::api::Drop| drop.reason == Reason::QueueFull;
            ensure!(drops.iter().any(is_full), "{drops:?}");
        }
        Ok(())
    });
}
