//! A frame in the kernel, at the TC door: a socket buffer, with what its sender left to devices
//! (checksum, segmentation, VLAN tag) beside the bytes.
//!
//! What must hold so that none of that is lost (Linux 6.18, `net/core/filter.c`):
//!
//! * Outer headers in front of IP are made room for by `bpf_skb_adjust_room`, which tells the
//!   kernel's segmentation of the tunnel; it puts the room behind the Ethernet header and takes IP
//!   only. Other frames, and those that are a tunnel's already, go by `bpf_skb_change_head`, which
//!   does not: so a frame that is to be segmented must not.
//! * A VLAN tag may lie beside the bytes. A device would put it into the *outer* header, so it goes
//!   into the frame first.
//! * Headers that came off are only passed over ([`TcFrame::pending`]) until it is known what
//!   becomes of the frame: for another link the new ones overwrite them, and the kernel's notes
//!   stay right.
#![expect(
    unsafe_code,
    reason = "packet memory is pointers, which the verifier checks"
)]

use aya_ebpf::bindings::{
    __sk_buff, BPF_F_ADJ_ROOM_DECAP_L3_IPV4, BPF_F_ADJ_ROOM_DECAP_L3_IPV6,
    BPF_F_ADJ_ROOM_ENCAP_L2_ETH, BPF_F_ADJ_ROOM_ENCAP_L3_IPV4, BPF_F_ADJ_ROOM_ENCAP_L3_IPV6,
    BPF_F_ADJ_ROOM_ENCAP_L4_UDP, BPF_F_ADJ_ROOM_FIXED_GSO, BPF_F_ADJ_ROOM_NO_CSUM_RESET,
    bpf_adj_room_mode,
};
use aya_ebpf::helpers::generated::{
    bpf_skb_adjust_room, bpf_skb_change_head, bpf_skb_change_tail, bpf_skb_pull_data,
    bpf_skb_vlan_pop, bpf_skb_vlan_push,
};
use vnet_common::addr::Stations;
use vnet_common::reason::Reason;
use vnet_common::wire::ethernet::{self, Ethernet};
use vnet_common::wire::handover::Handover;
use vnet_common::wire::ipv4;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::packet::{pointer_field, put};
use super::{Door, Frame};

/// A frame that a TC program was called for.
pub struct TcFrame {
    context: *mut __sk_buff,
    start: usize,
    end: usize,
    /// Bytes at the front that were taken off and are still there.
    pending: usize,
}

/// Bytes of a VLAN tag, type included.
const TAG_BYTES: usize = 4;
/// Where a frame without tags says what its packet carries.
const IPV4_PROTOCOL_AT: usize = Ethernet::BYTES + 9;
const IPV6_PROTOCOL_AT: usize = Ethernet::BYTES + 6;
/// Above any headers that are ever taken off: an IPv6 header and all of Geneve's options.
const PENDING_MASK: usize = 0x1ff;
/// What must be left behind an Ethernet header for the kernel to take something off: an IPv6
/// header.
const LEFT_BYTES_MIN: u32 = 40;

/// A frame's own Ethernet header.
#[derive(Clone, Copy)]
struct Inner {
    stations: Stations,
    ethertype: [u8; 2],
}

/// The VLAN tags of a frame, each as the wire has it, in a word: bytes apart from each other would
/// be put together on the stack, where the verifier does not want them.
#[derive(Clone, Copy)]
struct Tags {
    count: usize,
    outer: u32,
    inner: u32,
}

impl Tags {
    const NONE: Self = Self {
        count: 0,
        outer: 0,
        inner: 0,
    };
}

impl TcFrame {
    /// The frame of this call. `headers_bytes` of it, or all there are, can then be read.
    ///
    /// # Safety
    ///
    /// `context` is the pointer that the kernel passed to the program, and the program lives as
    /// long as the frame.
    #[inline(always)]
    pub unsafe fn new(context: *mut __sk_buff, headers_bytes: u32) -> Self {
        let mut frame = Self {
            context,
            start: pointer_field!(context, "76"),
            end: pointer_field!(context, "80"),
            pending: 0,
        };
        frame.pull(headers_bytes);
        frame
    }

    /// A frame that has been looked at before.
    #[inline(always)]
    fn again(context: *mut __sk_buff, pending: usize) -> Self {
        Self {
            context,
            start: pointer_field!(context, "76"),
            end: pointer_field!(context, "80"),
            pending: pending & PENDING_MASK,
        }
    }

    /// After nothing is passed over any more.
    #[inline(always)]
    fn settled(&mut self) {
        self.pending = 0;
        self.moved();
    }

