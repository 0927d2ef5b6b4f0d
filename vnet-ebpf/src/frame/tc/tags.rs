//! Where are a frame's VLAN tags? Beside the bytes, where the kernel keeps the outermost, or among
//! them, where they lie on the wire.
#![expect(unsafe_code, reason = "the kernel's helpers take its own pointer")]

use aya_ebpf::helpers::generated::{bpf_skb_vlan_pop, bpf_skb_vlan_push};
use vnet_common::addr::Stations;
use vnet_common::reason::Reason;
use vnet_common::wire::ethernet::{self, TAG_BYTES};

use super::TcFrame;
use crate::frame::Frame;

/// A frame's own Ethernet header.
#[derive(Clone, Copy)]
pub(super) struct Inner {
    pub(super) stations: Stations,
    pub(super) ethertype: [u8; 2],
}

/// The VLAN tags of a frame, each as the wire has it, in a word: bytes apart from each other would
/// be put together on the stack, where the verifier does not want them.
#[derive(Clone, Copy)]
pub(super) struct Tags {
    pub(super) count: usize,
    outer: u32,
    inner: u32,
}

impl Tags {
    pub(super) const NONE: Self = Self {
        count: 0,
        outer: 0,
        inner: 0,
    };

    /// Bytes that they take in the frame.
    #[inline(always)]
    pub(super) const fn bytes(&self) -> usize {
        self.count.wrapping_mul(TAG_BYTES)
    }
}

impl TcFrame {
    /// Takes the tags that lie beside the frame.
    #[inline(always)]
    pub(super) fn take_tags(&mut self) -> Result<Tags, Reason> {
        let mut tags = Tags::NONE;
        if !self.has_tag() {
            return Ok(tags);
        }
        tags.outer = self.pop()?;
        tags.count = 1;
        if self.has_tag() {
            tags.inner = self.pop()?;
            tags.count = 2;
            if self.has_tag() {
                return Err(Reason::NestedTags);
            }
        }
        Ok(tags)
    }

    /// Takes the tag beside the frame; the kernel then moves the next one there, if one is inside.
    #[inline(always)]
    fn pop(&mut self) -> Result<u32, Reason> {
        // SAFETY: as in `raw_length`.
        let (kind, tag) = unsafe { ((*self.context).vlan_proto, (*self.context).vlan_tci) };
        // SAFETY: the helper takes nothing but the context; no pointer into the frame is kept.
        let refused = unsafe { bpf_skb_vlan_pop(self.context) };
        self.after(refused)?;
        // This side of the crate runs on little-endian machines only (`bpfel`).
        let tag = u32::from((tag as u16).to_be());
        Ok((kind & 0xffff) | tag.wrapping_shl(16))
    }

    /// Puts a tag beside the frame.
    #[inline(always)]
    fn push(&mut self, word: u32) -> Result<(), Reason> {
        let (kind, tag) = (word as u16, u16::from_be(word.wrapping_shr(16) as u16));
        // SAFETY: the helper takes numbers; no pointer into the frame is kept.
        let refused = unsafe { bpf_skb_vlan_push(self.context, kind, tag) };
        self.after(refused)
    }

    /// The frame's own Ethernet header, without tags.
    #[inline(always)]
    pub(super) fn inner(&self) -> Option<Inner> {
        Some(Inner {
            stations: self.read(0)?,
            ethertype: self.read(size_of::<Stations>())?,
        })
    }

    /// Writes the frame's own Ethernet header, tags included, behind this many bytes.
    #[inline(always)]
    pub(super) fn write_inner(&mut self, at: usize, inner: &Inner, tags: &Tags) -> Option<()> {
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

    /// Puts these tags beside the frame.
    #[inline(always)]
    pub(super) fn put_tags(&mut self, tags: &Tags) -> Result<(), Reason> {
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
    pub(super) fn inner_tags(&self, ethertype: [u8; 2]) -> (Tags, [u8; 2]) {
        let mut tags = Tags::NONE;
        let mut follows = ethertype;
        if ethernet::is_tag(follows)
            && let (Some(tag), Some(next)) = (self.read(12), self.read(16))
        {
            tags.outer = tag;
            tags.count = 1;
            follows = next;
            if ethernet::is_tag(follows)
                && let (Some(tag), Some(next)) = (self.read(16), self.read(20))
            {
                tags.inner = tag;
                tags.count = 2;
                follows = next;
            }
        }
        (tags, follows)
    }
}
