//! From the tree to the [`Plan`], collecting every problem that only shows when values are held against each other.

mod cors;
mod headers;
mod introspection;
mod issuer;
mod overlap;
mod process;
mod rewrite;
mod route;
mod upstream;

use std::io;
use std::path::{Path, PathBuf};

use super::Mode;
use super::diagnostic::{Fault, Report, nearest};
use super::environment::{self, Environment, Reference};
use super::plan::{Plan, RoutePlan};
use super::schema::ROOT;
use super::secret::{Secret, without_line_end};
use super::tree::{Node, Position, redact};
use super::view::{Spot, View};

/// Everything a block's lowering needs besides the block.
pub(super) struct Context<'a> {
    pub(super) env: &'a dyn Environment,
    pub(super) mode: Mode,
    pub(super) report: &'a mut Report,
}

/// The names that routes may refer to.
pub(super) struct Names<'a> {
    what: &'static str,
    names: Vec<&'a str>,
    /// The block itself is malformed, so nothing can be said about any name.
    unknowable: bool,
}

/// Lowers a tree that [`super::walk`] has been through. The plan is worth nothing if the report has problems.
pub(super) fn lower(root: &Node, context: &mut Context<'_>) -> Plan {
    let file = View::root(root, &ROOT);
    let issuer_names = Names::of(&file, "issuers", "issuer");
    let upstream_names = Names::of(&file, "upstreams", "upstream");

    let server = process::server(&file.block("server"));
    let admin = process::admin(&file.block("admin"), context);
    let listeners = process::listeners(&file, &admin, context);
    let limits = process::limits(&file.block("limits"), context);
    let issuers = issuer::issuers(&file, context);
    let revocations = process::revocations(&file.block("revocations"));
    issuer::forgotten(&file, &issuers, &revocations, context);
    let upstreams = upstream::upstreams(&file, context);
    let mut routes = route::routes(&file, &limits, &issuer_names, &upstream_names, context);
    route::schemes(&mut routes, &issuers);
    introspection::routes(&file, &routes, &issuers, context);
    route::tunnels(&file, &routes, &upstreams, context);
    unused(&file, &routes, context);
    Plan {
        server,
        listeners,
        admin,
        limits,
        issuers,
        token_cache: process::token_cache(&file.block("token_cache")),
        revocations,
        upstreams,
        routes,
        access_log: file.block("access_log").flag("enabled"),
    }
}

fn unused(file: &View<'_>, routes: &[RoutePlan], context: &mut Context<'_>) {
    for (index, named) in file.named("upstreams").iter().enumerate() {
        let leads = |route: &RoutePlan| {
            let mut pools = route.upstream.all().iter();
            pools.any(|(id, _)| id.0 == index)
        };
        if !routes.iter().any(leads) {
            let fault =
                Fault::new("no route leads here").hint("take it out, or name it in a route");
            context.report.warning(named.at, &named.spot.path, fault);
        }
    }
}

impl<'a> Names<'a> {
    fn of(file: &View<'a>, key: &str, what: &'static str) -> Self {
        let malformed = |spot: Spot<'_>| spot.node.entries().is_none();
        Names {
            what,
            names: file
                .named(key)
                .into_iter()
                .map(|named| named.name)
                .collect(),
            unknowable: file.get(key).is_some_and(malformed),
        }
    }

    /// The index behind a name; an unknown one is reported and reads as the first.
    fn index(&self, spot: &Spot<'_>, context: &mut Context<'_>) -> usize {
        let name = spot.text();
        let found = self.names.iter().position(|known| *known == name);
        if found.is_none() && !self.unknowable && !spot.node.deferred() {
            let fault = Fault::new(format!("there is no {} {}", self.what, spot.node.shown()));
            let hint = match nearest(&name, self.names.iter().copied()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None if self.names.is_empty() => format!("define it under `{}s`", self.what),
                None => format!("defined are: {}", self.names.join(", ")),
            };
            context.problem(spot, fault.hint(hint));
        }
        found.unwrap_or(0)
    }

