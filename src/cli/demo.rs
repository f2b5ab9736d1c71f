//! `portcullis demo`.

use std::process::ExitCode;

/// Ports of the demo, all on 127.0.0.1.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Port of the gateway.
    #[arg(long, value_name = "PORT", default_value_t = 8072, value_parser = clap::value_parser!(u16).range(1..))]
    pub gateway_port: u16,
    /// Port of the gateway's admin listener.
    #[arg(long, value_name = "PORT", default_value_t = 9072, value_parser = clap::value_parser!(u16).range(1..))]
    pub admin_port: u16,
    /// Port of the issuer.
    #[arg(long, value_name = "PORT", default_value_t = 8180, value_parser = clap::value_parser!(u16).range(1..))]
    pub issuer_port: u16,
    /// Port of accounts; loans and cards take the next two.
    #[arg(long, value_name = "PORT", default_value_t = 8081, value_parser = clap::value_parser!(u16).range(1..=65533))]
    pub service_port: u16,
}

pub fn run(_args: Args) -> ExitCode {
    ExitCode::FAILURE
}
