//! The promise: what is not the overlay's passes the underlay device untouched, both ways, while
//! the overlay carries frames: the admin stays logged in.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use e2e::chance::Chance;
use e2e::stage::{Family, Site, Stage};
use e2e::stream::during;
use lab::in_lab;

const BYTES: usize = 4 << 20;
const LIMIT: Duration = Duration::from_secs(30);

fn address_of(site: &Site, family: Family) -> Result<IpAddr> {
    let uplink = site.host.uplink()?;
    let address = match family {
        Family::Ipv4 => uplink.ipv4.map(IpAddr::from),
        Family::Ipv6 => uplink.ipv6.map(IpAddr::from),
    };
    address.context("it has an address")
}

/// A connection on which as much goes either way, as over ssh.
fn tcp(from: &Site, to: &Site, family: Family) -> Result<()> {
    let address = address_of(to, family)?;
    let listener = to
        .host
        .inside(|| TcpListener::bind(SocketAddr::new(address, 22)))??;
    let data = Chance::seeded(22).bytes(BYTES);
    thread::scope(|scope| -> Result<()> {
        let server = scope.spawn(|| -> Result<()> {
            let (mut connection, _) = listener.accept()?;
            connection.set_read_timeout(Some(LIMIT))?;
            let mut received = vec![0; BYTES];
            connection.read_exact(&mut received)?;
            connection.write_all(&received)?;
            Ok(())
        });
        let connect = || TcpStream::connect_timeout(&SocketAddr::new(address, 22), LIMIT);
        let mut connection = from.host.inside(connect)??;
        connection.set_read_timeout(Some(LIMIT))?;
        connection.write_all(&data)?;
        let mut echoed = vec![0; BYTES];
        connection.read_exact(&mut echoed)?;
        assert!(echoed == data, "what came back is what was sent");
        server.join().ok().context("the server panicked")?
    })
}

/// Datagrams to a port, of any size up to what IP fragments.
fn udp(from: &Site, to: &Site, family: Family, port: u16) -> Result<()> {
    let address = address_of(to, family)?;
    let local = address_of(from, family)?;
    let receiver = to
        .host
        .inside(|| UdpSocket::bind(SocketAddr::new(address, port)))??;
    let sender = from
        .host
        .inside(|| UdpSocket::bind(SocketAddr::new(local, 0)))??;
    receiver.set_read_timeout(Some(LIMIT))?;
    let mut chance = Chance::seeded(port.into());
    for bytes in [0, 1, 100, 1472, 1473, 20_000] {
        let sent = chance.bytes(bytes);
        sender.send_to(&sent, SocketAddr::new(address, port))?;
        let mut buffer = vec![0; 65_536];
        let (length, peer) = receiver.recv_from(&mut buffer)?;
        assert_eq!(
            (peer.ip(), buffer.get(..length)),
            (local, Some(sent.as_slice())),
            "{bytes} bytes"
        );
    }
    Ok(())
}

fn ping(from: &Site, to: &Site, family: Family, bytes: &str) -> Result<()> {
    let address = address_of(to, family)?.to_string();
    from.host
        .run([
            "ping", "-c", "3", "-i", "0.05", "-W", "10", "-s", bytes, &address,
        ])
        .map(drop)
}

fn all_of_it(name: &str, family: Family) {
    in_lab(name, |lab| {
        let stage = Stage::mesh(lab, 2, family)?;
        let (one, two) = stage.two()?;
        let outcome = during(&one.guest, &two.guest, |stream| {
            stream.flow_on(200)?;
            for (from, to) in [(one, two), (two, one)] {
                for bytes in ["56", "1400", "5000"] {
                    ping(from, to, family, bytes)?;
                }
                tcp(from, to, family)?;
                // VXLAN's, DNS's, and Geneve's neighbour.
                for port in [4789, 53, 6082] {
                    udp(from, to, family, port)?;
                }
                stream.flow_on(200)?;
            }
            Ok(())
        })?;
        // They share the queues of the wire, where bulk may push out others, but nothing more.
        assert_eq!((outcome.doubled, outcome.broken), (0, 0), "{outcome:?}");
        Ok(())
    });
}

#[test]
fn over_ipv4() {
    all_of_it("ipv4", Family::Ipv4);
}

#[test]
fn over_ipv6() {
    all_of_it("ipv6", Family::Ipv6);
}

#[test]
fn geneve_on_another_address_of_the_host_is_not_ours() {
    in_lab("other", |lab| {
        let stage = Stage::pair(lab)?;
        let (one, two) = stage.two()?;
        two.host
            .run("ip address add 10.0.0.102/24 dev eth0".split(' '))?;
        let other: SocketAddr = "10.0.0.102:6081".parse()?;
        let receiver = two.host.inside(|| UdpSocket::bind(other))??;
        receiver.set_read_timeout(Some(LIMIT))?;
        let sender = one.host.inside(|| UdpSocket::bind("10.0.0.1:0"))??;
        sender.send_to(b"not ours", other)?;
        let mut buffer = [0; 100];
        let (length, _) = receiver.recv_from(&mut buffer)?;
        assert_eq!(&buffer[..length], b"not ours");
        Ok(())
    });
}
