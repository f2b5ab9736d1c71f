//! `portcullis demo`: issuer, services and gateway in one process, on loopback.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use crate::clock::Clock;
use crate::config::{self, Environment, Mode, Overrides, System};
use crate::demo::banner::{Ports, banner};
use crate::demo::services::{NAMES, Service, Services};
use crate::demo::{Issuer, IssuerOptions, KeySource};
use crate::server::{self, Surroundings};

/// Run an issuer, three services and the gateway in front of them, to try things out
#[derive(Debug, Clone, clap::Args)]
pub struct DemoArgs {
    /// Where the gateway listens
    #[arg(long, value_name = "PORT", default_value_t = 8072, value_parser = port())]
    pub gateway_port: u16,
    /// Where the gateway's admin listener listens
    #[arg(long, value_name = "PORT", default_value_t = 9072, value_parser = port())]
    pub admin_port: u16,
    /// Where the issuer listens
    #[arg(long, value_name = "PORT", default_value_t = 8180, value_parser = port())]
    pub issuer_port: u16,
    /// Where accounts listens; loans and cards take the two ports after it
    #[arg(long, value_name = "PORT", default_value_t = 8081, value_parser = first_of_three())]
    pub service_port: u16,
}

/// The lines are printed before the start, so a port cannot be chosen by the system.
fn port() -> clap::builder::RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(1..)
}

fn first_of_three() -> clap::builder::RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(1..=65533)
}

impl DemoArgs {
    fn ports(&self) -> Ports {
        Ports {
            gateway: self.gateway_port,
            admin: self.admin_port,
            issuer: self.issuer_port,
            services: self.service_port,
        }
    }
}

