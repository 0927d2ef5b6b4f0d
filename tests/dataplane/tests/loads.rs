//! Does this kernel take the programs?
use vnet_agent::dataplane::DataPlane;
use vnet_agent::model::configuration::Limits;
#[test]
fn the_programs_load_and_go() {
    let dir = std::path::Path::new("/tmp/bpffs/vt");
    let plane = DataPlane::open(dir, &Limits::default());
    match plane { Ok(p) => println!("refused counted {}", p.counts_refused()), Err(e) => panic!("{e}") }
    println!("{:?}", DataPlane::remove(dir).unwrap());
}
