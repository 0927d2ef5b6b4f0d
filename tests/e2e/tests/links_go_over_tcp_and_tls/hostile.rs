//! Strangers who connect to an agent: garbage, silence, the wrong cookie, the wrong certificate, a giant
//! behind the right proof, and too many at once. Each is refused and counted; the link goes on.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::ask;
use e2e::frame::guest;
use e2e::settings::Settings;
use e2e::stage::{PORT, Stage, link_to};
use e2e::stream::during;
use lab::{Host, in_lab, try_eventually};
use vnet_agent::overlay::carrier::message::HEADER_BYTES;
use vnet_agent::overlay::carrier::preface::{Opener, WELCOME_BYTES};
use vnet_common::addr::Cookie;

use super::{Kind, Papers, connection, pair, settings, with_link};

const AGENT_ONE: &str = "10.0.0.1:6081";

fn refused(host: &Host, why: &str) -> Result<u64> {
    let stats = ask::stats(host)?;
    let refused = stats.agent.connections_refused;
    Ok(refused.get(why).copied().unwrap_or(0))
}

/// Waits until so many more were refused for this.
fn until_refused(host: &Host, why: &str, before: u64, more: u64) -> Result<()> {
    try_eventually(&format!("{more} were refused: {why}"), || {
        Ok((refused(host, why)? >= before + more).then_some(()))
    })
}

/// Opens a connection to agent one from another host, says something, and waits to be put out.
fn say(from: &Host, bytes: &[u8]) -> Result<()> {
    from.inside(|| -> Result<()> {
        let mut stream = TcpStream::connect(AGENT_ONE)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.write_all(bytes)?;
        let mut rest = Vec::new();
        // Put out politely or not.
        let _ = stream.read_to_end(&mut rest);
        ensure!(rest.len() < 200, "it was told {} bytes", rest.len());
        Ok(())
    })?
}

#[test]
fn strangers_are_refused_and_disturb_nobody() {
    in_lab("strangers", |lab| {
        let (stage, _papers) = pair(lab, Kind::Tcp, "tc")?;
        let (one, two) = stage.two()?;
        let stranger = lab.host("stranger")?;
        stage.underlay.connect(&stranger, "eth0")?;
        let before = connection(one, "to-two")?;
        let outcome = during(&two.guest, &one.guest, |stream| {
            say(&stranger, b"GET / HTTP/1.1\r\nHost: one\r\n\r\n")?;
            until_refused(&one.host, "garbage", 0, 1)?;
            say(&stranger, &[b'v'; 4000])?;
            until_refused(&one.host, "garbage", 0, 2)?;
            // TLS, where no link asks for it.
            say(&stranger, &[0x16, 3, 1, 0, 5, 1, 2, 3, 4, 5])?;
            until_refused(&one.host, "no-certificate", 0, 1)?;
            let wrong = Opener::new(Cookie(0x1234), [7; 16], [8; 16]);
            say(&stranger, wrong.hello())?;
            until_refused(&one.host, "wrong-cookie", 0, 1)?;
            // Silence, of many at once: more than one address may have are turned away at once.
            let crowd: Vec<TcpStream> = stranger.inside(|| {
                let connect = |_| TcpStream::connect(AGENT_ONE);
                (0..20).map(connect).collect::<Result<_, _>>()
            })??;
            until_refused(&one.host, "too-many", 0, 12)?;
            until_refused(&one.host, "slow", 0, 8)?;
            drop(crowd);
            stream.flow_on(500)
        })?;
        outcome.must_be_perfect(500)?;
        let after = connection(one, "to-two")?;
        ensure!(
            (after.peer, after.connections, after.refused)
                == (before.peer, before.connections, before.refused),
            "{before:?} {after:?}"
        );
        Ok(())
    });
}

#[test]
fn an_agent_gone_wrong_with_the_right_cookie_is_put_out_for_a_giant() {
    in_lab("giant", |lab| {
        let papers = Papers::new(lab, "papers")?;
        let text = settings(&papers, 1, Kind::Tcp, "tc")?;
        // Nobody else speaks for host two.
        let alone = Settings::new().port(PORT, guest(2));
        let stage = Stage::start(lab, 2, |own| match own {
            1 => text.clone(),
            _ => alone.clone(),
        })?;
        let (one, two) = stage.two()?;
        let cookie = Cookie(0x5af3_107a_4000_0002);
        let talk = |after: Vec<u8>| {
            two.host.inside(|| -> Result<()> {
                let mut stream = TcpStream::connect(AGENT_ONE)?;
                stream.set_read_timeout(Some(Duration::from_secs(30)))?;
                let opener = Opener::new(cookie, [9; 16], [8; 16]);
                stream.write_all(opener.hello())?;
                let mut welcome = [0; WELCOME_BYTES];
                stream.read_exact(&mut welcome)?;
                let (finish, _) = opener.finish(&welcome)?;
                stream.write_all(&finish)?;
                stream.write_all(&after)?;
                let mut rest = Vec::new();
                let _ = stream.read_to_end(&mut rest);
                Ok(())
            })?
        };
        let header = |length: u32, network: u32, kind: u8| {
            let mut bytes = [length.to_be_bytes(), network.to_be_bytes()].concat();
            bytes.extend([kind, 64]);
            bytes.resize(HEADER_BYTES, 0);
            bytes
        };
        talk(header(u32::MAX, 7, 1))?;
        until_refused(&one.host, "bad-message", 0, 1)?;
        // A frame of a network that does not cross this link, and then nonsense.
        let mut foreign = header(60, 8, 1);
        foreign.extend([7; 60]);
        foreign.extend(header(60, 7, 200));
        talk(foreign)?;
        until_refused(&one.host, "bad-message", 0, 2)?;
        let link = connection(one, &link_to(2))?;
        ensure!(link.connections == 2 && link.refused == 1, "{link:?}");
        ensure!(link.arrived == 0, "{link:?}");
        Ok(())
    });
}

#[test]
fn a_certificate_of_another_authority_opens_nothing() {
    in_lab("authority", |lab| {
        let papers = Papers::new(lab, "papers")?;
        let others = Papers::new(lab, "others")?;
        let right = settings(&papers, 1, Kind::Tls, "tc")?;
        let wrong = settings(&others, 2, Kind::Tls, "tc")?;
        let third = papers.of("three")?;
        let identity = format!("identity = \"{}\"", third.display());
        let base = Settings::new().agent(&identity).port(PORT, guest(3));
        let good = with_link(base, 3, 1, Kind::Tls, "").way(guest(1), "to-one");
        let right = with_link(right, 1, 3, Kind::Tls, "").way(guest(3), "to-three");
        let stage = Stage::start(lab, 3, |own| match own {
            1 => right.clone(),
            2 => wrong.clone(),
            _ => good.clone(),
        })?;
        let [one, two, three] = &stage.sites[..] else {
            unreachable!("three sites")
        };
        ask::until_link(&one.host, "to-three", vnet_agent::api::LinkState::Up)?;
        // Whoever opens first is refused, at either end.
        try_eventually("a certificate is refused", || {
            let here = refused(&one.host, "certificate")?;
            let there = refused(&two.host, "certificate")?;
            Ok((here + there > 1).then_some(()))
        })?;
        let link = ask::link(&two.host, "to-one")?;
        ensure!(
            link.state == vnet_agent::api::LinkState::Unconnected,
            "{link:?}"
        );
        let note = link.note.context("it says why")?;
        ensure!(!note.is_empty(), "{note}");
        during(&three.guest, &one.guest, |stream| stream.flow_on(200))?.must_be_perfect(200)?;
        Ok(())
    });
}
