//! On which machine, and is it ours alone?
//!
//! Figures mean nothing without it, so it is told before them.

use std::fs;
use std::thread;

/// The machine in one line: processor, cores, kernel.
#[must_use]
pub fn description() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let processors = read("/proc/cpuinfo");
    let processor = processor(&processors).unwrap_or("an unknown processor");
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{processor}, {} cores, Linux {}", cores(), kernel.trim())
}

/// What other programs want of the cores, if that is more than half of them.
#[must_use]
pub fn company() -> Option<String> {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let recent: f64 = load.split(' ').next()?.parse().ok()?;
    let is_much = recent > cores() as f64 / 2.0;
    is_much.then(|| {
        let cores = cores();
        format!("the machine is busy (load {recent} on {cores} cores): the spread will show it")
    })
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

fn processor(text: &str) -> Option<&str> {
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    let (_, name) = line.split_once(':')?;
    Some(name.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_found_among_other_lines() {
        let text = "processor\t: 0\nmodel name\t: Some CPU @ 2.5GHz\nflags\t: fpu\n";
        assert_eq!(processor(text), Some("Some CPU @ 2.5GHz"));
        assert_eq!(processor("processor\t: 0\n"), None);
    }
}
