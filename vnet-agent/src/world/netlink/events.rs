//! What has the kernel just said, unasked?
//!
//! Input: the multicast groups of NETLINK_ROUTE that this joins. Output: [`Event`]s, in the
//! kernel's order, or the news that some were lost.

use std::io;

use netlink_packet_core::{NetlinkBuffer, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE};
use nix::sys::socket::{setsockopt, sockopt};

use super::decode;
use super::view::Event;
use crate::model::host::Change;

/// The groups (linux/rtnetlink.h) that speak of devices, addresses, routes, routing rules,
/// next-hop objects (which change routes without a word about the routes) and neighbours.
const GROUPS: [u32; 9] = [
    libc::RTNLGRP_LINK,
    libc::RTNLGRP_NEIGH,
    libc::RTNLGRP_IPV4_IFADDR,
    libc::RTNLGRP_IPV4_ROUTE,
    libc::RTNLGRP_IPV4_RULE,
    libc::RTNLGRP_IPV6_IFADDR,
    libc::RTNLGRP_IPV6_ROUTE,
    libc::RTNLGRP_IPV6_RULE,
    libc::RTNLGRP_NEXTHOP,
];

const RTM_NEWNEXTHOP: u16 = 104;
const RTM_DELNEXTHOP: u16 = 105;

/// The kernel builds no message longer than 32 KiB.
const DATAGRAM_BYTES_MAX: usize = 64 * 1024;

/// What one reading brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// These events (perhaps none that matter).
    Events(Vec<Event>),
    /// The receive buffer was full, and events were dropped.
    Overrun,
}

/// A socket that listens to the kernel, and never asks.
pub(super) struct EventSocket {
    socket: TokioSocket,
    buffer: Vec<u8>,
}

impl EventSocket {
    /// Starts to listen, in the network namespace of the calling thread.
    pub(super) fn open(receive_buffer_bytes: usize) -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
        // Before the first group is joined: a storm in between would not fit.
        enlarge(&socket, receive_buffer_bytes)?;
        socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
        for group in GROUPS {
            match socket.socket_ref().add_membership(group) {
                // A kernel that knows no next-hop objects (before 5.3) has no such group.
                Err(error) if group == libc::RTNLGRP_NEXTHOP && is_invalid(&error) => {}
                other => other?,
            }
        }
        Ok(Self {
            socket,
            buffer: Vec::with_capacity(DATAGRAM_BYTES_MAX),
        })
    }

    /// Waits for the next datagram. May be cancelled: nothing is lost then.
    ///
    /// # Errors
    ///
    /// Those of `recvmsg` other than an overrun; the socket is of no use any more.
    pub(super) async fn hear(&mut self) -> io::Result<Heard> {
        self.buffer.clear();
        self.buffer.reserve(DATAGRAM_BYTES_MAX);
        match self.socket.recv_from(&mut self.buffer).await {
            Ok(sender) if sender.port_number() != 0 => Ok(Heard::Events(Vec::new())),
            Ok(_) => Ok(read(&self.buffer)),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(Heard::Overrun),
            Err(error) => Err(error),
        }
    }
}

fn is_invalid(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EINVAL)
}

/// Beyond `net.core.rmem_max` where we may (CAP_NET_ADMIN), else as far as that goes.
fn enlarge(socket: &TokioSocket, bytes: usize) -> io::Result<()> {
    let socket = socket.socket_ref();
    if setsockopt(socket, sockopt::RcvBufForce, &bytes).is_err() {
        setsockopt(socket, sockopt::RcvBuf, &bytes)?;
    }
    Ok(())
}

/// Takes a datagram apart.
fn read(mut bytes: &[u8]) -> Heard {
    let mut events = Vec::new();
    while let Ok(header) = NetlinkBuffer::new_checked(bytes) {
        let length = (header.length() as usize).max(size_of::<libc::nlmsghdr>());
        let Some(message) = bytes.get(..length) else {
            break;
        };
        match header.message_type() {
            libc::RTM_NEWROUTE
            | libc::RTM_DELROUTE
            | libc::RTM_NEWRULE
            | libc::RTM_DELRULE
            | RTM_NEWNEXTHOP
            | RTM_DELNEXTHOP => {
                // They come by the thousand, and one is as good as many.
                if events.last() != Some(&Event::Routing) {
                    events.push(Event::Routing);
                }
            }
            _ => match NetlinkMessage::<RouteNetlinkMessage>::deserialize(message) {
                Ok(message) => match message.payload {
                    NetlinkPayload::InnerMessage(message) => events.extend(event(&message)),
                    NetlinkPayload::Overrun(_) => return Heard::Overrun,
                    _ => {}
                },
                Err(error) => tracing::debug!(%error, "netlink: a message that we cannot read"),
            },
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Heard::Events(events)
}

/// What one message says; none where it does not matter to us.
pub(super) fn event(message: &RouteNetlinkMessage) -> Option<Event> {
    use RouteNetlinkMessage as Message;
    Some(match message {
        Message::NewLink(link) => Event::Host(Change::Device(decode::device(link)?)),
        // A bridge says "the link is gone" of a port that leaves it; `decode` tells them apart.
        Message::DelLink(link) => Event::Host(Change::DeviceGone(decode::device(link)?.index)),
        Message::NewAddress(address) => {
            let (index, address) = decode::address(address)?;
            Event::Host(Change::Address(index, address))
        }
        Message::DelAddress(address) => {
            let (index, address) = decode::address(address)?;
            Event::Host(Change::AddressGone(index, address))
        }
        Message::NewNeighbour(neighbour) => {
            let (key, neighbour) = decode::neighbour(neighbour)?;
            Event::Neighbour(key, neighbour)
        }
        Message::DelNeighbour(neighbour) => Event::NeighbourGone(decode::neighbour(neighbour)?.0),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::NetlinkHeader;
    use netlink_packet_route::link::{LinkAttribute, LinkMessage};
    use netlink_packet_route::route::RouteMessage;
    use proptest::prelude::*;

    use super::*;

    fn emit(message: RouteNetlinkMessage) -> Vec<u8> {
        let mut message = NetlinkMessage::new(NetlinkHeader::default(), message.into());
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes
    }

    fn gone(index: u32, name: &str) -> RouteNetlinkMessage {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.attributes = vec![LinkAttribute::IfName(name.to_owned())];
        RouteNetlinkMessage::DelLink(link)
    }

    #[test]
    fn a_datagram_may_hold_several_messages() {
        let mut bytes = emit(gone(3, "a"));
        bytes.extend(emit(RouteNetlinkMessage::NewRoute(RouteMessage::default())));
        bytes.extend(emit(gone(4, "bcd")));
        let expected = [
            Event::Host(Change::DeviceGone(3)),
            Event::Routing,
            Event::Host(Change::DeviceGone(4)),
        ];
        assert_eq!(read(&bytes), Heard::Events(expected.to_vec()));
    }

    #[test]
    fn an_overrun_message_is_an_overrun() {
        let bytes = [16, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(read(&bytes), Heard::Overrun);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some(length) = bytes.first_chunk_mut::<6>() {
                // Mostly plausible lengths and types, so that the inner parsers are reached.
                *length = [length[0] % 128, 0, 0, 0, 16 + length[4] % 20, 0];
            }
            read(&bytes);
        }
    }
}
