//! What did the verifier make of the programs? For budgets: a program that grows is seen before a
//! kernel with smaller limits refuses it.

use super::DataPlane;

/// A loaded program, as the kernel shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramFigures {
    /// Its name.
    pub name: String,
    /// Instructions that the verifier went through, all paths together; nothing before Linux 5.16.
    pub verified_instructions: Option<u32>,
    /// Bytes of its instructions, as the kernel runs them before compiling.
    pub translated_bytes: Option<u32>,
}

impl DataPlane {
    /// Every program that is loaded, in the order of their names.
    pub fn programs(&self) -> Vec<ProgramFigures> {
        let loaded = self.object.programs().filter_map(|(name, program)| {
            // A program that was not loaded has none.
            let info = program.info().ok()?;
            Some(ProgramFigures {
                name: name.to_owned(),
                verified_instructions: info.verified_instruction_count(),
                translated_bytes: info.size_translated(),
            })
        });
        let mut figures: Vec<ProgramFigures> = loaded.collect();
        figures.sort_by(|a, b| a.name.cmp(&b.name));
        figures
    }
}
