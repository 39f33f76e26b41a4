//! `weir plugin new`: the beginning of a plugin.

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;

use crate::command::{print, quoted, this_program};

/// What a new plugin has: the files, in which `NAME` stands for its name.
const FILES: [(&str, &str); 6] = [
    ("Cargo.toml", include_str!("template/Cargo.toml.txt")),
    ("Cargo.lock", include_str!("template/Cargo.lock.txt")),
    ("src/lib.rs", include_str!("template/lib.rs.txt")),
    ("tests.yaml", include_str!("template/tests.yaml")),
    ("plugin.yaml", include_str!("template/plugin.yaml")),
    (".gitignore", "/target\n*.wasm\n"),
];

#[derive(Debug, clap::Args)]
pub(crate) struct New {
    /// Its name: small letters, digits and `-`. The folder is called the same
    #[arg(value_parser = name)]
    name: String,
    /// Where the folder is made
    #[arg(long, default_value = ".")]
    folder: PathBuf,
}

fn name(text: &str) -> Result<String, String> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    let is_name = is_plain && text.starts_with(|first: char| first.is_ascii_lowercase()) && !text.ends_with('-');
    if is_name && text.len() <= 63 {
        return Ok(text.to_owned());
    }
    Err("a name has 1 to 63 small letters, digits and `-`, and begins with a letter".to_owned())
}

impl New {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let folder = self.folder.join(&self.name);
        anyhow::ensure!(!folder.exists(), "{} is there already", folder.display());
        for (file, text) in FILES {
            let path = folder.join(file);
            let write = || {
                fs::create_dir_all(path.parent().unwrap_or(&folder))?;
                fs::write(&path, text.replace("NAME", &self.name))
            };
            write().with_context(|| path.display().to_string())?;
        }
        let (weir, folder) = (this_program(), quoted(&folder.display().to_string()));
        print(&format!(
            "{folder} is there. It marks responses with a header; src/lib.rs is where to go on.\n\n  \
             {weir} plugin build {folder}\n  {weir} plugin test {folder}/tests.yaml\n"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn names_are_those_of_documents_and_crates() {
        for (text, expected) in
            [("a", true), ("my-plugin2", true), ("", false), ("2a", false), ("a-", false), ("A", false), ("a_b", false)]
        {
            assert_eq!(name(text).is_ok(), expected, "{text}");
        }
    }
}