    fn knows(&self, spot: &Spot<'_>) -> bool {
        self.names.contains(&spot.text().as_str())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty() && !self.unknowable
    }
}

impl Context<'_> {
    pub(super) fn problem(&mut self, spot: &Spot<'_>, fault: Fault) {
        self.report.problem(spot.at(), &spot.path, fault);
    }

    pub(super) fn problem_at(&mut self, place: (Position, String), fault: Fault) {
        self.report.problem(place.0, &place.1, fault);
    }

    pub(super) fn warning(&mut self, spot: &Spot<'_>, fault: Fault) {
        self.report.warning(spot.at(), &spot.path, fault);
    }

    /// A path under a key; the file must be readable unless we are offline.
    pub(super) fn file(&mut self, view: &View<'_>, key: &str) -> Option<PathBuf> {
        let spot = view.get(key)?;
        let path = PathBuf::from(spot.text());
        if !spot.node.deferred() {
            self.readable(&spot, &path);
        }
        Some(path)
    }

    /// What is in it, unless we are offline.
    pub(super) fn readable(&mut self, spot: &Spot<'_>, path: &Path) -> Option<String> {
        if self.mode == Mode::Offline || path.as_os_str().is_empty() {
            return None;
        }
        match self.env.read(path) {
            Ok(text) => Some(text),
            Err(error) => {
                let fault = Fault::unreadable(format!(
                    "{} cannot be read: {}",
                    spot.node.shown(),
                    reason(&error)
                ));
                self.problem(
                    spot,
                    fault.hint("write a path that this user may read, or check with `--offline`"),
                );
                None
            }
        }
    }

    /// A file that we will make: its directory must be there unless we are offline.
    pub(super) fn writable(&mut self, spot: &Spot<'_>, path: &Path) {
        if self.mode == Mode::Offline {
            return;
        }
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let fault = if self.env.is_directory(path) {
            Fault::unreadable(format!("{} is a directory", spot.node.shown()))
                .hint("write the path of a file in it")
        } else if !self.env.is_directory(directory) {
            Fault::unreadable(format!(
                "{} has no directory: `{}` does not exist",
                spot.node.shown(),
                redact(&directory.to_string_lossy())
            ))
            .hint("make it, writable for this user, or check with `--offline`")
        } else {
            return;
        };
        self.problem(spot, fault);
    }

    /// A secret under a key, resolved. One that cannot be resolved is reported unless we are offline.
    pub(super) fn secret(&mut self, view: &View<'_>, key: &str) -> Option<Secret> {
        let spot = view.get(key)?;
        let reference = environment::secret(&spot.node.scalar()?).ok()?;
        match self.resolve(&reference) {
            Ok(secret) => Some(secret),
            Err(_) if self.mode == Mode::Offline => Some(Secret::from_value("")),
            Err(fault) => {
                self.problem(&spot, fault);
                None
            }
        }
    }

    fn resolve(&self, reference: &Reference) -> Result<Secret, Fault> {
        match reference {
            Reference::Variable(name) => match self.env.var(name) {
                Some(value) if value.is_empty() => Err(Fault::new(format!(
                    "the environment variable `{name}` is empty"
                ))),
                Some(value) => Ok(Secret::from_value(value)),
                None => Err(
                    Fault::new(format!("the environment variable `{name}` is not set"))
                        .hint("set it, or check with `--offline`"),
                ),
            },
            Reference::File(path) => {
                let shown = redact(&path.to_string_lossy());
                let text = self.env.read(path).map_err(|error| {
                    Fault::new(format!("`{shown}` cannot be read: {}", reason(&error)))
                        .hint("write a path that this user may read, or check with `--offline`")
                })?;
                let value = without_line_end(&text);
                if value.is_empty() {
                    return Err(Fault::new(format!("`{shown}` is empty")));
                }
                Ok(Secret::from_file(value, path.clone()))
            }
        }
    }
}

/// Words that do not depend on the platform.
pub(super) fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "it does not exist".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::IsADirectory => "it is a directory".to_owned(),
        io::ErrorKind::InvalidData => "it is not text in UTF-8".to_owned(),
        _ => error.to_string(),
    }
}
