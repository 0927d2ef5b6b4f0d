//! Do the paths that need no packages carry what is measured over them? And is a cable as a wire
//! one? Needs root.

use std::time::Duration;

use anyhow::{Result, ensure};
use bench::bed::Underlay;
use bench::cores::Cores;
use bench::iperf;
use bench::packages::Packages;
use bench::path::Path;
use bench::stations::{GUEST_ADDRESSES, Stations, VETH};
use bench::taps::{TAP, Taps};
use bench::workshop::Workshop;

fn workshop() -> Result<Workshop> {
    let cores = Cores::choose(false)?;
    Workshop::new(cores, Packages::below("/nonexistent".into()))
}

fn paths() -> impl Iterator<Item = Path> {
    Path::ALL
        .into_iter()
        .filter(|path| path.package().is_none())
}

#[test]
fn frames_cross_from_tap_to_tap() -> Result<()> {
    let workshop = workshop()?;
    for path in paths().filter(|path| path.joins_taps()) {
        let bed = workshop.bed(TAP)?;
        let taps = Taps::new(&bed)?;
        let _held = path.lay(&bed, &workshop.packages)?;
        taps.prove()?;
    }
    Ok(())
}

#[test]
fn guests_reach_each_other() -> Result<()> {
    let workshop = workshop()?;
    for path in paths().filter(|path| path.joins_stations()) {
        let bed = workshop.bed(VETH)?;
        let stations = Stations::new(&bed, path)?;
        let _held = path.lay(&bed, &workshop.packages)?;
        stations.prove(&bed)?;
    }
    Ok(())
}

#[test]
fn only_a_cable_with_its_offloads_on_carries_what_no_wire_does() -> Result<()> {
    let workshop = workshop()?;
    let bed = workshop.bed(VETH)?;
    let stations = Stations::new(&bed, Path::BridgeVxlan)?;
    let _held = Path::BridgeVxlan.lay(&bed, &workshop.packages)?;
    stations.prove(&bed)?;
    let [_, address] = GUEST_ADDRESSES;
    let server = iperf::Server::start(stations.server(&bed), workshop.cores, address)?;
    let as_a_wire = |underlay| {
        bed.set_underlay(underlay)?;
        let before = bed.carried()?;
        let client = stations.client(&bed);
        server.measure(client, workshop.cores, 1, Duration::from_secs(1))?;
        anyhow::Ok(bed.ensure_as_a_wire(before))
    };
    ensure!(as_a_wire(Underlay::OffloadsOn)?.is_err());
    as_a_wire(Underlay::OffloadsOff)?
}
