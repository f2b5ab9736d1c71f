//! From a [`Plan`] to Pingora services: bind everything, then serve until told to stop.
//!
//! Pingora would try a taken port for half a minute and then panic in a task, and panics on a bad certificate.
//! So sockets and certificates are opened here, before anything starts.

pub mod drain;
mod handover;
mod notify;
mod prebound;
mod stop;
mod successor;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use pingora::listeners::ListenerConfig;
use pingora::protocols::l4::stream::L4BufferSettings;
use pingora::server::Server;
use pingora::server::configuration::ServerConf;
use pingora::services::listening::Service;
use tokio::sync::watch;

pub use stop::{Signals, StopHandle};

use crate::background::Background;
use crate::clock::Clock;
use crate::config::plan::Plan;
use crate::config::secret::Text;
use crate::edge::{Bounds, Front, GuardApp, Tls, Turns};
use crate::forward::Stripper;
use crate::gateway::{Current, Gateway, Proxy};
use crate::limit::Limiters;
use crate::observe::access_log::AccessLog;
use crate::observe::admin::AdminApp;
use crate::observe::metrics::Metrics;
use crate::reload::{File, Reload};
use crate::route::RouteTable;
use crate::upstream::Upstreams;
use crate::verify::Verifier;
use drain::Drain;
pub use handover::Takeover;
use handover::{Place, Predecessor, Sockets};
use prebound::Prebound;
use stop::Ending;

/// Why the gateway cannot start; one line each.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen on {address} ({key}): {source}")]
    Bind {
        address: SocketAddr,
        /// The configuration key that says so.
        key: String,
        source: std::io::Error,
    },
    #[error("cannot take over by {path} (server.handover): {source}")]
    Handover {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("--upgrade needs server.handover, the Unix socket of the gateway that runs")]
    NoHandover,
    #[error("{0}")]
    Tls(String),
    #[error("{0}")]
    Upstream(String),
    #[error("{0}")]
    Issuer(String),
    #[error("cannot declare the metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// A gateway whose sockets are bound and whose certificates are read.
pub struct Bound {
    current: Arc<Current>,
    file: Option<File>,
    sockets: Vec<(TcpListener, SocketAddr, Option<Arc<Tls>>)>,
    admin: (TcpListener, SocketAddr),
    alone: bool,
    /// The process whose place this one is to take.
    predecessor: Option<Predecessor>,
}

/// What a caller of [`bind`] may replace.
pub struct Surroundings {
    pub clock: Clock,
    /// Where access-log lines go.
    pub access_log: Box<dyn std::io::Write + Send>,
    /// No other gateway runs in this process, before or after. Pingora's runtimes without work stealing know each
    /// other by the numbers of their threads, which are given out again.
    pub alone: bool,
    /// Read again on SIGHUP and when it changes; without one the plan stays as it is.
    pub file: Option<File>,
    /// Take over from the gateway that runs, if one does.
    pub upgrade: bool,
}

impl Default for Surroundings {
    fn default() -> Self {
        Surroundings {
            clock: Clock::system(),
            access_log: Box::new(std::io::stdout()),
            alone: true,
            file: None,
            upgrade: false,
        }
    }
}

/// Runs the gateway until it is told to stop by a signal.
pub fn run(plan: Plan, surroundings: Surroundings) -> ExitCode {
    match bind(plan, surroundings) {
        Ok(bound) => {
            bound.announce();
            bound.serve(Signals::of_the_process())
        }
        Err(error) => {
            log::error!("cannot start: {error}");
            ExitCode::from(1)
        }
    }
}

