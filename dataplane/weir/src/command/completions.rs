//! `weir completions SHELL`: the script with which a shell completes commands and options.

use std::process::ExitCode;

use clap_complete::Shell;

use super::print;

/// Print the completion script for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  source <(weir completions bash)                                       # in ~/.bashrc
  weir completions zsh > \"${fpath[1]}/_weir\"
  weir completions fish > ~/.config/fish/completions/weir.fish")]
pub(crate) struct Args {
    /// The shell
    shell: Shell,
}

pub(crate) fn run(args: &Args, cli: clap::Command) -> anyhow::Result<ExitCode> {
    print(&script(args.shell, cli)?)?;
    Ok(ExitCode::SUCCESS)
}

/// Made in memory: the generator panics when whom it writes to goes away, as `head` does.
fn script(shell: Shell, mut cli: clap::Command) -> anyhow::Result<String> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut cli, "weir", &mut script);
    Ok(String::from_utf8(script)?)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use clap::CommandFactory as _;

    use super::*;

    fn of(shell: Shell) -> String {
        script(shell, crate::Cli::command()).unwrap()
    }

    /// Standard output of bash with a script on its standard input; it must succeed.
    fn bash(arguments: &[&str], script: &str) -> String {
        let mut command = Command::new("bash");
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("bash is missing: install the package bash");
        child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn every_shell_learns_every_command_that_is_shown() {
        let cli = crate::Cli::command();
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = of(shell);
            for command in cli.get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell}: {}", command.get_name());
            }
            for option in ["take-over", "strict", "files", "admin"] {
                assert!(script.contains(option), "{shell}: {option}");
            }
        }
        assert!(of(Shell::Zsh).starts_with("#compdef weir"));
    }

    #[test]
    fn bash_accepts_the_script_and_completes_by_it() {
        let script = of(Shell::Bash);
        assert_eq!(bash(&["-n"], &script), "");
        let check = |words: &str, count: usize, expected: &str| {
            let last = words.rsplit(' ').next().unwrap();
            let call =
                format!("COMP_WORDS=({words}); COMP_CWORD={count}; _weir weir '{last}' x; echo \"${{COMPREPLY[*]}}\"");
            assert_eq!(bash(&["--norc"], &format!("{script}\n{call}\n")).trim(), expected, "{words}");
        };
        check("weir ro", 1, "rollback");
        check("weir node --take", 2, "--take-over");
        check("weir explain --fi", 2, "--files");
        check("weir completions fi", 2, "fish");
    }
}
