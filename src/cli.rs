//! The command line: one file per command.

mod check;
pub mod demo;
mod run;
mod schema;
pub mod token;
mod version;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

/// Bad usage or a bad configuration (`EX_USAGE`).
pub const USAGE: u8 = 64;

/// Edge gateway that is the OAuth 2.0 resource server in front of microservices.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway.
    Run(run::Args),
    /// Run an issuer, three services and the gateway on this machine, to try it all out.
    Demo(demo::DemoArgs),
    /// Report every problem of a configuration, or its plan in a few lines.
    Check(check::Args),
    /// Fetch an access token with the client-credentials grant and print it.
    Token(token::TokenArgs),
    /// Print the JSON Schema of the configuration.
    Schema,
    /// Print version, commit and target.
    Version,
}

/// Where the configuration is.
#[derive(Debug, clap::Args)]
pub(crate) struct ConfigFile {
    /// The configuration.
    #[arg(long, value_name = "FILE", default_value = "conf/portcullis.yaml")]
    pub(crate) config: PathBuf,
}

/// Parses the process's arguments and runs the command.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return refuse(&error),
    };
    match arguments.command {
        Command::Run(args) => run::run(&args),
        Command::Demo(args) => demo::run(args),
        Command::Check(args) => check::run(&args),
        Command::Token(args) => token::run(args),
        Command::Schema => schema::run(),
        Command::Version => version::run(),
    }
}

/// Help is an answer; everything else that clap says is bad usage.
fn refuse(error: &clap::Error) -> ExitCode {
    // Nobody reads what cannot be written.
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        _ => ExitCode::from(USAGE),
    }
}

/// Writes an answer. A reader that has gone away has read enough.
pub(crate) fn answer(text: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Tells a person; there is nobody to tell if that fails.
pub(crate) fn complain(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[test]
    fn bad_usage_is_64_and_help_is_an_answer() {
        let code = |arguments: &[&str]| {
            let error = Arguments::try_parse_from(arguments).expect_err("no command");
            format!("{:?}", refuse(&error))
        };
        let success = format!("{:?}", ExitCode::SUCCESS);
        let usage = format!("{:?}", ExitCode::from(USAGE));
        assert_eq!(code(&["portcullis", "--help"]), success);
        assert_eq!(code(&["portcullis", "check", "--help"]), success);
        assert_eq!(code(&["portcullis", "--version"]), success);
        assert_eq!(code(&["portcullis"]), usage);
        assert_eq!(code(&["portcullis", "chek"]), usage);
        assert_eq!(code(&["portcullis", "demo", "--gateway-port", "0"]), usage);
    }

    #[test]
    fn run_has_a_default_file() {
        let arguments = Arguments::try_parse_from(["portcullis", "run"]).expect("valid");
        let Command::Run(args) = arguments.command else {
            panic!("another command");
        };
        assert_eq!(args.file.config, PathBuf::from("conf/portcullis.yaml"));
    }

    #[test]
    fn a_token_secret_is_no_argument() {
        let token = ["portcullis", "token", "--client", "a", "--secret", "b"];
        Arguments::try_parse_from(token).expect_err("no such argument");
    }
}
