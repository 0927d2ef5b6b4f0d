//! Which rule is the strongest for these addresses? One lookup a shape that has rules, strongest
//! first: at most twelve, however many rules there are.

use vnet_common::addr::{NetworkId, Stations};
use vnet_common::rule::Shape;
use vnet_common::table::action::Action;
use vnet_common::table::rule::RuleKey;

use crate::tables::Tables;

/// The action of the strongest rule, or [`Action::NONE`] where none matches.
#[inline(always)]
pub fn strongest<T: Tables>(
    tables: &T,
    network: NetworkId,
    shapes: u32,
    stations: Stations,
) -> Action {
    let (source, destination) = (stations.source(), stations.destination());
    let mut strength = Shape::COUNT;
    while strength > 0 {
        strength = strength.wrapping_sub(1);
        let Some(shape) = Shape::new(strength) else {
            continue;
        };
        if shapes & shape.bit() == 0 {
            continue;
        }
        let key = RuleKey::new(network, shape, stations);
        let found = tables
            .rule(&key)
            .and_then(|entry| entry.strongest(source, destination));
        if let Some(alternative) = found {
            return alternative.action;
        }
    }
    Action::NONE
}