/// Opens all that can fail.
///
/// # Errors
/// The first thing that cannot be opened.
pub fn bind(plan: Plan, surroundings: Surroundings) -> Result<Bound, StartError> {
    let predecessor = match surroundings.upgrade {
        true => predecessor(&plan)?,
        false => None,
    };
    let from = predecessor.as_ref();
    let admin = listen(plan.admin.address, from, || "admin.address".to_owned())?;
    let mut sockets = Vec::new();
    for (index, listener) in plan.listeners.iter().enumerate() {
        let tls = listener
            .tls
            .as_ref()
            .map(Tls::open)
            .transpose()
            .map_err(StartError::Tls)?;
        let key = || format!("listeners[{index}].address");
        let (socket, address) = listen(listener.address, from, key)?;
        sockets.push((socket, address, tls));
    }
    let metrics = Metrics::new(&plan)?;
    let clock = surroundings.clock;
    let verifier = match predecessor {
        Some(_) => Verifier::apart(&plan, clock.clone(), metrics.clone()),
        None => Verifier::new(&plan, clock.clone(), metrics.clone()),
    };
    let gateway = Gateway {
        routes: RouteTable::new(&plan),
        verifier: verifier.map_err(StartError::Issuer)?,
        limiters: Limiters::new(&plan),
        upstreams: Upstreams::new(&plan, &metrics, &clock).map_err(StartError::Upstream)?,
        stripper: Stripper::new(&plan),
        access_log: Arc::new(AccessLog::new(plan.access_log, surroundings.access_log)),
        drain: Drain::default(),
        metrics,
        clock,
        plan,
    };
    Ok(Bound {
        current: Current::new(gateway),
        file: surroundings.file,
        sockets,
        admin,
        alone: surroundings.alone,
        predecessor,
    })
}

/// Who runs now, if somebody does.
fn predecessor(plan: &Plan) -> Result<Option<Predecessor>, StartError> {
    let path = plan.server.handover.as_deref();
    let path = path.ok_or(StartError::NoHandover)?;
    let found = Predecessor::find(path).map_err(|source| StartError::Handover {
        path: path.to_owned(),
        source,
    })?;
    if found.is_none() {
        log::info!("nobody is at {}: nothing to take over", path.display());
    }
    Ok(found)
}

fn listen(
    address: SocketAddr,
    from: Option<&Predecessor>,
    key: impl FnOnce() -> String,
) -> Result<(TcpListener, SocketAddr), StartError> {
    let taken = from.and_then(|predecessor| predecessor.take(address));
    taken
        .map_or_else(|| TcpListener::bind(address), Ok)
        .and_then(|socket| {
            socket.set_nonblocking(true)?;
            let bound = socket.local_addr()?;
            Ok((socket, bound))
        })
        .map_err(|source| StartError::Bind {
            address,
            key: key(),
            source,
        })
}

