//! What is the binary interface between the programs and the agent?
//!
//! Input: the sources of `vnet-common`, for the names of all types, fields and constants, and the
//! compiler, for where they lie. Output: `vnet-common/abi.txt`, which is committed. An agent takes
//! over the maps of another only if both have the same schema number, so whatever changes this
//! text must raise the number.
//!
//! The compiler is asked by a copy of the crate, in which each file of `table/` tells of its own
//! types (their fields may be private) and an example prints it.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use xtask::process::{clean_command, output};

use crate::layers::rust_files;
use crate::source::{Token, tokens, without_tests};

/// Fails where the committed text is not what the sources say.
///
/// # Errors
/// If the layouts changed; whether the schema number has to be raised.
pub fn check() -> Result<()> {
    let (committed, now) = (committed()?, describe()?);
    judge(&committed, &now)?;
    println!("{} is true to the sources", path().display());
    Ok(())
}

/// Writes the text anew.
///
/// # Errors
/// If the layouts changed under the same schema number, unless `same_schema` says that nobody
/// has maps of it yet.
pub fn write(same_schema: bool) -> Result<()> {
    let now = describe()?;
    let is_first = !path().exists();
    if !is_first && !same_schema && differs(&committed()?, &now) == Difference::Layout {
        bail!("{}", Difference::Layout.cure());
    }
    fs::write(path(), now).context("writing the binary interface")?;
    println!("{}", path().display());
    Ok(())
}

fn path() -> PathBuf {
    xtask::root().join("vnet-common/abi.txt")
}

fn committed() -> Result<String> {
    fs::read_to_string(path()).context("reading vnet-common/abi.txt; `cargo xtask abi` writes it")
}

/// How the committed text and the sources differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Difference {
    /// Not at all.
    None,
    /// The schema number was raised, the text not written anew.
    Schema,
    /// Something moved under the same number.
    Layout,
}

impl Difference {
    fn cure(self) -> &'static str {
        match self {
            Self::None => "nothing to do",
            Self::Schema => "the schema number was raised: run `cargo xtask abi` and commit",
            Self::Layout => {
                "what lies in the maps changed under the same number: raise SCHEMA in \
                 vnet-common/src/lib.rs, run `cargo xtask abi` and commit (if no version with \
                 this number was ever given away: `cargo xtask abi --same-schema`)"
            }
        }
    }
}

fn differs(committed: &str, now: &str) -> Difference {
    if committed == now {
        Difference::None
    } else if committed.lines().next() == now.lines().next() {
        Difference::Layout
    } else {
        Difference::Schema
    }
}

fn judge(committed: &str, now: &str) -> Result<()> {
    let difference = differs(committed, now);
    if difference == Difference::None {
        return Ok(());
    }
    let mut said = difference.cure().to_owned();
    for line in committed
        .lines()
        .filter(|line| !now.lines().any(|other| other == *line))
    {
        let _ = write!(said, "\n  - {line}");
    }
    for line in now
        .lines()
        .filter(|line| !committed.lines().any(|other| other == *line))
    {
        let _ = write!(said, "\n  + {line}");
    }
    bail!("{said}")
}

/// The manifest of the copy. Cargo tells packages apart by name and place in the workspace: under
/// the name of the original, each would be taken for the other's build.
fn renamed(manifest: &str) -> Result<String> {
    let (before, after) = manifest
        .split_once("name = \"vnet-common\"")
        .context("vnet-common/Cargo.toml does not name itself")?;
    Ok(format!(
        "{before}name = \"vnet-abi\"{after}\n[lib]\nname = \"vnet_common\"\n"
    ))
}

/// What the sources and the compiler say now.
fn describe() -> Result<String> {
    let copy = xtask::root().join("target/abi");
    let sources = copy.join("vnet-common/src");
    if sources.exists() {
        fs::remove_dir_all(&sources).context("clearing the last copy")?;
    }
    let original = xtask::root().join("vnet-common/src");
    let mut modules = Vec::new();
    for file in rust_files(&original)? {
        let inside = file.strip_prefix(&original)?;
        let mut source = fs::read_to_string(&file).context("reading vnet-common")?;
        let is_told = inside.starts_with("table") || inside == Path::new("name.rs");
        if is_told && !inside.ends_with("mod.rs") {
            let inventory = inventory(&source)
                .with_context(|| format!("vnet-common/src/{}", inside.display()))?;
            source = format!("{}\n{}", without_tests(&source), teller(&inventory));
            modules.push(inside.with_extension("").to_string_lossy().into_owned());
        }
        write_file(&sources.join(inside), &source)?;
    }
    let manifest = fs::read_to_string(xtask::root().join("Cargo.toml"))?;
    write_file(&copy.join("Cargo.toml"), &with_one_member(&manifest)?)?;
    fs::copy(xtask::root().join("Cargo.lock"), copy.join("Cargo.lock"))?;
    let manifest = fs::read_to_string(xtask::root().join("vnet-common/Cargo.toml"))?;
    write_file(&copy.join("vnet-common/Cargo.toml"), &renamed(&manifest)?)?;
    write_file(
        &copy.join("vnet-common/examples/abi.rs"),
        &example(&modules),
    )?;
    let mut cargo = clean_command("cargo");
    let target = xtask::root().join("target");
    cargo
        .current_dir(&copy)
        .args(["run", "--quiet", "--example", "abi", "--target-dir"]);
    output(cargo.arg(target))
        .map(|text| text + "\n")
        .context("asking the compiler for layouts")
}

