#![allow(clippy::unwrap_used)]

mod edits;
mod identity;
mod origin;
mod strip;

use serde_json::json;

use super::*;
use crate::authorize;
use crate::config::plan::{Access, Policy};
use crate::testkit::{Somebody, plan, route, somebody, words};

const CALLER: Caller<'_> = Caller {
    address: Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7))),
    tls: false,
    trusted: &[],
};

/// One request on its way to an upstream.
struct Way {
    route: RoutePlan,
    others: Vec<RoutePlan>,
    principal: Option<Somebody>,
    raw_target: &'static str,
    path: &'static str,
    sent_as: Option<&'static str>,
    sent: Vec<(&'static str, String)>,
}

impl Way {
    fn of(route: RoutePlan) -> Self {
        Way {
            route,
            others: Vec::new(),
            principal: Some(somebody()),
            raw_target: "/accounts/1?x=1",
            path: "/accounts/1",
            sent_as: None,
            sent: vec![("Host", "api.example.com:8072".to_owned())],
        }
    }

    fn public() -> Self {
        let route = RoutePlan {
            access: Access::Public,
            ..route("/accounts")
        };
        Way {
            principal: None,
            ..Way::of(route)
        }
    }

    fn sends(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.sent.push((name, value.into()));
        self
    }

    fn targets(self, raw_target: &'static str, path: &'static str) -> Self {
        Way {
            raw_target,
            path,
            ..self
        }
    }

    fn from(self, caller: Caller<'_>) -> RequestHeader {
        let mut head = RequestHeader::build("GET", self.raw_target.as_bytes(), None).unwrap();
        for (name, value) in self.sent {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            head.append_header(name, value).unwrap();
        }
        let permit = match self.principal {
            Some(who) => authorize::check(&Policy::default(), who.principal()).unwrap(),
            None => authorize::public(&Access::Public).unwrap(),
        };
        let target = Target {
            host: "api.example.com".to_owned(),
            path: self.path.to_owned(),
            query: self
                .raw_target
                .split_once('?')
                .map(|(_, query)| query.to_owned()),
            forms: crate::config::plan::TargetForms::default(),
            sent_as: self.sent_as.map(str::to_owned),
        };
        let ids = (&RequestId::of(&head.headers), &Trace::of(&head.headers));
        let mut routes = self.others;
        routes.push(self.route);
        let plan = plan(routes);
        let route = plan.routes.last().unwrap();
        let stripper = Stripper::new(&plan);
        request(&mut head, &stripper, route, &permit, &target, caller, ids).unwrap();
        head
    }

    fn go(self) -> RequestHeader {
        self.from(CALLER)
    }
}

fn accounts() -> RoutePlan {
    route("/accounts")
}

fn all<'a>(head: &'a RequestHeader, name: &str) -> Vec<&'a str> {
    head.headers
        .get_all(name)
        .iter()
        .map(|value| value.to_str().unwrap())
        .collect()
}

fn forwarding(name: &'static str, pointer: &str) -> RoutePlan {
    RoutePlan {
        forward_headers: vec![(HeaderName::from_static(name), pointer.to_owned())],
        ..accounts()
    }
}

fn claims(claims: serde_json::Value) -> Somebody {
    Somebody {
        claims: claims.as_object().unwrap().clone(),
        ..somebody()
    }
}
