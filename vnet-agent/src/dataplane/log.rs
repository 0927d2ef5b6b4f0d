//! What do the programs say? Nothing, but in a developer's build (`cargo build -p vnet-agent
//! --features log`, which makes `vnet-agent-log`): then their lines join the agent's log.

use aya::Ebpf;
use aya_log::EbpfLogger;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tracing::{info, warn};

/// The map that only an object with log lines has.
const MAP: &str = "AYA_LOGS";

/// Joins the programs' lines to the log, if the object has any. They end with the process.
pub(super) fn follow(object: &mut Ebpf) {
    if object.map(MAP).is_none() {
        return;
    }
    let logger = match EbpfLogger::init(object) {
        Ok(logger) => logger,
        Err(error) => {
            warn!(%error, "the programs' log lines cannot be read");
            return;
        }
    };
    // SAFETY: the logger owns its descriptor and keeps the same one until it is dropped, which
    // `AsyncFd` does after it has stopped watching.
    let watched = unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) };
    let Ok(mut watched) = watched else {
        warn!("the programs' log lines cannot be waited for");
        return;
    };
    info!("the programs log every frame; this build is not for use");
    tokio::spawn(async move {
        while let Ok(mut ready) = watched.readable_mut().await {
            ready.get_inner_mut().flush();
            ready.clear_ready();
        }
    });
}