fn write_file(path: &Path, content: &str) -> Result<()> {
    fs::create_dir_all(path.parent().context("a file lies in a folder")?)?;
    fs::write(path, content).with_context(|| path.display().to_string())
}

/// The workspace's manifest, for a workspace that has only the one crate.
fn with_one_member(manifest: &str) -> Result<String> {
    let (before, rest) = manifest
        .split_once("members = [")
        .context("members in Cargo.toml")?;
    let (_, after) = rest
        .split_once(']')
        .context("the end of members in Cargo.toml")?;
    Ok(format!("{before}members = [\"vnet-common\"]{after}"))
}

/// What one file declares.
#[derive(Debug, Default, PartialEq, Eq)]
struct Inventory {
    /// Each type with its fields: name and type.
    types: Vec<(String, Vec<(String, String)>)>,
    /// What has a number or a text: constants, also those of a type, and numbered variants.
    constants: Vec<String>,
}

/// Reads what a file declares.
///
/// # Errors
/// If a type has a form that is not understood here.
fn inventory(source: &str) -> Result<Inventory> {
    let tokens = tokens(source);
    let mut found = Inventory::default();
    let (mut depth, mut owner) = (0, None);
    for (place, token) in tokens.iter().enumerate() {
        depth += brackets(token);
        let rest = &tokens[place + 1..];
        let name = rest
            .first()
            .map(|name| name.text.clone())
            .unwrap_or_default();
        let is_top = depth == 0;
        match token.text.as_str() {
            "}" if is_top => owner = None,
            "impl" if is_top => owner = rest.first().filter(|name| name.is_name()).cloned(),
            "struct"
                if tokens[..place]
                    .last()
                    .is_some_and(|before| before.text == "pub") =>
            {
                let body = rest.get(1..).unwrap_or_default();
                let Some(from) = body
                    .iter()
                    .position(|token| ["{", "(", ";"].contains(&token.text.as_str()))
                else {
                    continue;
                };
                if body[from].text != "{" {
                    bail!("line {}: `{name}` has no named fields", token.line);
                }
                found.types.push((name, fields(&body[from..])));
            }
            "enum" => {
                let variants = numbered_variants(rest.get(1..).unwrap_or_default());
                let paths = variants.iter().map(|variant| format!("{name}::{variant}"));
                found.constants.extend(paths);
            }
            "const" if is_plain_constant(rest) => match &owner {
                Some(owner) if depth == 1 => {
                    found.constants.push(format!("{}::{name}", owner.text));
                }
                None if is_top => found.constants.push(name),
                _ => {}
            },
            _ => {}
        }
    }
    Ok(found)
}

/// Whether what comes after `const` declares a number or a text.
fn is_plain_constant(after: &[Token]) -> bool {
    let words: Vec<&str> = after
        .iter()
        .take(5)
        .map(|token| token.text.as_str())
        .collect();
    let is_number = |of: &str| ["u8", "u16", "u32", "u64", "usize"].contains(&of);
    matches!(words[..], [_, ":", of, "=", _] if is_number(of))
        || matches!(words[..], [_, ":", "&", "str", "="])
}

/// What a token adds to the number of open brackets.
fn brackets(token: &Token) -> i64 {
    match token.text.as_str() {
        "{" | "(" | "[" => 1,
        "}" | ")" | "]" => -1,
        _ => 0,
    }
}

/// The same in a type, where angles are brackets.
fn type_brackets(token: &Token) -> i64 {
    match token.text.as_str() {
        "<" => 1,
        ">" => -1,
        _ => brackets(token),
    }
}

/// The fields between the braces that `body` begins with.
fn fields(body: &[Token]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut depth = 0;
    for (place, token) in body.iter().enumerate() {
        depth += type_brackets(token);
        if depth == 0 {
            break;
        }
        let colon = body.get(place + 1).is_some_and(|next| next.text == ":");
        if depth == 1 && colon && token.is_name() {
            let mut inner = 0;
            let of = body[place + 2..].iter().take_while(|token| {
                let ends = inner == 0 && [",", "}"].contains(&token.text.as_str());
                inner += type_brackets(token);
                !ends
            });
            found.push((
                token.text.clone(),
                of.map(|token| token.text.as_str()).collect(),
            ));
        }
    }
    found
}

