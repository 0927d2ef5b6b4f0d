//! Everything that the agent writes into the kernel, as one value.

use std::collections::{BTreeMap, BTreeSet};

use vnet_common::table::admission::{AdmissionEntry, AdmissionKey};
use vnet_common::table::link::LinkEntry;
use vnet_common::table::network::NetworkEntry;
use vnet_common::table::port::PortEntry;
use vnet_common::table::rule::{RuleEntry, RuleKey};
use vnet_common::table::setting::Setting;
use vnet_common::table::underlay::UnderlayEntry;

use crate::model::attachment::Attachment;

/// The tables that the agent writes, and the devices with programs on them.
///
/// As read from the kernel, or as wanted; in the latter the generations are 0, because they follow
/// from the difference.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Single values; none before the first start.
    pub setting: Option<Setting>,
    /// By device.
    pub ports: BTreeMap<u32, PortEntry>,
    /// By device.
    pub underlays: BTreeMap<u32, UnderlayEntry>,
    /// By slot.
    pub networks: BTreeMap<u32, NetworkEntry>,
    /// The highest generation that any network ever had: a flow of a network that went may wait for
    /// it to come back, so no generation is used twice.
    pub generation: u32,
    /// By link id.
    pub links: BTreeMap<u32, LinkEntry>,
    /// By claim.
    pub admissions: BTreeMap<AdmissionKey, AdmissionEntry>,
    /// By shape and exact addresses.
    pub rules: BTreeMap<RuleKey, RuleEntry>,
    /// Programs on devices.
    pub attachments: BTreeSet<Attachment>,
}
