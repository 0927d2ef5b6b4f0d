//! Which programs are under test, and are they what the sources say?
//!
//! Tests run programs that cargo does not build for them: a test crate cannot ask for the programs
//! of another crate. So what lies beside the test is compared with its sources, as cargo listed
//! them when it built it, and a test against last week's agent ends with a message.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, bail};

/// The programs under test.
#[derive(Clone, Debug)]
pub struct Binaries {
    /// The daemon.
    pub agent: PathBuf,
    /// The client.
    pub vnetctl: PathBuf,
}

impl Binaries {
    /// What `VNET_AGENT` and `VNETCTL` name, or else what cargo put beside the running program
    /// (`target/debug` for a test of a debug build).
    ///
    /// # Errors
    ///
    /// Where there is none, or it is older than its sources; the error says how to build it.
    pub fn find() -> Result<Self> {
        Ok(Self {
            agent: find_program("vnet-agent", "VNET_AGENT", "")?,
            vnetctl: find_program("vnetctl", "VNETCTL", "")?,
        })
    }

    /// The same with an agent whose programs differ: the build in which they log. `VNET_AGENT_LOG`
    /// names another.
    ///
    /// # Errors
    ///
    /// As for [`Self::find`].
    pub fn find_with_log() -> Result<Self> {
        let feature = " --features log --bin vnet-agent-log";
        Ok(Self {
            agent: find_program("vnet-agent-log", "VNET_AGENT_LOG", feature)?,
            ..Self::find()?
        })
    }
}

fn find_program(name: &str, variable: &str, options: &str) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(variable).filter(|path| !path.is_empty()) {
        let path = PathBuf::from(path);
        return path
            .canonicalize()
            .with_context(|| format!("{variable} names {}", path.display()));
    }
    let ourselves = std::env::current_exe()?;
    // Tests are in `deps`, one below the programs; a program is beside them.
    let found = ourselves
        .ancestors()
        .skip(1)
        .take(2)
        .map(|place| place.join(name))
        .find(|path| path.is_file());
    let cure = format!(
        "build it in the same profile (cargo build -p vnet-agent{options}), or name one in {variable}"
    );
    let Some(program) = found else {
        bail!("there is no {name} beside {}: {cure}", ourselves.display());
    };
    if let Some(source) = newer_source(&program)? {
        bail!(
            "{} is older than {}: {cure}",
            program.display(),
            source.display()
        );
    }
    Ok(program)
}

/// A source that was changed after the program was built, if there is one.
fn newer_source(program: &Path) -> Result<Option<PathBuf>> {
    let list = program.with_extension("d");
    let text = match fs::read_to_string(&list) {
        Ok(text) => text,
        // Not built by cargo, or moved: whoever put it there knows.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", list.display())),
    };
    let built = program.metadata()?.modified()?;
    let changed_since = |source: &PathBuf| {
        // What was removed or renamed since has left its mark on a file that names it.
        let changed = source.metadata().ok().filter(fs::Metadata::is_file);
        changed
            .and_then(|file| file.modified().ok())
            .unwrap_or(SystemTime::UNIX_EPOCH)
            > built
    };
    Ok(sources(&text).into_iter().find(changed_since))
}

/// The files that cargo says a program is made of: `PROGRAM: FILE FILE …`, a space in a name
/// written with a backslash before it.
fn sources(list: &str) -> Vec<PathBuf> {
    let Some((_, files)) = list.lines().next().and_then(|line| line.split_once(": ")) else {
        return Vec::new();
    };
    let spared = files.replace("\\ ", "\0");
    spared
        .split(' ')
        .filter(|file| !file.is_empty())
        .map(|file| file.replace('\0', " ").into())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn cargos_list_of_sources_is_understood() {
        let list = "/t/debug/agent: /s/a.rs /s/with\\ space.rs\n";
        assert_eq!(
            sources(list),
            [PathBuf::from("/s/a.rs"), PathBuf::from("/s/with space.rs")]
        );
        assert!(sources("").is_empty());
    }

    #[test]
    fn a_program_older_than_a_source_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name| directory.path().join(name);
        let (source, program) = (path("main.rs"), path("program"));
        fs::write(&source, "").unwrap();
        fs::write(&program, "").unwrap();
        assert_eq!(newer_source(&program).unwrap(), None, "no list");
        let list = format!("{}: {} /gone.rs\n", program.display(), source.display());
        fs::write(path("program.d"), list).unwrap();
        let touch = |file: &Path, age_s| {
            let time = SystemTime::now() - Duration::from_secs(age_s);
            fs::File::options()
                .write(true)
                .open(file)
                .unwrap()
                .set_modified(time)
                .unwrap();
        };
        touch(&source, 20);
        touch(&program, 10);
        assert_eq!(newer_source(&program).unwrap(), None);
        touch(&program, 30);
        assert_eq!(newer_source(&program).unwrap(), Some(source));
    }
}