/// The variants with a number between the braces that `body` begins with.
fn numbered_variants(body: &[Token]) -> Vec<String> {
    let mut found = Vec::new();
    let mut depth = 0;
    for (place, token) in body.iter().enumerate() {
        depth += type_brackets(token);
        if depth == 0 {
            break;
        }
        if depth == 1 && token.is_name() && body.get(place + 1).is_some_and(|next| next.text == "=")
        {
            found.push(token.text.clone());
        }
    }
    found
}

/// What a file of the copy says about itself, in Rust.
fn teller(inventory: &Inventory) -> String {
    let mut told = String::from("pub fn abi(say: &mut dyn FnMut(core::fmt::Arguments)) {\n");
    for (name, fields) in &inventory.types {
        let _ = writeln!(
            told,
            "say(format_args!(\"  {name}: {{}} bytes, aligned to {{}}\", \
             size_of::<{name}>(), align_of::<{name}>()));"
        );
        for (field, of) in fields {
            let _ = writeln!(
                told,
                "say(format_args!(\"    {{:>4}} {{:>4}}  {field}: {of}\", \
                 core::mem::offset_of!({name}, {field}), size_of::<{of}>()));"
            );
        }
    }
    for name in &inventory.constants {
        let is_variant = name.contains("::");
        let value = if is_variant {
            format!("{name} as u64")
        } else {
            name.clone()
        };
        let _ = writeln!(told, "say(format_args!(\"  {name} = {{:?}}\", {value}));");
    }
    told + "}\n"
}

/// The program that prints everything.
fn example(modules: &[String]) -> String {
    let mut main = String::from(
        "fn main() {\n\
         println!(\"schema {}\", vnet_common::SCHEMA);\n\
         println!(\"\\n# types: size, alignment; fields: offset, size; constants\");\n",
    );
    for module in modules {
        let path = module.replace('/', "::");
        let _ = writeln!(
            main,
            "println!(\"\\n{module}.rs\"); vnet_common::{path}::abi(&mut |line| println!(\"{{line}}\"));"
        );
    }
    main + "println!(\"\\nreason.rs\");\n\
            for reason in vnet_common::reason::Reason::ALL {\n\
            println!(\"  {:>3}  {}\", reason.number(), reason.name());\n}\n}\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "plain! {\n    /// A doc: with a colon.\n    pub struct Key[12] {\n        \
        /// One.\n        pub one: Mac,\n        two: [u8; 6],\n    }\n}\n\nconst KIND: u32 = 1;\n\
        pub const NAME: &str = \"X\";\npub const ALL: [u8; 1] = [1];\n\nimpl Key {\n    \
        pub const PLACES: usize = 5;\n    fn a() -> u8 { const IN: u8 = 1; IN }\n}\n\npub enum Free { A(u8), B }\n\n#[repr(u32)]\n\
        pub enum Kind {\n    None = 0,\n    Some = 1,\n}\n";

    #[test]
    fn types_fields_and_constants_are_found() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let found = inventory(SOURCE).unwrap();
        let fields = vec![pair("one", "Mac"), pair("two", "[u8;6]")];
        assert_eq!(found.types, [("Key".to_owned(), fields)]);
        assert_eq!(
            found.constants,
            ["KIND", "NAME", "Key::PLACES", "Kind::None", "Kind::Some"]
        );
    }

    #[test]
    fn a_form_that_is_not_understood_is_an_error() {
        assert!(inventory("pub struct Key(u32);").is_err());
    }

    #[test]
    fn a_change_under_the_same_number_asks_for_another_number() {
        assert_eq!(differs("schema 1\na", "schema 1\na"), Difference::None);
        assert_eq!(differs("schema 1\na", "schema 1\nb"), Difference::Layout);
        assert_eq!(differs("schema 1\na", "schema 2\nb"), Difference::Schema);
        let fault = judge("schema 1\na", "schema 1\nb").unwrap_err().to_string();
        assert!(
            fault.contains("raise SCHEMA") && fault.ends_with("- a\n  + b"),
            "{fault}"
        );
    }

    #[test]
    fn the_copy_has_one_member() {
        let manifest = "[workspace]\nmembers = [\n    \"a\",\n]\n[x]\n";
        assert_eq!(
            with_one_member(manifest).unwrap(),
            "[workspace]\nmembers = [\"vnet-common\"]\n[x]\n"
        );
    }
}
