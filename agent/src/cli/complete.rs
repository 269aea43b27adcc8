//! Completion scripts, written out: the command line is small, and a generator would cost more than all of it.

use std::str::FromStr;

/// A shell that has completions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shell {
    /// GNU bash.
    Bash,
    /// The Z shell.
    Zsh,
    /// fish.
    Fish,
}

impl FromStr for Shell {
    type Err = String;
    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "bash" => Ok(Self::Bash),
            "zsh" => Ok(Self::Zsh),
            "fish" => Ok(Self::Fish),
            other => Err(format!("there are no completions for {other:?}; choose bash, zsh or fish")),
        }
    }
}

/// The script, to be read by the shell at its start.
pub fn script(shell: Shell) -> &'static str {
    match shell {
        Shell::Bash => BASH,
        Shell::Zsh => ZSH,
        Shell::Fish => FISH,
    }
}

const BASH: &str = r#"_orangery_agent() {
    local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}"
    case "$before" in
        --config | --from | --ca-file | --bundle | --out | install) COMPREPLY=($(compgen -f -- "$word")); return ;;
        --state) COMPREPLY=($(compgen -d -- "$word")); return ;;
        completions) COMPREPLY=($(compgen -W "bash zsh fish" -- "$word")); return ;;
    esac
    COMPREPLY=($(compgen -W "join run status why history metrics doctor check rollback install completions help --config --json --name --count --state --from --ca-file --bundle --with-app-logs --out --help --version" -- "$word"))
}
complete -F _orangery_agent orangery-agent
"#;

const ZSH: &str = r"#compdef orangery-agent
_arguments \
  '--config[settings]:file:_files' '--json[answer in JSON]' '--name[name of the node]:name' \
  '--count[at most so many events]:count' '--from[where the release is]:source:_files' '--ca-file[authorities]:file:_files' '--bundle[support bundle]:file:_files' '--with-app-logs[output of apps too]' '--out[file for metrics]:file:_files' '--state[state directory]:directory:_directories' \
  '(-h --help)'{-h,--help}'[help]' '(-V --version)'{-V,--version}'[version]' \
  '1:command:(join run status why history metrics doctor check rollback install completions help)' '2:argument:'
";

const FISH: &str = r"complete -c orangery-agent -f
complete -c orangery-agent -n __fish_use_subcommand -a 'join run status why history metrics doctor check rollback install completions help'
complete -c orangery-agent -l config -r -F -d 'settings'
complete -c orangery-agent -l json -d 'answer in JSON'
complete -c orangery-agent -l name -x -d 'name of the node'
complete -c orangery-agent -l from -r -F -d 'where the release is'
complete -c orangery-agent -l ca-file -r -F -d 'authorities'
complete -c orangery-agent -l bundle -r -F -d 'support bundle'
complete -c orangery-agent -l out -r -F -d 'file for metrics'
complete -c orangery-agent -l with-app-logs -d 'output of apps too'
complete -c orangery-agent -n '__fish_seen_subcommand_from install' -F
complete -c orangery-agent -l count -x -d 'at most so many events'
complete -c orangery-agent -l state -x -a '(__fish_complete_directories)' -d 'state directory'
complete -c orangery-agent -n '__fish_seen_subcommand_from completions' -a 'bash zsh fish'
";
