//! What is in the kernel object, and what does it cost the verifier?

use std::collections::BTreeSet;

use aya::EbpfLoader;
use dataplane::machine::on_a_machine;
use vnet_agent::dataplane::object::OBJECT;
use vnet_common::name;

/// Every program of the object.
const PROGRAMS: [&str; 10] = [
    name::PORT_XDP,
    name::UNDERLAY_XDP,
    name::AGENT_XDP,
    name::PORT_TC,
    name::UNDERLAY_TC,
    name::AGENT_TC,
    name::REDIRECT_ERROR,
    name::FRAME_REFUSED,
    name::DEVICE_REFUSED,
    name::GENERIC_REFUSED,
];

#[test]
fn it_has_exactly_the_programs_and_maps_of_the_names() {
    on_a_machine(|_| {
        let object = EbpfLoader::new().load(OBJECT).unwrap();
        let programs: BTreeSet<&str> = object.programs().map(|(name, _)| name).collect();
        assert_eq!(programs, BTreeSet::from(PROGRAMS));
        // Constants that the agent sets before loading are a map to the kernel.
        let constants = |name: &&str| !name.starts_with('.');
        let maps: BTreeSet<&str> = object
            .maps()
            .map(|(name, _)| name)
            .filter(constants)
            .collect();
        assert_eq!(maps, BTreeSet::from(name::PINNED_MAPS));
        // The kernel cuts names after 15 bytes.
        let shown = |name: &&str| name.get(..15).unwrap_or(name).to_owned();
        let names: BTreeSet<String> = programs.iter().chain(&maps).map(shown).collect();
        assert_eq!(
            names.len(),
            programs.len() + maps.len(),
            "two look the same to the kernel"
        );
    });
}