impl Bound {
    /// Where the listeners are, in the plan's order; differs from the plan where that says port 0.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets
            .iter()
            .map(|(_, address, _)| *address)
            .collect()
    }

    pub fn admin_address(&self) -> SocketAddr {
        self.admin.1
    }

    pub fn current(&self) -> &Arc<Current> {
        &self.current
    }

    /// Says in the log what listens, whom we trust and how much is open to everybody.
    pub fn announce(&self) {
        let gateway = self.current.gateway();
        let plan = &gateway.plan;
        for ((_, address, tls), listener) in self.sockets.iter().zip(&plan.listeners) {
            let kind = if tls.is_some() { "TLS" } else { "plain" };
            log::info!("listening on {address} ({kind}, as {})", listener.name);
        }
        log::info!("admin on {}", self.admin.1);
        for issuer in &plan.issuers {
            log::info!("trusting issuer {} ({})", issuer.name, issuer.issuer);
        }
        let public = plan
            .routes
            .iter()
            .filter(|route| matches!(route.access, crate::config::plan::Access::Public))
            .count();
        log::info!("{} routes, {public} of them public", plan.routes.len());
    }

    /// The sockets once more, for a successor.
    fn offered(&self) -> std::io::Result<Sockets> {
        let sockets = Sockets::default();
        let listeners = self.sockets.iter().map(|(socket, ..)| socket);
        for socket in listeners.chain([&self.admin.0]) {
            sockets.hold(socket)?;
        }
        Ok(sockets)
    }

    /// Serves until `signals` say stop, then drains. Returns when in-flight requests are done or their time is over.
    pub fn serve(self, signals: Signals) -> ExitCode {
        let offered = match self.current.gateway().plan.server.handover {
            Some(_) => self.offered(),
            None => Ok(Sockets::default()),
        };
        let offered = match offered {
            Ok(sockets) => sockets,
            Err(error) => {
                log::error!("cannot start: the sockets cannot be offered to a successor: {error}");
                return ExitCode::from(1);
            }
        };
        let current = self.current;
        let gateway = current.gateway();
        let plan = &gateway.plan;
        let conf = ServerConf {
            threads: plan.server.threads,
            // One thread has nobody to steal from, and its scheduler need not be ready for it.
            work_stealing: plan.server.threads > 1 || !self.alone,
            // A drained process returns from here; Pingora's own grace period always sleeps to its end.
            grace_period_seconds: Some(plan.server.drain.as_millis().div_ceil(1000) as u64),
            graceful_shutdown_timeout_seconds: Some(0),
            upstream_keepalive_pool_size: 1024 * plan.server.threads,
            // Each pool has its own, lower number; the rest is for connections that had died while nobody used them.
            max_retries: 16,
            ..ServerConf::default()
        };
        let mut server = Server::new_with_opt_and_conf(None, conf);
        let conf = server.configuration.clone();
        let bounds = || Bounds::new(&plan.limits, gateway.metrics.clone());
        let (bounds, admin_bounds) = (bounds(), bounds());
        let tls = self.sockets.iter().map(|(_, _, tls)| tls.clone());
        let reload = self.file.map(|file| {
            let bounds = [bounds.clone(), admin_bounds.clone()];
            Reload::new(file, current.clone(), bounds)
        });
        let reloads = reload.is_some();
        let (handed_over, _) = watch::channel(false);
        let (go, begun) = watch::channel(self.predecessor.is_none());
        let failed = Arc::new(AtomicBool::new(false));
        let takeover = Takeover {
            predecessor: self.predecessor,
            place: plan.server.handover.clone().map(|path| Place {
                path,
                sockets: offered.clone(),
                current: current.clone(),
                handed_over: handed_over.clone(),
            }),
            go,
            failed: failed.clone(),
        };
        let admin_token = plan.admin.token.as_ref().map(|token| {
            let clock = gateway.clock.clone();
            Arc::new(Text::word(token, "admin.token".to_owned(), clock))
        });
        let token = admin_token.clone();
        let background =
            Background::service(current.clone(), tls.collect(), token, reload, takeover);
        for (index, (socket, address, tls)) in self.sockets.into_iter().enumerate() {
            let app = GuardApp::new(
                Arc::new(proxy(&conf, &current, index)),
                index,
                Front {
                    tls,
                    proxies: plan.listeners[index].proxy_protocol.clone(),
                    turns: Turns::new(plan.server.threads),
                },
                bounds.clone(),
            );
            let mut service = Service::new(format!("gateway {address}"), app);
            // Plain for TLS too: the edge does the handshake, see there.
            let endpoint = ListenerConfig::tcp(address.to_string())
                // Pingora's own 64 KiB for each idle connection is most of a quiet gateway's memory.
                .l4_buffer(L4BufferSettings::new(8 * 1024, 1460));
            service.add_listener(endpoint);
            server.add_service(Prebound::new(service, address, socket, begun.clone()));
        }
        let (socket, address) = self.admin;
        let state = move || current.gateway();
        let app = Arc::new(AdminApp::new(state, admin_token));
        let app = GuardApp::for_admin(app, admin_bounds);
        let mut admin = Service::new("admin".to_owned(), app);
        admin.threads = Some(1);
        admin.add_tcp(&address.to_string());
        // Readiness must be heard failing while the rest drains.
        let admin = Prebound::new(admin, address, socket, begun);
        server.add_service(admin.until(handed_over.subscribe()));
        server.add_service(background);
        let ending = Ending {
            drain: gateway.drain.clone(),
            access_log: gateway.access_log.clone(),
            connections: bounds.connections().clone(),
            pre_stop: plan.server.pre_stop,
            may_hand_over: plan.server.handover.is_some(),
            sockets: offered,
            handed_over: handed_over.subscribe(),
            failed,
        };
        // The first generation is not held for longer than the others.
        drop(gateway);
        stop::run(server, signals, reloads, &ending)
    }
}

fn proxy(
    conf: &Arc<ServerConf>,
    current: &Arc<Current>,
    index: usize,
) -> pingora_proxy::HttpProxy<Proxy> {
    let proxy = Proxy {
        current: current.clone(),
        index,
    };
    let mut proxy = pingora_proxy::http_proxy(conf, proxy);
    let mut options = pingora::apps::HttpServerOptions::default();
    // Long-lived callers meet a new process after a roll-out sooner.
    options.keepalive_request_limit = Some(10_000);
    proxy.server_options = Some(options);
    proxy
}
