//! What is measured of the overlay works: a star forms, is reshaped, and loses nothing at rest.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bench::cores::Cores;
use bench::paced::{Stream, while_sending};
use bench::packages::Packages;
use bench::part::overlay::shapes::{bus, mesh};
use bench::workshop::Workshop;

#[test]
fn a_star_becomes_a_mesh_and_a_bus() -> Result<()> {
    let workshop = Workshop::new(
        Cores::choose(false)?,
        Packages::below("/nonexistent".into()),
    )?;
    let constellation = workshop.constellation(3)?;
    constellation.form()?;
    let star = constellation.topology()?;
    ensure!(star.links.len() == 3, "{star:?}");
    for (wanted, links) in [
        (mesh(&star, &constellation), 6),
        (bus(&star, &constellation), 5),
        (star, 3),
    ] {
        ensure!(wanted.links.len() == links, "{wanted:?}");
        constellation.apply(&wanted)?;
    }
    let [first, .., last] = constellation.agents() else {
        anyhow::bail!("there are three agents");
    };
    let streams = [(first, last), (last, first)].map(|(from, to)| Stream {
        from: &from.guest,
        to: &to.guest,
        pause: Duration::from_micros(100),
    });
    let arrived = while_sending(&streams, || {
        thread::sleep(Duration::from_millis(200));
        Ok(())
    })?;
    let there = arrived.first().context("there are two streams")?;
    ensure!(there.sent > 0, "nothing was sent");
    for stream in &arrived {
        ensure!(stream.lost() == 0 && stream.doubled == 0, "{stream:?}");
    }
    Ok(())
}
