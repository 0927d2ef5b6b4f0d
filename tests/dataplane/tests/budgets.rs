//! How much do the programs ask of this machine's verifier? Compared with `budget.toml`
//! ([`dataplane::budget`]).

use dataplane::budget;
use dataplane::kernel::Kernel;
use dataplane::machine::on_a_machine;

#[test]
fn no_program_grows_by_more_than_a_fifth() {
    let wrong = on_a_machine(|machine| {
        let kernel = Kernel::load(machine)?;
        budget::check(&budget::running_kernel()?, &budget::costs(&kernel.plane)?)
    })
    .unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
