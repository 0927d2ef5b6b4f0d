//! How do headers get in front of a frame, and off it, without the kernel losing its notes of it?
#![expect(unsafe_code, reason = "the kernel's helpers take its own pointer")]

use core::mem::offset_of;

use aya_ebpf::bindings::{
    __sk_buff, BPF_F_ADJ_ROOM_DECAP_L3_IPV4, BPF_F_ADJ_ROOM_DECAP_L3_IPV6,
    BPF_F_ADJ_ROOM_ENCAP_L2_ETH, BPF_F_ADJ_ROOM_ENCAP_L3_IPV4, BPF_F_ADJ_ROOM_ENCAP_L3_IPV6,
    BPF_F_ADJ_ROOM_ENCAP_L4_UDP, BPF_F_ADJ_ROOM_FIXED_GSO, BPF_F_ADJ_ROOM_NO_CSUM_RESET,
    bpf_adj_room_mode,
};
use aya_ebpf::helpers::generated::{bpf_skb_adjust_room, bpf_skb_change_head, bpf_skb_change_tail};
use vnet_common::reason::Reason;
use vnet_common::wire::ethernet::{self, Ethernet};
use vnet_common::wire::ipv4::{self, Ipv4};
use vnet_common::wire::ipv6::Ipv6;

use super::tags::{Inner, Tags};
use super::{PENDING_MASK, TcFrame};
use crate::frame::{Frame, apart};

/// Where a frame without tags says what its packet carries.
const IPV4_PROTOCOL_AT: usize = Ethernet::BYTES + offset_of!(Ipv4, protocol);
const IPV6_PROTOCOL_AT: usize = Ethernet::BYTES + offset_of!(Ipv6, next_header);
/// What must be left behind an Ethernet header for the kernel to take something off: an IPv6
/// header.
const LEFT_BYTES_MIN: u32 = 40;

impl TcFrame {
    /// Takes bytes from behind the first Ethernet header.
    #[inline(always)]
    fn cut(&mut self, bytes: usize, flags: u32) -> Result<(), Reason> {
        let delta = (bytes as i32).wrapping_neg();
        let fixed = u64::from(BPF_F_ADJ_ROOM_FIXED_GSO);
        let mode = bpf_adj_room_mode::BPF_ADJ_ROOM_MAC;
        // SAFETY: the helper checks the lengths; no pointer into the frame is kept.
        let mut refused =
            unsafe { bpf_skb_adjust_room(self.context, delta, mode, fixed | u64::from(flags)) };
        if refused != 0 {
            // Linux before 6.3 knows no such flags.
            // SAFETY: as above.
            refused = unsafe { bpf_skb_adjust_room(self.context, delta, mode, fixed) };
        }
        self.after(refused)?;
        self.pending = 0;
        Ok(())
    }

    /// Makes the packet this long, with what is passed over.
    #[inline(always)]
    pub(super) fn set_raw_length(&mut self, bytes: u32) -> Result<(), Reason> {
        // SAFETY: the helper checks the length; no pointer into the frame is kept.
        let refused = unsafe { bpf_skb_change_tail(self.context, bytes, 0) };
        self.after(refused)
    }

    /// Takes headers off a frame that is to be segmented: the kernel must know where its payload
    /// begins, so its tags go beside it.
    ///
    /// To the kernel it is a tunnel's packet for ever, which matters when it is UDP: its segmentation
    /// then looks for the tunnel's header, and loses the frame (`udp4_ufo_fragment`).
    #[inline(always)]
    fn settle_segments(&mut self, headers: usize, inner: &Inner) -> Result<(), Reason> {
        let (tags, ethertype) = self.inner_tags(inner.ethertype);
        let tag_bytes = tags.bytes();
        // One look at the type: each branch doubles the verifier's work behind it.
        let (protocol_at, flags) = match ethertype {
            ethernet::IPV6 => (IPV6_PROTOCOL_AT, BPF_F_ADJ_ROOM_DECAP_L3_IPV6),
            _ => (IPV4_PROTOCOL_AT, BPF_F_ADJ_ROOM_DECAP_L3_IPV4),
        };
        if self.read::<u8>(tag_bytes.wrapping_add(protocol_at)) == Some(ipv4::UDP) {
            return Err(Reason::JoinedDatagrams);
        }
        self.cut(headers.wrapping_add(tag_bytes), flags)?;
        let untagged = Inner {
            ethertype,
            ..*inner
        };
        self.write_inner(0, &untagged, &Tags::NONE)
            .ok_or(Reason::Runt)?;
        self.put_tags(&tags)
    }

    /// Makes room at the front for headers that the kernel need not know of.
    #[inline(always)]
    fn change_head(&mut self, bytes: usize) -> Result<(), Reason> {
        // SAFETY: the helper checks the room; no pointer into the frame is kept.
        let refused = unsafe { bpf_skb_change_head(self.context, bytes as u32, 0) };
        self.after(refused)
    }
}

#[inline(always)]
const fn decap_flags(ethertype: [u8; 2]) -> u32 {
    match ethertype {
        ethernet::IPV6 => BPF_F_ADJ_ROOM_DECAP_L3_IPV6,
        _ => BPF_F_ADJ_ROOM_DECAP_L3_IPV4,
    }
}