    /// Makes this many bytes readable, where there are as many.
    #[inline(always)]
    fn pull(&mut self, bytes: u32) {
        let linear = self.end.wrapping_sub(self.start) as u32;
        if linear < bytes && linear < self.raw_length() {
            let all = self.raw_length();
            let wanted = if bytes < all { bytes } else { all };
            // SAFETY: the helper checks the length; no pointer into the frame is kept. Where it
            // fails, the bytes are not there, which reading them tells.
            let _ = unsafe { bpf_skb_pull_data(self.context, wanted) };
            self.moved();
        }
    }

    /// After the bytes may have moved: every earlier pointer is void.
    #[inline(always)]
    fn moved(&mut self) {
        self.start = pointer_field!(self.context, "76");
        self.end = pointer_field!(self.context, "80");
    }

    /// Bytes, without a tag beside them, with those passed over.
    #[inline(always)]
    fn raw_length(&self) -> u32 {
        // SAFETY: the context outlives the program (see `new`).
        unsafe { (*self.context).len }
    }

    /// Whether a VLAN tag lies beside the bytes.
    #[inline(always)]
    pub fn has_tag(&self) -> bool {
        // SAFETY: as in `raw_length`.
        unsafe { (*self.context).vlan_present != 0 }
    }

    /// The mark that the kernel carries with the frame.
    #[inline(always)]
    pub fn mark(&self) -> u32 {
        // SAFETY: as in `raw_length`.
        unsafe { (*self.context).mark }
    }

    /// Whether the kernel's idea of what follows the Ethernet header is what stands there.
    #[inline(always)]
    pub fn knows_its_type(&self) -> bool {
        // SAFETY: as in `raw_length`.
        let protocol = unsafe { (*self.context).protocol } as u16;
        self.read::<[u8; 2]>(12) == Some(protocol.to_ne_bytes())
    }

    /// What a program before this one wrote in front of the frame, if anything.
    #[inline(always)]
    pub fn handover(&self) -> Option<Handover> {
        let metadata = pointer_field!(self.context, "140");
        if metadata.wrapping_add(Handover::BYTES) > self.start {
            return None;
        }
        // SAFETY: all of it lies before the frame; every pattern of bytes is a `Handover`.
        Some(unsafe { (metadata as *const Handover).read_unaligned() })
    }

