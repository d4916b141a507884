//! `completions` and `man`: what shells and `man` know of this program, made from the definition of its arguments, so
//! that they cannot be of another version.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory, ValueEnum};
use clap_complete::aot::{self, Shell};

use super::Cli;
use super::out::Out;
use crate::error::Failure;

/// Print what a shell needs to complete this program's commands and options
///
/// For one shell only: bash `source <(tillsync completions bash)`, zsh a file `_tillsync` in a folder of $fpath, fish
/// `tillsync completions fish | source`. The Debian package brings them along.
#[derive(Debug, clap::Args)]
pub(super) struct Completions {
    /// The shell
    #[arg(value_name = "SHELL", value_enum)]
    shell: Known,
}

/// Shells that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Known {
    /// GNU Bash.
    Bash,
    /// Z shell.
    Zsh,
    /// Fish.
    Fish,
}

/// Write the manual pages, one a command, into a folder
#[derive(Debug, clap::Args)]
pub(super) struct Man {
    /// Folder for the pages; made if it is not there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

impl Completions {
    pub(super) fn run(&self, out: &mut Out) -> Result<(), Failure> {
        let shell = match self.shell {
            Known::Bash => Shell::Bash,
            Known::Zsh => Shell::Zsh,
            Known::Fish => Shell::Fish,
        };
        let mut text = Vec::new();
        aot::generate(shell, &mut Cli::command(), "tillsync", &mut text);
        out.bytes(&text)?;
        out.flush()
    }
}

impl Man {
    pub(super) fn run(&self, out: &mut Out) -> Result<(), Failure> {
        let written = write_pages(&self.out, Cli::command()).map_err(|error| {
            Failure::refused(format!(
                "man: cannot write into {}: {error}; name another --out",
                self.out.display()
            ))
        })?;
        if out.json() {
            return out.document(&serde_json::json!({"out": self.out, "pages": written}));
        }
        out.text(&format!("{} pages in {}", written.len(), self.out.display()))
    }
}

/// One page for the program and one for each command below it; the names written.
fn write_pages(folder: &Path, program: Command) -> std::io::Result<Vec<String>> {
    fs::create_dir_all(folder)?;
    let mut program = program;
    program.build();
    let mut written = Vec::new();
    let mut waiting = vec![("tillsync".to_owned(), program)];
    while let Some((name, command)) = waiting.pop() {
        let below = command.get_subcommands().filter(|it| it.get_name() != "help" && !it.is_hide_set());
        waiting.extend(below.map(|sub| (format!("{name}-{}", sub.get_name()), sub.clone())));
        let page = clap_mangen::Man::new(command)
            .title(name.clone())
            .source(concat!("tillsync ", env!("CARGO_PKG_VERSION")));
        let mut text = Vec::new();
        page.render(&mut text)?;
        let file = format!("{name}.1");
        fs::write(folder.join(&file), text)?;
        written.push(file);
    }
    written.sort();
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::super::out::Page;
    use super::*;

    #[test]
    fn every_shell_gets_the_commands_and_options() {
        for shell in [Known::Bash, Known::Zsh, Known::Fish] {
            let page = Page::default();
            Completions { shell }.run(&mut Out::to(page.clone(), false)).unwrap();
            let text = page.read();
            for word in ["tillsync", "close-status", "doctor", "enroll", "time-zone"] {
                assert!(text.contains(word), "{shell:?} does not know {word}");
            }
        }
    }

    #[test]
    fn there_is_a_page_for_each_command_and_it_says_what_it_is_for() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("man1");
        let written = write_pages(&to, Cli::command()).unwrap();
        for name in ["tillsync.1", "tillsync-hub-enroll.1", "tillsync-doctor.1", "tillsync-policy-set.1"] {
            assert!(written.contains(&name.to_owned()), "{written:?}");
        }
        let page = fs::read_to_string(to.join("tillsync-hub-enroll.1")).unwrap();
        assert!(page.contains(".TH tillsync-hub-enroll 1") && page.contains("join code"), "{page}");
        assert!(written.iter().all(|name| !name.contains("help")), "{written:?}");
    }
}
