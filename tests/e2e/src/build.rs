//! What if the agent were another build? Copies of the agent under test that carry another kernel
//! object, and what tells on a device which object its program is of.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use lab::{Binaries, Host};
use object::{Object, ObjectSection, ObjectSymbol};
use vnet_agent::dataplane::object::OBJECT;

/// `exit` (`include/uapi/linux/bpf.h`): as the first instruction it returns what nobody has set.
const EXIT: [u8; 8] = [0x95, 0, 0, 0, 0, 0, 0, 0];
/// How constants of an object lie in a program that embeds it (`aya::include_bytes_aligned!`).
const ALIGNMENT: usize = 8;

/// A copy of the agent, in this directory, with one program that no kernel takes.
///
/// # Errors
///
/// The agent carries another object than this test was built with.
pub fn with_refused(directory: &Path, program: &str) -> Result<Binaries> {
    let usual = Binaries::find()?;
    let mut bytes = fs::read(&usual.agent)?;
    let start = place_of(OBJECT, &bytes).with_context(|| {
        let agent = usual.agent.display();
        format!("{agent} and this test carry different objects; build the agent again")
    })?;
    let first = start + first_instruction(program)?;
    bytes
        .get_mut(first..first + EXIT.len())
        .context("a place in the object")?
        .copy_from_slice(&EXIT);
    let agent = directory.join(format!("refused-{program}"));
    fs::write(&agent, bytes)?;
    fs::set_permissions(&agent, fs::Permissions::from_mode(0o755))?;
    Ok(Binaries { agent, ..usual })
}

fn place_of(wanted: &[u8], bytes: &[u8]) -> Option<usize> {
    let head = wanted.get(..64)?;
    let places = (0..bytes.len()).step_by(ALIGNMENT);
    let mut heads = places.filter(|&at| bytes.get(at..).is_some_and(|rest| rest.starts_with(head)));
    heads.find(|&at| bytes.get(at..).is_some_and(|rest| rest.starts_with(wanted)))
}

/// Where in the object the program begins.
fn first_instruction(program: &str) -> Result<usize> {
    let file = object::File::parse(OBJECT)?;
    let symbol = file.symbols().find(|symbol| symbol.name() == Ok(program));
    let symbol = symbol.with_context(|| format!("the object has no {program}"))?;
    let section = symbol.section_index().context("a program has a section")?;
    let (start, _) = file
        .section_by_index(section)?
        .file_range()
        .context("a section of programs is in the file")?;
    Ok(usize::try_from(start + symbol.address())?)
}

/// The kernel's digest of the XDP program on the device: the same for the same instructions.
///
/// # Errors
///
/// There is none.
pub fn digest_on(host: &Host, device: &str) -> Result<String> {
    let shown = host
        .run(["ip", "-d", "link", "show", "dev", device])?
        .stdout;
    let digest = shown.split_once("prog/xdp").and_then(|(_, program)| {
        let mut words = program.split_whitespace().skip_while(|word| *word != "tag");
        words.nth(1)
    });
    Ok(digest.with_context(|| shown.clone())?.to_owned())
}