    /// A pointer to a `T` at this offset, all of it inside the frame.
    #[inline(always)]
    fn at<T>(&self, offset: usize) -> Option<*mut T> {
        let start = self.start.wrapping_add(self.pending).wrapping_add(offset);
        if start.wrapping_add(size_of::<T>()) > self.end {
            return None;
        }
        Some(start as *mut T)
    }

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
        self.moved();
        if refused == 0 {
            self.pending = 0;
            Ok(())
        } else {
            Err(Reason::NoHeadroom)
        }
    }

    #[inline(always)]
    fn set_raw_length(&mut self, bytes: u32) -> Option<()> {
        // SAFETY: the helper checks the length; no pointer into the frame is kept.
        let refused = unsafe { bpf_skb_change_tail(self.context, bytes, 0) };
        self.moved();
        if refused == 0 { Some(()) } else { None }
    }

    /// Takes the tags that lie beside the frame.
    #[inline(always)]
    fn take_tags(&mut self) -> Result<Tags, Reason> {
        let mut tags = Tags::NONE;
        if !self.has_tag() {
            return Ok(tags);
        }
        tags.outer = self.pop().ok_or(Reason::NoHeadroom)?;
        tags.count = 1;
        if self.has_tag() {
            tags.inner = self.pop().ok_or(Reason::NoHeadroom)?;
            tags.count = 2;
            if self.has_tag() {
                return Err(Reason::NestedTags);
            }
        }
        Ok(tags)
    }

    /// Takes the tag beside the frame; the kernel then moves the next one there, if one is inside.
    #[inline(always)]
    fn pop(&mut self) -> Option<u32> {
        // SAFETY: as in `raw_length`.
        let (kind, tag) = unsafe { ((*self.context).vlan_proto, (*self.context).vlan_tci) };
        // SAFETY: the helper takes nothing but the context; no pointer into the frame is kept.
        let refused = unsafe { bpf_skb_vlan_pop(self.context) };
        self.moved();
        if refused == 0 {
            // This side of the crate runs on little-endian machines only (`bpfel`).
            let tag = u32::from((tag as u16).to_be());
            Some((kind & 0xffff) | tag.wrapping_shl(16))
        } else {
            None
        }
    }

    /// Puts a tag beside the frame.
    #[inline(always)]
    fn push(&mut self, word: u32) -> Result<(), Reason> {
        let (kind, tag) = (word as u16, u16::from_be(word.wrapping_shr(16) as u16));
        // SAFETY: the helper takes numbers; no pointer into the frame is kept.
        let refused = unsafe { bpf_skb_vlan_push(self.context, kind, tag) };
        self.moved();
        if refused == 0 {
            Ok(())
        } else {
            Err(Reason::NoHeadroom)
        }
    }

    /// The frame's own Ethernet header, without tags.
    #[inline(always)]
    fn inner(&self) -> Option<Inner> {
        Some(Inner {
            stations: self.read(0)?,
            ethertype: self.read(size_of::<Stations>())?,
        })
    }

    /// Writes the frame's own Ethernet header, tags included, behind this many bytes.
    #[inline(always)]
    fn write_inner(&mut self, at: usize, inner: &Inner, tags: &Tags) -> Option<()> {
        // Word by word, as for tags.
        let [first, middle, last] = inner.stations.words();
        self.write(at, &first)?;
        self.write(at.wrapping_add(4), &middle)?;
        self.write(at.wrapping_add(8), &last)?;
        let mut at = at.wrapping_add(size_of::<Stations>());
        if tags.count != 0 {
            self.write(at, &tags.outer)?;
            at = at.wrapping_add(TAG_BYTES);
        }
        if tags.count == 2 {
            self.write(at, &tags.inner)?;
            at = at.wrapping_add(TAG_BYTES);
        }
        self.write(at, &inner.ethertype)
    }

    /// Takes headers off a frame that is to be segmented: the kernel must know where its payload
    /// begins, so its tags go beside it.
    ///
    /// To the kernel it is a tunnel's packet for ever, which matters when it is UDP: its segmentation
    /// then looks for the tunnel's header, and loses the frame (`udp4_ufo_fragment`).
    #[inline(always)]
    fn settle_segments(&mut self, headers: usize, inner: &Inner) -> Result<(), Reason> {
        let (tags, ethertype) = self.inner_tags(inner.ethertype);
        let tag_bytes = tags.count.wrapping_mul(TAG_BYTES);
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
        if tags.count == 2 {
            self.push(tags.inner)?;
        }
        if tags.count != 0 {
            self.push(tags.outer)?;
        }
        Ok(())
    }

    /// The tags in the frame, and what follows them.
    #[inline(always)]
    fn inner_tags(&self, ethertype: [u8; 2]) -> (Tags, [u8; 2]) {
        let mut tags = Tags::NONE;
        let mut follows = ethertype;
        if is_tag(follows)
            && let (Some(tag), Some(next)) = (self.read(12), self.read(16))
        {
            tags.outer = tag;
            tags.count = 1;
            follows = next;
            if is_tag(follows)
                && let (Some(tag), Some(next)) = (self.read(16), self.read(20))
            {
                tags.inner = tag;
                tags.count = 2;
                follows = next;
            }
        }
        (tags, follows)
    }

    /// Makes room at the front for headers that the kernel need not know of.
    #[inline(always)]
    fn change_head(&mut self, bytes: usize) -> Result<(), Reason> {
        // SAFETY: the helper checks the room; no pointer into the frame is kept.
        let refused = unsafe { bpf_skb_change_head(self.context, bytes as u32, 0) };
        self.moved();
        if refused == 0 {
            Ok(())
        } else {
            Err(Reason::NoHeadroom)
        }
    }
}

#[inline(always)]
const fn is_tag(ethertype: [u8; 2]) -> bool {
    matches!(ethertype, ethernet::VLAN | ethernet::SERVICE_VLAN)
}

#[inline(always)]
const fn decap_flags(ethertype: [u8; 2]) -> u32 {
    match ethertype {
        ethernet::IPV6 => BPF_F_ADJ_ROOM_DECAP_L3_IPV6,
        _ => BPF_F_ADJ_ROOM_DECAP_L3_IPV4,
    }
}

impl Frame for TcFrame {
    const DOOR: Door = Door::Tc;

    #[inline(always)]
    fn device(&self) -> u32 {
        // SAFETY: as in `raw_length`.
        unsafe { (*self.context).ifindex }
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        // Without a branch: each would double the verifier's work behind it.
        // SAFETY: as in `raw_length`.
        let tag = unsafe { (*self.context).vlan_present } & 1;
        self.raw_length()
            .wrapping_add(tag.wrapping_mul(TAG_BYTES as u32))
            .wrapping_sub(self.pending as u32)
    }