// Apart from the programs, because each of them would else have a copy for every kind of link, and
// all of their values on its stack (512 bytes, `MAX_BPF_STACK`); and so that the verifier goes
// through them once.

/// As [`Frame::grow`], for a frame behind so many bytes.
#[inline(always)]
pub(super) fn grow(context: *mut __sk_buff, pending: usize, bytes: usize) -> Result<(), Reason> {
    apart::result(vnet_grow(context, pending, bytes))
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn vnet_grow(context: *mut __sk_buff, pending: usize, bytes: usize) -> u32 {
    apart::word(grow_apart(context, pending, bytes & PENDING_MASK))
}

#[inline(always)]
fn grow_apart(context: *mut __sk_buff, pending: usize, bytes: usize) -> Result<(), Reason> {
    let mut frame = TcFrame::again(context, pending);
    if pending > bytes && frame.segment_bytes() == 0 {
        // What is between the first Ethernet header and the frame, less the room.
        let excess = pending.wrapping_sub(bytes) & PENDING_MASK;
        return frame.cut(excess, BPF_F_ADJ_ROOM_DECAP_L3_IPV4);
    }
    frame.settle()?;
    let tags = frame.take_tags()?;
    let inner = frame.inner().ok_or(Reason::Runt)?;
    frame.change_head(bytes.wrapping_add(tags.bytes()))?;
    frame
        .write_inner(bytes, &inner, &tags)
        .ok_or(Reason::NoHeadroom)
}

/// As [`Frame::encapsulate`], for a frame behind so many bytes.
#[inline(always)]
pub(super) fn encapsulate(
    context: *mut __sk_buff,
    pending: usize,
    bytes: usize,
    over_ipv6: bool,
) -> Result<(), Reason> {
    apart::result(vnet_encapsulate(
        context,
        pending,
        bytes,
        u32::from(over_ipv6),
    ))
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn vnet_encapsulate(
    context: *mut __sk_buff,
    pending: usize,
    bytes: usize,
    over_ipv6: u32,
) -> u32 {
    apart::word(encapsulate_apart(
        context,
        pending,
        bytes & PENDING_MASK,
        over_ipv6 != 0,
    ))
}

#[inline(always)]
fn encapsulate_apart(
    context: *mut __sk_buff,
    pending: usize,
    bytes: usize,
    over_ipv6: bool,
) -> Result<(), Reason> {
    let mut frame = TcFrame::again(context, pending);
    frame.settle()?;
    let tags = frame.take_tags()?;
    let inner = frame.inner().ok_or(Reason::Runt)?;
    let tag_bytes = tags.bytes();
    let room = bytes.wrapping_add(tag_bytes);
    let over = if over_ipv6 {
        BPF_F_ADJ_ROOM_ENCAP_L3_IPV6
    } else {
        BPF_F_ADJ_ROOM_ENCAP_L3_IPV4
    };
    let flags = over
        | BPF_F_ADJ_ROOM_FIXED_GSO
        | BPF_F_ADJ_ROOM_NO_CSUM_RESET
        | BPF_F_ADJ_ROOM_ENCAP_L4_UDP
        | BPF_F_ADJ_ROOM_ENCAP_L2_ETH;
    let inner_bytes = (Ethernet::BYTES as u64).wrapping_add(tag_bytes as u64);
    // SAFETY: the helper checks the room; no pointer into the frame is kept. It refuses what is not
    // IP, and what is a tunnel's already.
    let refused = unsafe {
        bpf_skb_adjust_room(
            context,
            room as i32,
            bpf_adj_room_mode::BPF_ADJ_ROOM_MAC,
            u64::from(flags) | inner_bytes.wrapping_shl(56),
        )
    };
    frame.moved();
    if refused != 0 {
        if frame.segment_bytes() != 0 {
            return Err(Reason::NoHeadroom);
        }
        frame.change_head(room)?;
    }
    frame
        .write_inner(bytes, &inner, &tags)
        .ok_or(Reason::NoHeadroom)
}

/// As [`Frame::settle`], for a frame behind so many bytes.
#[inline(always)]
pub(super) fn settle(context: *mut __sk_buff, pending: usize) -> Result<(), Reason> {
    apart::result(vnet_settle(context, pending))
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn vnet_settle(context: *mut __sk_buff, pending: usize) -> u32 {
    apart::word(settle_apart(context, pending))
}

#[inline(always)]
fn settle_apart(context: *mut __sk_buff, pending: usize) -> Result<(), Reason> {
    let mut frame = TcFrame::again(context, pending);
    let headers = pending & PENDING_MASK;
    let inner = frame.inner().ok_or(Reason::Runt)?;
    if frame.segment_bytes() != 0 {
        return frame.settle_segments(headers, &inner);
    }
    let length = frame.length();
    let flags = decap_flags(inner.ethertype);
    // Less than an IP header must not be left (of the outer version, before Linux 6.3). Only then is
    // it made longer for a while: the kernel does that to no frame that was in a tunnel's segments.
    let is_short = frame.cut(headers, flags).is_err();
    if is_short {
        let longer = frame.raw_length().wrapping_add(LEFT_BYTES_MIN);
        frame.set_raw_length(longer)?;
        frame.cut(headers, flags)?;
    }
    frame
        .write_inner(0, &inner, &Tags::NONE)
        .ok_or(Reason::Runt)?;
    if is_short {
        frame.set_raw_length(length)?;
    }
    Ok(())
}
