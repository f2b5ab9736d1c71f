//! `portcullis token`.

use std::path::PathBuf;
use std::process::ExitCode;

/// The secret comes from a file or standard input: arguments are for everybody to see.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration.
    #[arg(long, value_name = "FILE", default_value = "conf/portcullis.yaml")]
    pub config: PathBuf,
    /// The client's identifier at the issuer.
    #[arg(long, value_name = "ID")]
    pub client: String,
    /// Name of the issuer in the configuration; not needed if there is one only.
    #[arg(long, value_name = "NAME")]
    pub issuer: Option<String>,
    /// File that holds the client's secret; else it is read from standard input.
    #[arg(long, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
    /// Scopes to ask for, separated by blanks.
    #[arg(long, value_name = "SCOPES")]
    pub scope: Option<String>,
}

pub fn run(_args: Args) -> ExitCode {
    ExitCode::FAILURE
}