pub fn run(args: DemoArgs) -> ExitCode {
    crate::observe::logger::init(crate::observe::logger::level());
    match start(&args) {
        // Issuer and services serve from threads of their own for as long as these live.
        Ok((_issuer, _services)) => {
            let ports = args.ports();
            std::thread::spawn(move || announce(ports));
            gateway(&args)
        }
        Err(why) => {
            let _ = writeln!(io::stderr(), "portcullis demo: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Loads the compiled-in configuration and serves it exactly as `run` serves a file.
fn gateway(args: &DemoArgs) -> ExitCode {
    let local = |port| loopback(port).to_string();
    let mut overrides = Overrides::default()
        .replace("127.0.0.1:8072", local(args.gateway_port))
        .replace("127.0.0.1:9072", local(args.admin_port))
        .replace(
            "http://127.0.0.1:8180/realms/eazybank",
            format!("http://{}/realms/eazybank", loopback(args.issuer_port)),
        );
    for offset in 0..3 {
        overrides = overrides.replace(
            local(8081 + offset),
            local(args.service_port.saturating_add(offset)),
        );
    }
    match config::load_str(NAME, CONFIG, &overrides, &DemoEnvironment, Mode::Online) {
        Ok(loaded) => server::run(loaded.plan, Surroundings::default()),
        Err(problems) => super::check::refuse(&problems),
    }
}

const NAME: &str = "conf/demo.yaml";
const CONFIG: &str = include_str!("../../conf/demo.yaml");

/// Brings the secrets of `conf/demo.yaml`; they are as public as the realm's.
struct DemoEnvironment;

impl Environment for DemoEnvironment {
    fn var(&self, name: &str) -> Option<String> {
        let secret = match name {
            "PORTCULLIS_DEMO_ADMIN_TOKEN" => "demo-only-admin",
            "PORTCULLIS_DEMO_GATEWAY_SECRET" => "demo-only-gateway",
            _ => return None,
        };
        Some(secret.to_owned())
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        System.read(path)
    }
}

/// Everything that the gateway stands on. A port that is taken is found here, before anything is served.
fn start(args: &DemoArgs) -> Result<(Issuer, Services), String> {
    let wanted = wanted(args);
    check_distinct(&wanted)?;
    // The gateway binds its own ports; trying them first gives the same clear line for all.
    for want in wanted.iter().filter(|want| want.of_gateway) {
        TcpListener::bind(loopback(want.port)).map_err(|why| want.failed(&why))?;
    }
    let options = IssuerOptions {
        address: loopback(args.issuer_port),
        clock: Clock::system(),
        base_url: None,
        keys: KeySource::Fresh,
    };
    // Services first: they are quick, and the issuer spends a moment on making keys.
    let mut services = Vec::new();
    for want in &wanted {
        if let Some(name) = want.service {
            services.push(Service::start(name, want.port).map_err(|why| want.failed(&why))?);
        }
    }
    let issuer = Issuer::start_blocking(options);
    let issuer = issuer.map_err(|why| Want::issuer(args).failed(&why))?;
    Ok((issuer, Services(services)))
}

/// A port of the demo, what it is for and the flag that changes it.
struct Want {
    port: u16,
    purpose: String,
    flag: &'static str,
    of_gateway: bool,
    service: Option<&'static str>,
}

fn wanted(args: &DemoArgs) -> Vec<Want> {
    let of_gateway = |port, purpose: &str, flag| Want {
        port,
        purpose: purpose.to_owned(),
        flag,
        of_gateway: true,
        service: None,
    };
    let mut wanted = vec![
        of_gateway(args.gateway_port, "the gateway", "--gateway-port"),
        of_gateway(args.admin_port, "the admin listener", "--admin-port"),
        Want::issuer(args),
    ];
    for (name, offset) in NAMES.into_iter().zip(0..) {
        wanted.push(Want {
            port: args.service_port.saturating_add(offset),
            purpose: format!("the service {name}"),
            flag: "--service-port",
            of_gateway: false,
            service: Some(name),
        });
    }
    wanted
}

impl Want {
    fn issuer(args: &DemoArgs) -> Want {
        Want {
            port: args.issuer_port,
            purpose: "the issuer".to_owned(),
            flag: "--issuer-port",
            of_gateway: false,
            service: None,
        }
    }

    fn failed(&self, why: &io::Error) -> String {
        let Want {
            port,
            purpose,
            flag,
            ..
        } = self;
        let why = match why.kind() {
            io::ErrorKind::AddrInUse => "is taken".to_owned(),
            _ => format!("cannot be used ({why})"),
        };
        format!("port {port} for {purpose} {why}; choose another with {flag}")
    }
}

fn check_distinct(wanted: &[Want]) -> Result<(), String> {
    for (place, want) in wanted.iter().enumerate() {
        if let Some(other) = wanted[..place].iter().find(|o| o.port == want.port) {
            return Err(format!(
                "port {} cannot be for {} and {}; choose another with {} or {}",
                want.port, other.purpose, want.purpose, other.flag, want.flag
            ));
        }
    }
    Ok(())
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Prints the banner when its lines work: when the gateway says that it is ready.
fn announce(ports: Ports) {
    const PATIENCE: u32 = 300;
    let pause = Duration::from_millis(100);
    for _ in 0..PATIENCE {
        if is_ready(ports) {
            let mut out = io::stdout().lock();
            let written = out.write_all(banner(ports).as_bytes());
            // Nobody listens any more: no reason to stop serving.
            let _ = written.and_then(|()| out.flush());
            return;
        }
        std::thread::sleep(pause);
    }
    let _ = writeln!(
        io::stderr(),
        "portcullis demo: the gateway is not ready; ask http://127.0.0.1:{}/readyz why",
        ports.admin
    );
}

fn is_ready(ports: Ports) -> bool {
    let listens = TcpStream::connect(loopback(ports.gateway)).is_ok();
    listens && readyz(ports.admin).is_ok_and(|status| status == 200)
}

/// The status of the admin listener's `/readyz`.
fn readyz(admin: u16) -> io::Result<u16> {
    let mut stream = TcpStream::connect(loopback(admin))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    // "HTTP/1.1 200"
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    let status = std::str::from_utf8(&head[9..]).ok();
    Ok(status.and_then(|code| code.parse().ok()).unwrap_or(0))
}

#[cfg(test)]
#[path = "demo_tests.rs"]
mod tests;
