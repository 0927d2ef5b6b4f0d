//! How much of the stack can a program need? Input: the object. Output: bytes by program, of the 512
//! that the kernel grants (`MAX_BPF_STACK`).
//!
//! As the verifier counts (Linux 6.18, `check_max_stack_depth`): each function's deepest access,
//! rounded up to 32, added up along the deepest chain of calls. The kernel tells it in its log only,
//! which the loader does not show of a program that loads.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use aya_obj::Object;
use aya_obj::generated::bpf_insn;

/// The frame pointer.
const FRAME: u8 = 10;
/// `BPF_JMP | BPF_CALL`, where the source register says that it is to a function of the program.
const CALL: u8 = 0x85;
const TO_OWN_FUNCTION: u8 = 1;
/// `BPF_ALU64 | BPF_ADD | BPF_K`: how the address of something on the stack is made.
const ADD: u8 = 0x07;
/// `BPF_ALU64 | BPF_MOV | BPF_X`.
const MOVE: u8 = 0xbf;

/// The stack of each program.
///
/// # Errors
///
/// The object cannot be read.
pub fn depths(object: &[u8]) -> Result<BTreeMap<String, u32>> {
    let mut object = Object::parse(object)?;
    let sections = object.functions.keys().map(|(section, _)| *section);
    let sections = sections.collect();
    object.relocate_calls(&sections)?;
    let programs = object.programs.iter().map(|(name, program)| {
        let function = object.functions.get(&program.function_key());
        let function = function.with_context(|| format!("{name} has no instructions"))?;
        Ok((name.clone(), depth(&function.instructions)))
    });
    programs.collect()
}

fn depth(instructions: &[bpf_insn]) -> u32 {
    let targets = instructions.iter().enumerate();
    let starts: BTreeSet<usize> = targets
        .filter_map(|(at, instruction)| called(at, instruction))
        .chain([0])
        .collect();
    chain(instructions, &starts, 0)
}

/// The depth of the function that starts here, with the deepest that it calls. The kernel has made
/// sure that there is no recursion; an object that has some does not load.
fn chain(instructions: &[bpf_insn], starts: &BTreeSet<usize>, start: usize) -> u32 {
    let end = starts.range(start + 1..).next();
    let end = end.copied().unwrap_or(instructions.len());
    let body = instructions.get(start..end).unwrap_or_default();
    let deepest = body.iter().enumerate();
    let deepest = deepest
        .filter_map(|(at, instruction)| called(start + at, instruction))
        .map(|target| chain(instructions, starts, target))
        .max();
    own(body).max(1).next_multiple_of(32) + deepest.unwrap_or(0)
}

fn called(at: usize, instruction: &bpf_insn) -> Option<usize> {
    let is_own = instruction.code == CALL && instruction.src_reg() == TO_OWN_FUNCTION;
    let target = i64::try_from(at).ok()? + 1 + i64::from(instruction.imm);
    usize::try_from(target).ok().filter(|_| is_own)
}

/// The deepest place that one function reaches.
fn own(body: &[bpf_insn]) -> u32 {
    let accesses = body.iter().map(|instruction| {
        let class = instruction.code & 0x07;
        let base = match class {
            // Loads (BPF_LDX).
            1 => instruction.src_reg(),
            // Stores (BPF_ST, BPF_STX).
            2 | 3 => instruction.dst_reg(),
            _ => return 0,
        };
        let is_ours = base == FRAME;
        if is_ours {
            i32::from(instruction.off)
        } else {
            0
        }
    });
    let addresses = body.windows(2).map(|pair| match pair {
        [copy, add]
            if copy.code == MOVE
                && copy.src_reg() == FRAME
                && add.code == ADD
                && add.dst_reg() == copy.dst_reg() =>
        {
            add.imm
        }
        _ => 0,
    });
    let lowest = accesses.chain(addresses).min().unwrap_or(0);
    lowest.min(0).unsigned_abs()
}
