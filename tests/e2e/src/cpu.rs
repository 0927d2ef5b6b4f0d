//! Which CPU does this thread run on, and which threads keep out of each other's way?

use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;

const THIS_THREAD: Pid = Pid::from_raw(0);

/// The CPU that this thread runs on just now.
///
/// # Errors
///
/// The kernel does not tell.
pub fn here() -> Result<usize> {
    Ok(sched_getcpu()?)
}

/// Keeps this thread, and those that it starts from now on, on one CPU.
///
/// # Errors
///
/// We may not run there.
pub fn stay_on(cpu: usize) -> Result<()> {
    let mut only = CpuSet::new();
    only.set(cpu)?;
    Ok(sched_setaffinity(THIS_THREAD, &only)?)
}

/// The first two CPUs that this thread may run on.
///
/// # Errors
///
/// There is only one.
pub fn two() -> Result<[usize; 2]> {
    let allowed = sched_getaffinity(THIS_THREAD)?;
    let mut cpus = (0..CpuSet::count()).filter(|&cpu| allowed.is_set(cpu).unwrap_or(false));
    let two = cpus.next().zip(cpus.next());
    let (first, second) = two.context("two CPUs are needed")?;
    Ok([first, second])
}
