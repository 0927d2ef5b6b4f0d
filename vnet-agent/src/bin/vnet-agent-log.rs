//! The daemon of a developer's build: its programs log every frame. Under a name of its own, so that
//! it stands beside the one for use.

#[path = "vnet-agent.rs"]
mod daemon;

fn main() -> std::process::ExitCode {
    daemon::main()
}
