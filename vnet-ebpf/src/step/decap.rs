//! The outer headers off, and the padding behind them.

use vnet_common::reason::Reason;
use vnet_common::wire::ethernet::Ethernet;
use vnet_common::wire::geneve;

use super::admit::{Admitted, Outer};
use crate::frame::Frame;

/// Leaves the inner frame.
///
/// # Errors
///
/// Inside is no Ethernet frame, or one that is too short.
#[inline(always)]
pub fn decap<F: Frame>(frame: &mut F, outer: &Outer, admitted: &Admitted) -> Result<(), Reason> {
    if admitted.protocol != geneve::ETHERNET {
        return Err(Reason::NotEthernet);
    }
    if outer.end < admitted.headers.wrapping_add(Ethernet::BYTES) {
        return Err(Reason::Runt);
    }
    frame
        .truncate(outer.end as u32)
        .ok_or(Reason::OuterHeader)?;
    frame.shrink(admitted.headers).ok_or(Reason::Runt)
}
