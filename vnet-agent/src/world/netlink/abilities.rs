//! What can a device do with frames, beyond what NETLINK_ROUTE tells?
//!
//! Input: a device's name and index. Output: its offloads, by the `ethtool` ioctl, and what its
//! driver does for XDP, by the generic netlink family `netdev` (Linux 6.3). The kernel tells of
//! changes: of the first by an event about the device, of the second to a group of that family.
//! The answers wait when the questions have been asked, so none of this ever waits.

use std::ffi::c_char;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use netlink_sys::{
    AsyncSocket, AsyncSocketExt, Socket, SocketAddr, TokioSocket, protocols::NETLINK_GENERIC,
};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::model::host::{Abilities, Device};

/// `linux/ethtool.h`: whether a device takes unfinished checksums, and frames to be cut, and whether
/// what it receives is joined.
const GET_TX_CHECKSUM: u32 = 0x16;
const GET_TSO: u32 = 0x1e;
const GET_GRO: u32 = 0x2b;
/// `linux/sockios.h`.
const SIOCETHTOOL: libc::Ioctl = 0x8946;

/// `linux/genetlink.h`: the controller, what it is asked, and what it answers.
const CONTROLLER: u16 = 0x10;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
const GROUPS: u16 = 7;
const GROUP_NAME: u16 = 1;
const GROUP_ID: u16 = 2;

/// `linux/netdev.h`.
const FAMILY: &[u8] = b"netdev\0";
const GROUP: &[u8] = b"mgmt\0";
const GET_DEVICE: u8 = 1;
const DEVICE_CHANGED: u8 = 4;
const INDEX: u16 = 1;
const XDP_FEATURES: u16 = 3;
const XDP_BASIC: u64 = 1;
const XDP_TAKES_REDIRECTS: u64 = 4;

/// The kernel's type in the header of errors.
const ERROR: u16 = 2;
const MESSAGE_BYTES_MAX: usize = 16 * 1024;
/// A netlink header, and a generic one behind it.
const HEADER_BYTES: usize = 16;
const GENERIC_BYTES: usize = 4;

/// The sockets to ask by.
#[derive(Debug)]
pub(super) struct Asker {
    ethtool: OwnedFd,
    /// Nothing on a kernel without the family.
    netdev: Option<Netdev>,
}

#[derive(Debug)]
struct Netdev {
    socket: Socket,
    family: Family,
}

#[derive(Clone, Copy, Debug)]
struct Family {
    id: u16,
    group: Option<u32>,
}

impl Asker {
    /// Opens the sockets, in the network namespace of the calling thread.
    pub(super) fn open() -> io::Result<Self> {
        let ethtool = socket(
            AddressFamily::Inet,
            SockType::Datagram,
            SockFlag::SOCK_CLOEXEC,
            None,
        )
        // A kernel without IPv4 is still one that can be asked.
        .or_else(|_| {
            let flags = SockFlag::SOCK_CLOEXEC;
            socket(AddressFamily::Unix, SockType::Datagram, flags, None)
        })?;
        let netdev = Netdev::open()
            .inspect_err(|error| tracing::debug!(%error, "the kernel does not tell XDP features"));
        Ok(Self {
            ethtool,
            netdev: netdev.ok(),
        })
    }

    /// Completes what NETLINK_ROUTE has told. A device that is gone can do nothing.
    pub(super) fn complete(&self, device: &mut Device) {
        let features = self
            .netdev
            .as_ref()
            .and_then(|netdev| netdev.xdp_features(device.index));
        device.abilities = Abilities {
            checksums: self.has(&device.name, GET_TX_CHECKSUM),
            segments: self.has(&device.name, GET_TSO),
            joins: self.has(&device.name, GET_GRO),
            native_xdp: features.map(|bits| bits & XDP_BASIC != 0),
            takes_redirects: features.map(|bits| bits & XDP_TAKES_REDIRECTS != 0),
            ..device.abilities
        };
    }

    fn has(&self, name: &str, command: u32) -> bool {
        /// `struct ethtool_value`.
        #[repr(C)]
        struct Value {
            command: u32,
            data: u32,
        }
        let mut value = Value { command, data: 0 };
        // SAFETY: `ifreq` is plain old data, for which all zeroes is a value.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        // One place is left for the terminating zero.
        let places = request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1);
        for (to, from) in places.zip(name.bytes()) {
            *to = from as c_char;
        }
        request.ifr_ifru.ifru_data = (&raw mut value).cast();
        // SAFETY: the descriptor is open; the kernel reads one `ifreq` and writes one `Value` where
        // it points, and both live until it returns.
        let result =
            unsafe { libc::ioctl(self.ethtool.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
        result == 0 && value.data != 0
    }
}

impl Netdev {
    fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_GENERIC)?;
        socket.bind_auto()?;
        socket.set_non_blocking(true)?;
        let family = find_family(&socket)?;
        Ok(Self { socket, family })
    }

    fn xdp_features(&self, index: u32) -> Option<u64> {
        let question = message(self.family.id, GET_DEVICE, INDEX, &index.to_ne_bytes());
        let answer = ask(&self.socket, &question).ok()?;
        attribute(&answer, XDP_FEATURES)?
            .try_into()
            .ok()
            .map(u64::from_ne_bytes)
    }
}

/// A socket that hears when a device's XDP features change.
pub(super) struct XdpFeatureEvents {
    socket: TokioSocket,
    family: u16,
    buffer: Vec<u8>,
}