    #[inline(always)]
    fn segment_bytes(&self) -> u32 {
        // SAFETY: as in `raw_length`.
        unsafe { (*self.context).gso_size }
    }

    #[inline(always)]
    fn read<T: FromBytes + Copy>(&self, offset: usize) -> Option<T> {
        let pointer = self.at::<T>(offset)?;
        // SAFETY: `at` checked the bounds; every pattern of bytes is a `T` (FromBytes).
        Some(unsafe { pointer.read_unaligned() })
    }

    #[inline(always)]
    fn write<T: IntoBytes + Immutable + Copy>(&mut self, offset: usize, value: &T) -> Option<()> {
        let to = self.at::<T>(offset)?;
        // SAFETY: `at` checked the bounds.
        unsafe { put(to, value) };
        Some(())
    }

    #[inline(always)]
    fn grow(&mut self, bytes: usize) -> Result<(), Reason> {
        let result = grow(self.context, self.pending, bytes);
        self.settled();
        result
    }

    #[inline(always)]
    fn encapsulate(&mut self, bytes: usize, over_ipv6: bool) -> Result<(), Reason> {
        if self.pending == bytes {
            self.pending = 0;
            if (self.read::<[u8; 2]>(12) == Some(ethernet::IPV6)) == over_ipv6 {
                return Ok(());
            }
            self.pending = bytes;
        }
        let result = encapsulate(self.context, self.pending, bytes, over_ipv6);
        self.settled();
        result
    }

    #[inline(always)]
    fn settle(&mut self) -> Result<(), Reason> {
        if self.pending == 0 {
            return Ok(());
        }
        let result = settle(self.context, self.pending);
        self.settled();
        result
    }

    #[inline(always)]
    fn shrink(&mut self, bytes: usize) -> Option<()> {
        if self.length() as usize <= bytes {
            return None;
        }
        self.pending = self.pending.wrapping_add(bytes) & PENDING_MASK;
        // Headers with long options may end beyond what is readable.
        self.pull((self.pending as u32).wrapping_add(Ethernet::BYTES as u32));
        Some(())
    }

    #[inline(always)]
    fn truncate(&mut self, bytes: u32) -> Option<()> {
        let excess = self.length().checked_sub(bytes)?;
        if excess == 0 {
            return Some(());
        }
        let left = self.raw_length().checked_sub(excess)?;
        self.set_raw_length(left)
    }
}

// Apart from the programs, because each of them would else have a copy for every kind of link, and
// all of their values on its stack (512 bytes, `MAX_BPF_STACK`).

/// As [`Frame::grow`], for a frame behind so many bytes.
#[inline(never)]
fn grow(context: *mut __sk_buff, pending: usize, bytes: usize) -> Result<(), Reason> {
    let mut frame = TcFrame::again(context, pending);
    if pending > bytes && frame.segment_bytes() == 0 {
        // What is between the first Ethernet header and the frame, less the room.
        let excess = pending.wrapping_sub(bytes) & PENDING_MASK;
        return frame.cut(excess, BPF_F_ADJ_ROOM_DECAP_L3_IPV4);
    }
    frame.settle()?;
    let tags = frame.take_tags()?;
    let inner = frame.inner().ok_or(Reason::Runt)?;
    frame.change_head(bytes.wrapping_add(tags.count.wrapping_mul(TAG_BYTES)))?;
    frame
        .write_inner(bytes, &inner, &tags)
        .ok_or(Reason::NoHeadroom)
}

/// As [`Frame::encapsulate`], for a frame behind so many bytes.
#[inline(never)]
fn encapsulate(
    context: *mut __sk_buff,
    pending: usize,
    bytes: usize,
    over_ipv6: bool,
) -> Result<(), Reason> {
    let mut frame = TcFrame::again(context, pending);
    frame.settle()?;
    let tags = frame.take_tags()?;
    let inner = frame.inner().ok_or(Reason::Runt)?;
    let tag_bytes = tags.count.wrapping_mul(TAG_BYTES);
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
#[inline(never)]
fn settle(context: *mut __sk_buff, pending: usize) -> Result<(), Reason> {
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
        frame.set_raw_length(longer).ok_or(Reason::NoHeadroom)?;
        frame.cut(headers, flags)?;
    }
    frame
        .write_inner(0, &inner, &Tags::NONE)
        .ok_or(Reason::Runt)?;
    if is_short {
        frame.set_raw_length(length).ok_or(Reason::NoHeadroom)?;
    }
    Ok(())
}
