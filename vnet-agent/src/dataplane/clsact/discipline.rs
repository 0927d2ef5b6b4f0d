//! Is a device's `clsact` discipline of any use still? If not, it goes.
//!
//! Asked by netlink messages as `linux/rtnetlink.h` and `linux/pkt_sched.h` draw them: a header of
//! 16 bytes, then `struct tcmsg`. The kernel has no order "remove if empty": a filter that somebody
//! adds between the question and the order is lost.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

/// `linux/rtnetlink.h` and `linux/netlink.h`.
const DELETE_DISCIPLINE: u16 = 37;
const NEW_FILTER: u16 = 44;
const GET_FILTER: u16 = 46;
const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
const DUMP: u16 = 0x300;
const ERROR: u16 = 2;
const DONE: u16 = 3;

/// `TC_H_CLSACT`, its own handle, and its two places for filters.
const CLSACT: u32 = 0xffff_fff1;
const CLSACT_HANDLE: u32 = 0xffff_0000;
const INGRESS: u32 = 0xffff_fff2;
const EGRESS: u32 = 0xffff_fff3;

const HEADER_BYTES: usize = 16;
const MESSAGE_BYTES: u32 = 36;
/// Of a dump the kernel sends at most so much at a time.
const ANSWER_BYTES_MAX: usize = 32 * 1024;

/// Removes the discipline of this device, unless somebody's filter is there.
pub(super) fn remove_if_empty(ifindex: u32) -> io::Result<()> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    for place in [INGRESS, EGRESS] {
        let question = message(GET_FILTER, REQUEST | DUMP, ifindex, 0, place);
        if ask(&socket, &question)?.has_filter {
            return Ok(());
        }
    }
    let flags = REQUEST | ACKNOWLEDGE;
    let order = message(DELETE_DISCIPLINE, flags, ifindex, CLSACT_HANDLE, CLSACT);
    ask(&socket, &order).map(drop)
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Answer {
    has_filter: bool,
    is_over: bool,
}

fn message(kind: u16, flags: u16, ifindex: u32, handle: u32, parent: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(MESSAGE_BYTES as usize);
    bytes.extend(MESSAGE_BYTES.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    // Sequence number and port, and the family, which is none.
    bytes.extend([0; 12]);
    for field in [ifindex, handle, parent, 0] {
        bytes.extend(field.to_ne_bytes());
    }
    bytes
}

/// Sends a message, and reads until all is said about it.
fn ask(socket: &OwnedFd, message: &[u8]) -> io::Result<Answer> {
    let kernel = NetlinkAddr::new(0, 0);
    sendto(socket.as_raw_fd(), message, &kernel, MsgFlags::empty())?;
    let mut answer = Answer::default();
    let mut buffer = vec![0; ANSWER_BYTES_MAX];
    while !answer.is_over {
        let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        read(buffer.get(..length).unwrap_or_default(), &mut answer)?;
    }
    Ok(answer)
}

/// Reads what came at one time. An empty or torn message ends it: nothing would follow.
fn read(mut bytes: &[u8], answer: &mut Answer) -> io::Result<()> {
    loop {
        let length = number::<4>(bytes, 0).map_or(0, u32::from_ne_bytes) as usize;
        let Some(message) = bytes.get(..length).filter(|_| length >= HEADER_BYTES) else {
            answer.is_over |= !bytes.is_empty();
            return Ok(());
        };
        match number::<2>(message, 4).map_or(DONE, u16::from_ne_bytes) {
            NEW_FILTER => answer.has_filter = true,
            DONE => answer.is_over = true,
            ERROR => {
                answer.is_over = true;
                let code = number::<4>(message, HEADER_BYTES).map_or(0, i32::from_ne_bytes);
                if code != 0 {
                    return Err(io::Error::from_raw_os_error(code.wrapping_neg()));
                }
            }
            _ => {}
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
}

fn number<const BYTES: usize>(bytes: &[u8], at: usize) -> Option<[u8; BYTES]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn said(kind: u16, code: i32) -> Vec<u8> {
        let mut bytes = message(kind, 0, 0, 0, 0);
        bytes
            .get_mut(HEADER_BYTES..HEADER_BYTES + 4)
            .unwrap()
            .copy_from_slice(&code.to_ne_bytes());
        bytes
    }

    fn answer(bytes: &[u8]) -> io::Result<Answer> {
        let mut answer = Answer::default();
        read(bytes, &mut answer).map(|()| answer)
    }

    #[test]
    fn a_filter_among_other_things_is_seen() {
        let has = |has_filter, is_over| Answer {
            has_filter,
            is_over,
        };
        assert_eq!(answer(&said(DONE, 0)).unwrap(), has(false, true));
        let filter = said(NEW_FILTER, 5);
        assert_eq!(answer(&filter).unwrap(), has(true, false));
        let all = [filter, said(DONE, 0)].concat();
        assert_eq!(answer(&all).unwrap(), has(true, true));
    }

    #[test]
    fn an_error_is_told_and_an_acknowledgement_is_none() {
        assert!(answer(&said(ERROR, 0)).unwrap().is_over);
        let refused = answer(&said(ERROR, -libc::EPERM)).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EPERM));
    }

    #[test]
    fn a_device_without_a_discipline_has_nothing_to_remove() {
        let error = remove_if_empty(u32::MAX >> 1).unwrap_err();
        assert!(
            matches!(error.raw_os_error(), Some(libc::ENODEV | libc::EPERM)),
            "{error}"
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = answer(&bytes);
        }
    }
}