impl XdpFeatureEvents {
    /// Starts to listen; nothing on a kernel that does not tell.
    pub(super) fn open() -> io::Result<Option<Self>> {
        let mut socket = TokioSocket::new(NETLINK_GENERIC)?;
        socket.socket_mut().bind_auto()?;
        let asker = Socket::new(NETLINK_GENERIC)?;
        asker.set_non_blocking(true)?;
        let Ok(Family {
            id,
            group: Some(group),
        }) = find_family(&asker)
        else {
            return Ok(None);
        };
        socket.socket_mut().add_membership(group)?;
        Ok(Some(Self {
            socket,
            family: id,
            buffer: Vec::with_capacity(MESSAGE_BYTES_MAX),
        }))
    }

    /// Waits for the next event, and says which device it is about; nothing where events were lost.
    /// May be cancelled.
    pub(super) async fn hear(&mut self) -> io::Result<Option<u32>> {
        loop {
            self.buffer.clear();
            self.buffer.reserve(MESSAGE_BYTES_MAX);
            match self.socket.recv_from(&mut self.buffer).await {
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => return Ok(None),
                Err(error) => return Err(error),
                Ok(_) => {}
            }
            let changed = self.buffer.get(HEADER_BYTES) == Some(&DEVICE_CHANGED)
                && kind(&self.buffer) == Some(self.family);
            let index = changed.then(|| index_in(&self.buffer)).flatten();
            if index.is_some() {
                return Ok(index);
            }
        }
    }
}

fn index_in(bytes: &[u8]) -> Option<u32> {
    let attributes = bytes.get(HEADER_BYTES + GENERIC_BYTES..)?;
    let index = attribute(attributes, INDEX)?;
    index.try_into().ok().map(u32::from_ne_bytes)
}

fn find_family(socket: &Socket) -> io::Result<Family> {
    let answer = ask(
        socket,
        &message(CONTROLLER, GET_FAMILY, FAMILY_NAME, FAMILY),
    )?;
    let id = attribute(&answer, FAMILY_ID)
        .and_then(|id| id.try_into().ok())
        .map(u16::from_ne_bytes)
        .ok_or_else(|| io::Error::other("the kernel names no number of the family"))?;
    let groups = attribute(&answer, GROUPS).unwrap_or_default();
    let group = Attributes(groups)
        .find(|(_, group)| attribute(group, GROUP_NAME) == Some(GROUP))
        .and_then(|(_, group)| attribute(group, GROUP_ID)?.try_into().ok())
        .map(u32::from_ne_bytes);
    Ok(Family { id, group })
}

/// A question with one attribute.
fn message(family: u16, command: u8, attribute: u16, value: &[u8]) -> Vec<u8> {
    const VERSION: u8 = 1;
    let attribute_bytes = 4 + value.len();
    let length = HEADER_BYTES + GENERIC_BYTES + attribute_bytes.next_multiple_of(4);
    let mut bytes = Vec::with_capacity(length);
    bytes.extend(u32::try_from(length).unwrap_or_default().to_ne_bytes());
    bytes.extend(family.to_ne_bytes());
    bytes.extend(netlink_packet_core::NLM_F_REQUEST.to_ne_bytes());
    // Sequence number, port, and the generic header.
    bytes.extend([0; 8]);
    bytes.extend([command, VERSION, 0, 0]);
    bytes.extend(
        u16::try_from(attribute_bytes)
            .unwrap_or_default()
            .to_ne_bytes(),
    );
    bytes.extend(attribute.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(length, 0);
    bytes
}

/// The attributes of the answer.
fn ask(socket: &Socket, question: &[u8]) -> io::Result<Vec<u8>> {
    socket.send_to(question, &SocketAddr::new(0, 0), 0)?;
    let mut bytes = Vec::with_capacity(MESSAGE_BYTES_MAX);
    socket.recv_from(&mut bytes, 0)?;
    if kind(&bytes) == Some(ERROR) {
        let code = bytes.get(HEADER_BYTES..HEADER_BYTES + 4);
        let code = code
            .and_then(|code| code.try_into().ok())
            .map_or(0, i32::from_ne_bytes);
        return Err(io::Error::from_raw_os_error(-code));
    }
    let attributes = bytes.get(HEADER_BYTES + GENERIC_BYTES..);
    Ok(attributes.unwrap_or_default().to_vec())
}

/// The type in a message's header.
fn kind(bytes: &[u8]) -> Option<u16> {
    let kind = bytes.get(4..6)?;
    kind.try_into().ok().map(u16::from_ne_bytes)
}

fn attribute(attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    Attributes(attributes)
        .find(|(kind, _)| *kind == wanted)
        .map(|(_, value)| value)
}

/// Attributes as they stand in a message: length, type, value, up to the next multiple of four.
struct Attributes<'a>(&'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        /// Two bits of the type say how the value is written.
        const TYPE_MASK: u16 = 0x3fff;
        let bytes = self.0;
        let number = |at: usize| {
            let field = bytes.get(at..at + 2)?;
            field.try_into().ok().map(u16::from_ne_bytes)
        };
        let length = usize::from(number(0)?);
        let value = bytes.get(4..length)?;
        self.0 = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((number(2)? & TYPE_MASK, value))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_question_is_read_back_as_it_was_written() {
        let bytes = message(17, GET_DEVICE, INDEX, &5u32.to_ne_bytes());
        assert_eq!(bytes.len(), 28);
        assert_eq!(kind(&bytes), Some(17));
        assert_eq!(index_in(&bytes), Some(5));
        let named = message(CONTROLLER, GET_FAMILY, FAMILY_NAME, FAMILY);
        let attributes = named.get(HEADER_BYTES + GENERIC_BYTES..).unwrap();
        assert_eq!(attribute(attributes, FAMILY_NAME), Some(FAMILY));
        assert_eq!(attribute(attributes, FAMILY_ID), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(0..20u8, 0..100)) {
            let read: usize = Attributes(&bytes).map(|(_, value)| value.len()).sum();
            prop_assert!(read <= bytes.len());
        }
    }
}
