//! `portcullis demo` on ports of its own.

use std::process::Command;

use super::{Process, free_ports, portcullis};

pub struct Demo {
    pub process: Process,
    pub gateway: u16,
    pub admin: u16,
    pub issuer: u16,
    pub services: u16,
}

impl Demo {
    /// Up, with its lines printed.
    pub fn start() -> Self {
        const ATTEMPTS: u32 = 5;
        for _ in 0..ATTEMPTS {
            let mut demo = Demo::begin();
            while demo.process.is_running() {
                if demo.banner().is_some() {
                    return demo;
                }
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            let stderr = demo.process.stderr();
            // What the demo says of its own ports, and the gateway of its two.
            let taken = stderr.contains("is taken") || stderr.contains("in use");
            assert!(taken, "does not start:\n{stderr}");
        }
        panic!("no free ports");
    }

    fn begin() -> Self {
        // In one row: a port that is free twice is no two ports.
        let gateway = free_ports(6);
        let (admin, issuer, services) = (gateway + 1, gateway + 2, gateway + 3);
        Demo {
            process: Process::start(command(gateway, admin, issuer, services)),
            gateway,
            admin,
            issuer,
            services,
        }
    }

    /// The printed lines, once they are complete.
    pub fn banner(&self) -> Option<String> {
        let stdout = self.process.stdout();
        // The access log comes after them and is JSON.
        let lines = stdout.lines().take_while(|line| !line.starts_with('{'));
        let text: String = lines.map(|line| format!("{line}\n")).collect();
        text.contains("# 403").then_some(text)
    }
}

pub fn command(gateway: u16, admin: u16, issuer: u16, services: u16) -> Command {
    let mut command = portcullis(&["demo"]);
    for (flag, port) in [
        ("--gateway-port", gateway),
        ("--admin-port", admin),
        ("--issuer-port", issuer),
        ("--service-port", services),
    ] {
        command.args([flag, &port.to_string()]);
    }
    command
}
