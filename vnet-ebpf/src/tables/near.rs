//! Where does this CPU find again what it looked up a moment ago? In arrays that it has for itself, which
//! it reaches without a call (Linux 6.10; before, with one). See `vnet_common::table::near`.
//!
//! Nobody else writes them, and no run on this CPU begins before the one that goes on has ended.
#![expect(unsafe_code, reason = "values of maps are reached through pointers")]

use vnet_common::table::admission::{AdmissionEntry, AdmissionKey};
use vnet_common::table::flow::{FlowEntry, FlowKey};
use vnet_common::table::near::{NearAdmission, NearFlow, NearPort};
use vnet_common::table::port::PortEntry;

use super::kernel::Maps;

/// Read before what is copied: a change that comes in between is then followed by a higher one.
#[inline(always)]
fn epoch(maps: &Maps) -> Option<u64> {
    let epoch = maps.epochs.get_ptr(0)?;
    // SAFETY: a live map value, aligned; the agent changes it at any time.
    Some(unsafe { (&raw const (*epoch).number).read_volatile() })
}

/// The port that this device is. The entry stays as it is until this is asked again.
#[inline(always)]
pub fn port<'a>(maps: &Maps, device: u32) -> Option<&'a PortEntry> {
    let epoch = epoch(maps)?;
    let near = maps.near_ports.get_ptr_mut(NearPort::place(device))?;
    // SAFETY: this CPU's own value.
    let near = unsafe { &mut *near };
    if near.device != device || near.epoch != epoch {
        // SAFETY: an entry that the agent replaces stays readable until the program ends (RCU); what
        // is torn by a later one is of an epoch that is over then.
        unsafe { copy(&raw mut near.entry, maps.ports.get(device)?) };
        near.device = device;
        near.epoch = epoch;
    }
    Some(&near.entry)
}

/// What this claim is admitted to. The entry stays as it is until this is asked again.
#[inline(always)]
pub fn admission<'a>(maps: &Maps, key: &AdmissionKey) -> Option<&'a AdmissionEntry> {
    let epoch = epoch(maps)?;
    let near = maps
        .near_admissions
        .get_ptr_mut(NearAdmission::place(key))?;
    // SAFETY: this CPU's own value.
    let near = unsafe { &mut *near };
    if near.key != *key || near.epoch != epoch {
        // SAFETY: as in `port`.
        unsafe { copy(&raw mut near.entry, maps.admissions.get(key)?) };
        near.key = *key;
        near.epoch = epoch;
    }
    Some(&near.entry)
}

/// Copies in whole words: left to itself the compiler calls a function that copies bytes.
///
/// # Safety
///
/// `to` and `from` are good for a `T`, aligned to eight bytes, and do not overlap.
#[inline(always)]
unsafe fn copy<T>(to: *mut T, from: *const T) {
    const { assert!(size_of::<T>().is_multiple_of(size_of::<u64>())) };
    let (to, from) = (to.cast::<u64>(), from.cast::<u64>());
    let mut at = 0usize;
    while at < size_of::<T>() {
        // SAFETY: inside of both, as the caller says.
        unsafe { to.byte_add(at).write_volatile(from.byte_add(at).read()) };
        at = at.wrapping_add(size_of::<u64>());
    }
}

/// In words that begin where the verifier wants words of the stack.
#[inline(always)]
const fn is_same(a: &FlowKey, b: &FlowKey) -> bool {
    let ([a, b], [c, d]) = (NearFlow::words(a), NearFlow::words(b));
    (a ^ c) | (b ^ d) == 0
}

/// Where a flow is counted.
pub struct Found {
    /// In its place, or in the table.
    pub entry: *mut FlowEntry,
    is_near: bool,
}

impl Found {
    /// Whether [`settle`] should be called, after the frame was counted.
    #[inline(always)]
    pub const fn is_due(&self, entry: &FlowEntry) -> bool {
        if cfg!(feature = "without-flow-counters") {
            return !self.is_near;
        }
        let frames = if self.is_near {
            NearFlow::FRAMES_TO_WRITE_BACK
        } else {
            NearFlow::FRAMES_TO_PLACE
        };
        entry.packets & frames.wrapping_sub(1) == 0
    }
}

#[inline(always)]
fn flow_place(maps: &Maps, key: &FlowKey) -> Option<*mut NearFlow> {
    let (entry, place) = NearFlow::place(key);
    let places = maps.near_flows.get_ptr_mut(entry)?;
    // SAFETY: `place` is one of those that an entry has.
    Some(unsafe { (&raw mut (*places).places).cast::<NearFlow>().add(place) })
}

/// The entry of a flow.
#[inline(always)]
pub fn flow(maps: &Maps, key: &FlowKey) -> Option<Found> {
    let near = flow_place(maps, key)?;
    // SAFETY: this CPU's own value.
    let is_near = is_same(unsafe { &(*near).key }, key);
    let entry = if is_near {
        // SAFETY: as above.
        unsafe { &raw mut (*near).entry }
    } else {
        maps.flows.get_ptr_mut(key)?
    };
    Some(Found { entry, is_near })
}

/// Writes back what is counted in the place of this flow, and gives it the place if it has not got it.
#[inline(always)]
pub fn settle(maps: &Maps, key: &FlowKey) -> Option<()> {
    // SAFETY: this CPU's own value.
    let near = unsafe { &mut *flow_place(maps, key)? };
    let (held, counted) = (&near.key, &near.entry);
    if held.network.get() != 0 {
        match maps.flows.get_ptr_mut(held) {
            // What a flow that has a place carries is counted there and nowhere else.
            Some(entry) => {
                // SAFETY: as above.
                unsafe { copy(entry, counted) };
            }
            // Others have pushed it out, but it is in use. Without room it keeps its place alone.
            None => {
                let _ = maps.flows.insert(held, counted, 0);
            }
        }
    }
    if !is_same(held, key) {
        let entry = maps.flows.get_ptr_mut(key)?;
        let [first, last] = NearFlow::words(key);
        let words = (&raw mut near.key).cast::<u64>();
        // In this order, because the agent reads meanwhile: what has no network is nobody's place.
        // SAFETY: as above; a key is two words, and begins a value of the map.
        unsafe {
            words.write_volatile(0);
            copy(&raw mut near.entry, entry);
            words.add(1).write_volatile(last);
            words.write_volatile(first);
        }
    }
    Some(())
}
